//! Presets: request bodies that follow the documented rules of CRMs, help desks and messengers.

mod amocrm;
mod answers;
mod atlassian;
mod bitrix24;
mod call_view;
mod documents;
mod hubspot;
mod messengers;
mod salesforce;
mod summary;
mod tickets;

use std::time::Duration;

use serde_json::{Map, Value};

pub use self::answers::ReceiverAnswer;
use self::answers::{AnswerVerdict, Judge};
use self::call_view::CallView;
use super::{DeliveryMethod, RenderedBody, TransformError};
use crate::domain::delivery_rate::DeliveryRate;
use crate::domain::field_problem::FieldProblem;
use crate::domain::retries::AttemptOutcome;

/// A ready-made transform for one kind of receiver.
#[derive(Debug)]
pub struct Preset {
    /// Name in the API.
    pub name: &'static str,
    /// Description of the request whose body the preset makes.
    pub description: &'static str,
    /// Example of a URL to which the request is sent.
    pub url: &'static str,
    /// The HTTP method of the request.
    pub method: DeliveryMethod,
    /// Value of the header `Content-Type`.
    pub content_type: &'static str,
    /// Values that the preset needs in addition to the result of the analysis.
    pub needs: &'static [Need],
    /// The limits of the receiver, and how the preset keeps them.
    pub limits: &'static str,
    /// Behaviour and limits of the receiver that matter to the preset, but that the receiver's documentation does not state.
    pub unverified: Option<&'static str>,
    /// Link to the documentation of the receiver.
    pub documentation: &'static str,
    /// The rate that the receiver allows; `None` if its documentation states none. A webhook can have a different rate.
    pub rate: Option<DeliveryRate>,
    judge: Judge,
    render: fn(&mut CallView<'_>) -> Rendering,
}

/// A value that a preset needs. The value comes from `values` of the transform, or else from `call.crm`, or else from `metadata`.
#[derive(Debug)]
pub struct Need {
    /// Name of the value.
    pub name: &'static str,
    /// Description of the value.
    pub description: &'static str,
    /// Whether the preset cannot render without the value.
    pub is_required: bool,
}

/// The output of a preset.
enum Rendering {
    Json(Value),
    Text(String),
}

const fn required(name: &'static str, description: &'static str) -> Need {
    Need { name, description, is_required: true }
}

const fn optional(name: &'static str, description: &'static str) -> Need {
    Need { name, description, is_required: false }
}

/// All presets, in the order of `GET /v1/renderings`.
pub static PRESETS: [&Preset; 15] = [
    &bitrix24::TRANSCRIPT,
    &bitrix24::COMMENT,
    &amocrm::NOTE,
    &amocrm::CALL,
    &tickets::ZENDESK_COMMENT,
    &atlassian::JIRA_COMMENT,
    &atlassian::JSM_COMMENT,
    &hubspot::TRANSCRIPT,
    &salesforce::TASK,
    &tickets::ZAMMAD_ARTICLE,
    &tickets::CHATWOOT_NOTE,
    &messengers::SLACK_MESSAGE,
    &messengers::TELEGRAM_MESSAGE,
    &documents::MARKDOWN,
    &documents::HTML,
];

impl Preset {
    /// Returns the preset with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.into_iter().find(|preset| preset.name == name)
    }

    /// Returns the names of all presets, for error texts.
    pub(super) fn names() -> String {
        PRESETS.map(|preset| preset.name).join(", ")
    }

    /// Checks that each value is a need of the preset, and a string or a number.
    pub(super) fn check_values(&self, values: &Map<String, Value>) -> Vec<FieldProblem> {
        let known = self.needs.iter().map(|need| need.name).collect::<Vec<_>>().join(", ");
        let rule = |(name, value): (&String, &Value)| {
            let detail = if !self.needs.iter().any(|need| need.name == name) {
                format!("is not needed by {}, which needs: {known}", self.name)
            } else if !(value.is_string() || value.is_number()) {
                "must be a string or a number".to_owned()
            } else {
                return None;
            };
            let pointer = format!("/values/{}", name.replace('~', "~0").replace('/', "~1"));
            Some(FieldProblem { pointer, detail })
        };
        values.iter().filter_map(rule).collect()
    }

    /// Judges an answer. `by_status` is the outcome according to the status alone. Returns `None` if the preset judges by the
    /// body, but the body is incomplete.
    pub fn judge(&self, answer: ReceiverAnswer<'_>, by_status: AttemptOutcome) -> Option<AttemptOutcome> {
        let status = answer.status;
        Some(match ((self.judge)(&answer), by_status) {
            // A receiver that is gone wants no request at all.
            (_, AttemptOutcome::Gone) => AttemptOutcome::Gone,
            (AnswerVerdict::Incomplete, _) => return None,
            (AnswerVerdict::OfStatus, by_status) => by_status,
            (AnswerVerdict::Never { reason }, _) => AttemptOutcome::Rejected { status, reason },
            (AnswerVerdict::Later { reason, after }, by_status) => {
                // The `Retry-After` of the answer is also a floor.
                let floor = match by_status {
                    AttemptOutcome::Refused { retry_after, .. } => retry_after.unwrap_or_default(),
                    _ => Duration::ZERO,
                };
                AttemptOutcome::Declined { status, reason, retry_after: after.max(floor) }
            }
        })
    }

    /// Renders an event with the values of the transform.
    pub(super) fn render(
        &self,
        event: &Value,
        values: &Map<String, Value>,
        link: &str,
    ) -> Result<RenderedBody, TransformError> {
        let mut view = CallView::new(&event["data"], values, link);
        for need in self.needs.iter().filter(|need| need.is_required) {
            view.require(need);
        }
        let rendering = (self.render)(&mut view);
        let problems = view.into_problems();
        if !problems.is_empty() {
            return Err(TransformError(problems));
        }
        let body = match rendering {
            Rendering::Json(value) => value.to_string(),
            Rendering::Text(text) => text,
        };
        Ok(RenderedBody { body: body.into(), content_type: self.content_type.to_owned() })
    }
}
