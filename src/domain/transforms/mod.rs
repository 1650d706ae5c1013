//! Transforms make the body of a delivery from an event, for receivers that expect a format other than the event itself.
//!
//! A **preset** is code that follows the documented rules of one CRM. A **template** is a MiniJinja template that the caller
//! writes. A transform determines the body and its content type, never the URL.

mod content_type;
mod language;
mod method;
pub mod presets;
mod template;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub use self::content_type::BodyType;
pub use self::method::DeliveryMethod;
use self::presets::Preset;
use self::template::Template;
use super::delivery_rate::{ChosenRate, DeliveryRate};
use super::field_problem::FieldProblem;

/// Maximum size of a rendered body in bytes.
pub const MAX_BODY_BYTES: usize = 8 << 20;

/// How the body of a delivery is made from an event: with a `preset`, or with a `template`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"preset": "bitrix24.transcript"}))]
pub struct Transform {
    /// The name of a preset. A preset makes the request body that a CRM expects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64, pattern = "^[a-z0-9_.]+$", example = "bitrix24.transcript")]
    pub preset: Option<String>,
    /// Values that the preset needs and that are the same for every event: strings and numbers, up to 2 KiB.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object, additional_properties = true, example = json!({}))]
    pub values: Map<String, Value>,
    /// The source of a MiniJinja template of up to 16 KiB. The template gets `type`, `timestamp`, `data` and `link`. In JSON,
    /// HTML and XML, the gateway escapes values. In JSON, the gateway also adds the quotes, so write `{"text": {{ data.call_id
    /// }}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 16384,
        pattern = r"^[\s\S]+$",
        example = "{\"text\": {{ data.call_id }}}"
    )]
    pub template: Option<String>,
    /// The next step after an attempt of unknown outcome: the request was sent, but the gateway got no answer, or crashed before
    /// it stored the answer. `retry`, the default, loses nothing, but a receiver that adds an entry for each request may then
    /// have two entries. `give_up` ends the delivery as failed: the receiver never has two entries, but an entry may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_unknown: Option<OnUnknown>,
    /// The content type of the template's output: `application/json` (the default; the output must be JSON), `application/…+json`,
    /// `application/xml`, `application/x-www-form-urlencoded` or `text/…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64, pattern = "^[ -~]+$", example = "application/json")]
    pub content_type: Option<String>,
}

/// The next step after an attempt of unknown outcome: `retry` or `give_up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// The delivery is retried.
    Retry,
    /// The delivery fails.
    GiveUp,
}

impl<'de> Deserialize<'de> for OnUnknown {
    /// Reads a string first. Derived code would report a value of another type as malformed JSON.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "retry" => Ok(Self::Retry),
            "give_up" => Ok(Self::GiveUp),
            other => Err(D::Error::unknown_variant(other, &["retry", "give_up"])),
        }
    }
}

/// The input of a transform.
#[derive(Debug, Clone)]
pub struct TransformInput<'a> {
    /// The event: `type`, `timestamp` and `data`.
    pub event: Value,
    /// Link to the analysis.
    pub link: &'a str,
}

/// A rendered body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedBody {
    /// Body of the request, at most 8 MiB.
    pub body: Bytes,
    /// Value of the header `Content-Type`.
    pub content_type: String,
}

/// The reasons why an event cannot be rendered. They contain no content of the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the transform failed: {}", .0.join("; "))]
pub struct TransformError(pub Vec<String>);

/// A transform that is ready to render.
enum Renderer<'a> {
    Preset(&'static Preset, &'a Map<String, Value>),
    Template(Template<'a>),
}

impl Transform {
    /// Maximum size of `values` in bytes as compact JSON.
    const MAX_VALUES_BYTES: usize = 2048;

