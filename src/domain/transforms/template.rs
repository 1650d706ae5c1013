//! MiniJinja templates, bounded in size, time and recursion.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::Arc;
use std::thread;

use minijinja::value::{Kwargs, Serde, Value as TemplateValue};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, context, escape_formatter,
    filters,
};
use serde_json::Value;
use serde_json::value::RawValue;
use url::form_urlencoded::byte_serialize;

use super::{BodyType, MAX_BODY_BYTES, RenderedBody, TransformError, language};
use crate::domain::renderings::clock;

/// Maximum size of a template in bytes.
const MAX_SOURCE: usize = 16 << 10;
/// Maximum work of a rendering: about one unit for each instruction and for each 64 bytes of a string. The transcript of a
/// call with 20,000 turns needs less than this.
const FUEL: u64 = 1_000_000;
/// Maximum depth of recursion.
const RECURSION: usize = 32;
/// Size of the stack of a thread that handles a template, in bytes. MiniJinja recurses once for each unary operator and for each
/// operator of a chain. In a debug build, a template of 16 KiB needs up to 8 MiB of stack if it repeats `-`, up to 4 MiB if it
/// repeats `~a`, `+a` or `()`, and up to 2 MiB if it repeats `.a`, `|e` or `not `. MiniJinja limits the nesting of brackets and
/// blocks itself.
const STACK_BYTES: usize = 64 << 20;
/// Name under which MiniJinja knows the escaping for `application/x-www-form-urlencoded`.
const FORM_ESCAPE: &str = "form";

/// A template whose size is within the limit.
pub(super) struct Template<'a> {
    source: &'a str,
    body_type: BodyType,
}

impl<'a> Template<'a> {
    /// Creates a template from its source, without compiling it.
    ///
    /// # Errors
    /// The error is a text that names the limit on the size of a template.
    pub(super) fn new(source: &'a str, body_type: BodyType) -> Result<Self, String> {
        if source.trim().is_empty() || source.len() > MAX_SOURCE {
            return Err(format!("must have 1 to {MAX_SOURCE} bytes"));
        }
        Ok(Self { source, body_type })
    }

    /// Compiles the template.
    ///
    /// # Errors
    /// The error is a text that names the broken rule and the line.
    pub(super) fn check(&self) -> Result<(), String> {
        on_large_stack(|| {
            language::check(self.source)?;
            let environment = self.environment();
            environment.template_from_str(self.source).map(drop).map_err(|error| described(&error))
        })
    }

    /// Renders an event.
    ///
    /// # Errors
    /// The reason why the event cannot be rendered.
    pub(super) fn render(&self, event: Value, link: &str) -> Result<RenderedBody, TransformError> {
        let text =
            on_large_stack(|| self.text(event, link)).map_err(|reason| TransformError(vec![reason]))?;
        let body = if self.body_type.is_json() {
            let text = text.trim_ascii();
            // The check reads the whole text without changing a digit.
            let json: Result<&RawValue, _> = serde_json::from_slice(text);
            json.map_err(|error| {
                let (line, column) = (error.line(), error.column());
                TransformError(vec![format!(
                    "the output of the template is not JSON (line {line}, column {column})"
                )])
            })?;
            text.to_owned()
        } else {
            text
        };
        Ok(RenderedBody { body: body.into(), content_type: self.body_type.header() })
    }

    fn text(&self, event: Value, link: &str) -> Result<Vec<u8>, String> {
        // The template may be older than the rules.
        language::check(self.source)?;
        let environment = self.environment();
        let template = environment.template_from_str(self.source).map_err(|error| described(&error))?;
        let event = TemplateValue::from(Serde(event));
        let mut text = BoundedText(Vec::new());
        let rendered = template.render_captured_to(context! { link => link, ..event }, &mut text).map(drop);
        rendered.map_err(|error| described(&error))?;
        Ok(text.0)
    }

