//! MiniJinja templates, bounded in size, time and recursion.

use minijinja::value::{Serde, Value as TemplateValue};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, context};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{BodyType, RenderedBody, TransformError};
use crate::domain::renderings::clock;

/// Maximum size of a template in bytes.
const MAX_SOURCE: usize = 16 << 10;
/// Maximum work of a rendering: about one unit for each instruction and for each 64 bytes. The transcript of a long call
/// needs less than a tenth of it.
const FUEL: u64 = 4_000_000;
/// Maximum depth of recursion.
const RECURSION: usize = 32;

/// A compiled template.
pub(super) struct Template<'a> {
    environment: Environment<'a>,
    source: &'a str,
    body_type: BodyType,
}

impl<'a> Template<'a> {
    /// Compiles a template.
    ///
    /// # Errors
    /// The rule that the template breaks, with the line.
    pub(super) fn compile(source: &'a str, body_type: BodyType) -> Result<Self, String> {
        if source.trim().is_empty() || source.len() > MAX_SOURCE {
            return Err(format!("must have 1 to {MAX_SOURCE} bytes"));
        }
        let escape = match (body_type.is_json(), body_type.is_markup()) {
            (true, _) => AutoEscape::Json,
            (_, true) => AutoEscape::Html,
            _ => AutoEscape::None,
        };
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(move |_| escape.clone());
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        environment.add_filter("clock", clock);
        environment.template_from_str(source).map_err(|error| described(&error))?;
        Ok(Self { environment, source, body_type })
    }

    /// Renders an event.
    pub(super) fn render(&self, event: Value, link: &str) -> Result<RenderedBody, TransformError> {
        let failed = |error: &Error| TransformError(vec![described(error)]);
        let template = self.environment.template_from_str(self.source).map_err(|error| failed(&error))?;
        let event = TemplateValue::from(Serde(event));
        let context = context! { link => link, ..event };
        let text = template.render(context).map_err(|error| failed(&error))?;
        let body = if self.body_type.is_json() {
            // The check reads the whole text without changing a digit.
            let json: Result<&RawValue, _> = serde_json::from_str(text.trim());
            json.map_err(|error| {
                let (line, column) = (error.line(), error.column());
                TransformError(vec![format!(
                    "the output of the template is not JSON (line {line}, column {column})"
                )])
            })?;
            text.trim().to_owned()
        } else {
            text
        };
        Ok(RenderedBody { body: body.into(), content_type: self.body_type.header() })
    }
}

/// Describes an error of a template without content of the call.
fn described(error: &Error) -> String {
    let detail = match error.kind() {
        ErrorKind::OutOfFuel => "the template does more work than allowed".to_owned(),
        kind => error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}")),
    };
    match error.line() {
        Some(line) => format!("{detail} (line {line})"),
        None => detail,
    }
}
