//! Examples in the document: recorded answers of a running gateway.
//!
//! `examples.json` has, for each operation, a request body and the response body of each status, with long lists cut
//! short. `tests/process/examples.rs` records them with the sandbox and compares them with new answers.

use serde_json::{Map, Value};
use utoipa::openapi::{Content, OpenApi as Document, RefOr};

use super::operations;
use crate::domain::public_url::PublicUrl;
use crate::http::problem::{ApiError, ProblemKind};

const RECORDED: &str = include_str!("examples.json");
/// The name of a recorded request body.
const REQUEST: &str = "request";
/// The request id of examples that are not recorded.
const REQUEST_ID: &str = "req_01a2103696e475a29b2ae58b7ecf9f68";

/// Returns the recorded examples. If the file is invalid, there are no examples, and a test fails.
fn recorded() -> Map<String, Value> {
    serde_json::from_str(RECORDED).unwrap_or_default()
}

/// Adds an example to each JSON body without an example.
pub(super) fn complete(document: &mut Document) {
    let recorded = recorded();
    for operation in operations(document) {
        let name = operation.operation_id.as_deref().unwrap_or_default();
        let own = |part: &str| recorded.get(name)?.get(part).cloned();
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            for media_type in ["application/json", "application/merge-patch+json"] {
                show(body.content.get_mut(media_type), || own(REQUEST));
            }
        }
        for (status, response) in &mut operation.responses.responses {
            if let RefOr::T(response) = response {
                show(response.content.get_mut("application/json"), || own(status));
            }
        }
    }
}

fn show<'a>(contents: impl IntoIterator<Item = &'a mut RefOr<Content>>, example: impl Fn() -> Option<Value>) {
    for content in contents {
        if let RefOr::T(content) = content
            && content.example.is_none()
            && content.examples.is_empty()
        {
            content.example = example();
        }
    }
}

/// Returns the example of a problem of this kind: a recorded example, or a generated one if the sandbox cannot produce the
/// problem.
pub(super) fn problem(kind: &'static ProblemKind) -> Option<Value> {
    let is_of_kind = |body: &&Value| body["code"] == kind.code && body["status"] == kind.status.as_u16();
    let recorded = recorded();
    let answers = recorded.values().filter_map(Value::as_object).flat_map(|answers| answers.values());
    let found = answers.filter(|body| body.is_object()).find(is_of_kind).cloned();
    found.or_else(|| {
        serde_json::to_value(ApiError::new(kind, kind.title).problem(REQUEST_ID, &PublicUrl::default())).ok()
    })
}
