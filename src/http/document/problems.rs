//! Definitions of the shared problem responses under `components/responses`, and the references to them.

use actix_web::http::Method;
use utoipa::openapi::path::Operation as Documented;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

use super::examples;
use super::headers::{add, add_common};
use crate::http::operations::{Access, ApiOperation};
use crate::http::shared_problems::{PROBLEMS, references};

/// The media type of problems.
const PROBLEM: &str = "application/problem+json";

/// Returns the response definitions that operations refer to.
pub(super) fn shared() -> impl Iterator<Item = (String, RefOr<Response>)> {
    PROBLEMS.iter().map(|problem| {
        let schema = Ref::from_schema_name("Problem");
        let mut content = Content::new(Some(schema));
        content.example = examples::problem(problem.kind);
        let mut response =
            ResponseBuilder::new().description(problem.description).content(PROBLEM, content).build();
        add_common(&mut response);
        problem.header.into_iter().for_each(|name| add(&mut response, name));
        (problem.name.to_owned(), RefOr::T(response))
    })
}

/// Adds the problems that follow from the row of an operation.
pub(super) fn complete(documented: &mut Documented, operation: &ApiOperation) {
    let mut names = vec!["InvalidRequest", "RateLimited", "InternalError", "Unavailable"];
    if let Access::Token(_) = operation.access {
        names.extend(["Unauthorized", "Forbidden"]);
    }
    if [Method::POST, Method::PATCH].contains(&operation.method) {
        names.extend(["MalformedBody", "BodyTimeout", "BodyTooLarge", "UnsupportedMediaType"]);
    }
    if operation.path.contains("{call_id}") {
        names.push("CallNotFound");
    } else if operation.path.contains("_id}") {
        names.push("ResourceNotFound");
    }
    let responses = &mut documented.responses.responses;
    if operation.keyed_answer.is_some() {
        let conflict = match responses.get("409") {
            Some(RefOr::Ref(reference)) if reference.ref_location.ends_with("/NoResult") => {
                "NoResultOrKeyConflict"
            }
            Some(_) => "WebhookOrKeyConflict",
            None => "KeyConflict",
        };
        names.push(conflict);
    }
    responses.extend(references(&names));
}