    fn environment(&self) -> Environment<'a> {
        let escape = match &self.body_type {
            json if json.is_json() => AutoEscape::Json,
            markup if markup.is_markup() => AutoEscape::Html,
            form if form.is_form() => AutoEscape::Custom(FORM_ESCAPE.into()),
            _ => AutoEscape::None,
        };
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(move |_| escape.clone());
        environment.set_formatter(write_value);
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        // The built-in filter has a parameter `indent`, which allocates up to 1 GB before its work is counted.
        let to_json = |value: &TemplateValue| {
            check_size(value)?;
            filters::tojson(value, None, Kwargs::from_iter(None::<(&str, TemplateValue)>))
        };
        environment.add_filter("tojson", to_json);
        // The built-in filters make a list, whose items are up to 40 times as large as their texts, before its work is counted.
        let split = |state: &State, value: &TemplateValue, separator: Option<Arc<str>>, most: Option<i64>| {
            charge_items(state, value)?;
            filters::split(value, separator, most)
        };
        environment.add_filter("split", split);
        let lines = |state: &State, value: &TemplateValue| {
            charge_items(state, value)?;
            filters::lines(value)
        };
        environment.add_filter("lines", lines);
        environment.add_filter("clock", clock);
        environment
    }
}

/// Runs work on a thread with a large stack.
///
/// # Errors
/// The error of the work, or an error text if the thread does not start or panics.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("template".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, work);
        let thread = thread.map_err(|error| format!("the gateway cannot process templates now: {error}"))?;
        thread.join().unwrap_or_else(|_| Err("the gateway failed to process the template".to_owned()))
    })
}

/// Writes the value of an expression, escaped for the type of the body.
fn write_value(output: &mut Output, state: &mut State, value: &TemplateValue) -> Result<(), Error> {
    check_size(value)?;
    let is_form = matches!(state.auto_escape(), AutoEscape::Custom(_));
    // MiniJinja marks output that is escaped already as safe.
    if !is_form || value.is_safe() {
        return escape_formatter(output, state, value);
    }
    write!(FormEncoded(output), "{value}").map_err(Error::from)
}

/// Counts the work for a list that may have an item for each byte of a text.
fn charge_items(state: &State, text: &TemplateValue) -> Result<(), Error> {
    let bytes = text.as_str().map_or(0, str::len);
    state.consume_fuel(u64::try_from(bytes).unwrap_or(u64::MAX) / 2)
}

/// Checks that the text of a value has at most [`MAX_BODY_BYTES`]. MiniJinja counts the text of a list or map only after writing
/// it. A list that repeatedly contains another list is much larger as text than in memory.
fn check_size(value: &TemplateValue) -> Result<(), Error> {
    let mut size = TextSize(0);
    write!(size, "{value}").map_err(|_| ErrorKind::WriteFailure.into())
}

/// A writer that counts bytes, and fails beyond [`MAX_BODY_BYTES`].
struct TextSize(usize);

impl fmt::Write for TextSize {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        if self.0 > MAX_BODY_BYTES { Err(fmt::Error) } else { Ok(()) }
    }
}

/// A writer that percent-encodes text for `application/x-www-form-urlencoded`.
struct FormEncoded<'a, 'b>(&'a mut Output<'b>);

impl fmt::Write for FormEncoded<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        byte_serialize(text.as_bytes()).try_for_each(|part| self.0.write_str(part))
    }
}

/// The output of a template. The output refuses text beyond the maximum size of a body.
struct BoundedText(Vec<u8>);

impl io::Write for BoundedText {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.0.len() + part.len() > MAX_BODY_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Describes an error of a template: its kind and its line, but no content of the call.
fn described(error: &Error) -> String {
    let detail = match error.kind() {
        ErrorKind::OutOfFuel => "the template does more work than allowed".to_owned(),
        ErrorKind::WriteFailure => format!("the body has more than {MAX_BODY_BYTES} bytes"),
        // The detail can contain the operands.
        kind @ ErrorKind::InvalidOperation => kind.to_string(),
        kind => error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}")),
    };
    match error.line() {
        Some(line) => format!("{detail} (line {line})"),
        None => detail,
    }
}
