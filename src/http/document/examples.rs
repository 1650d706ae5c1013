//! Examples that are answers of a running gateway.
//!
//! `examples.json` holds, for each operation, a body that it took and a body of each status that it answered with, long
//! lists cut short. `tests/process/examples.rs` records them against the sandbox, and holds them against new answers.

use serde_json::{Map, Value};
use utoipa::Modify;
use utoipa::openapi::{Content, OpenApi as Document, RefOr};

use super::super::problem::{self, ApiError};
use super::operations;

const RECORDED: &str = include_str!("examples.json");
/// Where a recording has what was sent.
const REQUEST: &str = "request";
const PROBLEM: &str = "application/problem+json";
/// Of requests that are not recorded.
const REQUEST_ID: &str = "req_01a2103696e475a29b2ae58b7ecf9f68";

/// Gives each body of JSON an example, where its handler gives none.
pub(super) struct RealAnswers;

impl Modify for RealAnswers {
    fn modify(&self, document: &mut Document) {
        // A test says so if it cannot be read: operations have no examples then.
        let recorded: Map<String, Value> = serde_json::from_str(RECORDED).unwrap_or_default();
        for operation in operations(document) {
            let name = operation.operation_id.as_deref().unwrap_or_default();
            let own = |part: &str| recorded.get(name)?.get(part).cloned();
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                for media_type in ["application/json", "application/merge-patch+json"] {
                    show(body.content.get_mut(media_type), || own(REQUEST));
                }
            }
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else { continue };
                show(response.content.get_mut("application/json"), || own(status));
                let problem =
                    || own(status).or_else(|| of_any(&recorded, status)).or_else(|| of_kind(status));
                show(response.content.get_mut(PROBLEM), problem);
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

/// Errors are alike whatever was asked for.
fn of_any(recorded: &Map<String, Value>, status: &str) -> Option<Value> {
    recorded.values().find_map(|operation| operation.get(status)).cloned()
}

/// What cannot be had from a sandbox, such as its own faults, made as it would be.
fn of_kind(status: &str) -> Option<Value> {
    let kind = problem::ALL.iter().find(|kind| kind.status.as_str() == status)?;
    serde_json::to_value(ApiError::new(kind, kind.title).problem(REQUEST_ID)).ok()
}