    /// Returns the transform as JSON for the store.
    pub fn to_json(&self) -> String {
        // A structure with string keys always serializes.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Parses the output of [`Transform::to_json`]. Returns `None` if this version cannot read it. The template is not compiled.
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// Checks the transform. Does not compile its template.
    ///
    /// # Errors
    /// All problems, each with the JSON Pointer of its field.
    pub fn check(&self) -> Result<(), Vec<FieldProblem>> {
        self.renderer().map(drop)
    }

    /// Compiles the template of a checked transform, if it has one.
    ///
    /// # Errors
    /// [`FieldProblem`] if the template does not compile.
    pub fn compile(&self) -> Result<(), FieldProblem> {
        match self.renderer() {
            Ok(Renderer::Template(template)) => template.check().map_err(FieldProblem::of_template),
            Ok(Renderer::Preset(..)) | Err(_) => Ok(()),
        }
    }

    /// Returns the preset of the transform; `None` if it has no preset, or a preset that this version does not know.
    pub fn preset(&self) -> Option<&'static Preset> {
        Preset::named(self.preset.as_deref()?)
    }

    /// Returns the method of a request: the given method, or else the method of the preset, or else `POST`.
    pub fn method(given: Option<DeliveryMethod>, transform: Option<&Self>) -> DeliveryMethod {
        let of_preset = || transform.and_then(Self::preset).map(|preset| preset.method);
        given.or_else(of_preset).unwrap_or_default()
    }

    /// Returns the rate of deliveries: the chosen rate, or else the rate of the preset. `None` means that there is no limit.
    pub fn rate(chosen: ChosenRate, transform: Option<&Self>) -> Option<DeliveryRate> {
        chosen.or(transform.and_then(Self::preset).and_then(|preset| preset.rate))
    }

    /// Whether a delivery fails, instead of being retried, after an attempt of unknown outcome.
    pub fn gives_up_on_unknown(&self) -> bool {
        self.on_unknown == Some(OnUnknown::GiveUp)
    }

    /// Renders the body of a delivery.
    ///
    /// # Errors
    /// [`TransformError`] has all reasons why the event cannot be rendered. The function never returns a partial body.
    pub fn render(&self, input: TransformInput<'_>) -> Result<RenderedBody, TransformError> {
        let renderer = self.renderer().map_err(|problems| {
            TransformError(problems.into_iter().map(|problem| problem.detail).collect())
        })?;
        if !input.event.is_object() {
            return Err(TransformError(vec!["the event is not a JSON object".to_owned()]));
        }
        let rendered = match renderer {
            Renderer::Preset(preset, values) => preset.render(&input.event, values, input.link)?,
            Renderer::Template(template) => template.render(input.event, input.link)?,
        };
        if rendered.body.len() > MAX_BODY_BYTES {
            return Err(TransformError(vec![format!("the body has more than {MAX_BODY_BYTES} bytes")]));
        }
        Ok(rendered)
    }

    fn renderer(&self) -> Result<Renderer<'_>, Vec<FieldProblem>> {
        let problem = |pointer: &str, detail: String| FieldProblem { pointer: pointer.to_owned(), detail };
        match (&self.preset, &self.template) {
            (Some(name), None) => {
                let mut problems = Vec::new();
                if self.content_type.is_some() {
                    problems.push(problem("/content_type", "is chosen by the preset".to_owned()));
                }
                let Some(preset) = Preset::named(name) else {
                    problems.push(problem("/preset", format!("must be one of {}", Preset::names())));
                    return Err(problems);
                };
                problems.extend(preset.check_values(&self.values));
                let size = serde_json::to_string(&self.values).map_or(usize::MAX, |json| json.len());
                if size > Self::MAX_VALUES_BYTES {
                    let most = Self::MAX_VALUES_BYTES;
                    problems.push(problem("/values", format!("must have at most {most} bytes, has {size}")));
                }
                if problems.is_empty() { Ok(Renderer::Preset(preset, &self.values)) } else { Err(problems) }
            }
            (None, Some(source)) => {
                if !self.values.is_empty() {
                    let rule = "are for presets; write them into the template".to_owned();
                    return Err(vec![problem("/values", rule)]);
                }
                let content_type = BodyType::parse(self.content_type.as_deref())
                    .map_err(|rule| vec![problem("/content_type", rule)])?;
                let template = Template::new(source, content_type);
                template.map(Renderer::Template).map_err(|rule| vec![problem("/template", rule)])
            }
            _ => Err(vec![problem("", "must have either a preset or a template".to_owned())]),
        }
    }
}
