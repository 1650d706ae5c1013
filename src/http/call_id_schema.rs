//! Schemas of call ids in the OpenAPI document.

use serde_json::json;
use utoipa::openapi::schema::{ObjectBuilder, Type};

use crate::domain::ids::CallId;

/// Returns the schema of a CALL_ID.
pub(super) fn call_id_schema() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(CallId::MAX_LEN))
        .pattern(Some(CallId::PATTERN))
}

/// Returns the schema of the id of a call to analyze.
pub(super) fn new_call_id_schema() -> ObjectBuilder {
    with_description(
        "The CALL_ID of AloVoice: 1 to 128 characters of ``A-Z a-z 0-9 . _ ~ : @ + = - ! \" # % ' ( ) * < > ? [ \\ ] ` { }``, but not\n\
         `.` or `..`. Percent-encode it in the path of a URL.",
    )
}

/// Returns the schema of the id of a call that was submitted before.
pub(super) fn known_call_id_schema() -> ObjectBuilder {
    with_description("The CALL_ID of a call that was submitted before.")
}

#[expect(deprecated, reason = "the derived schemas of the document have `example`, too")]
fn with_description(description: &str) -> ObjectBuilder {
    call_id_schema().description(Some(description)).example(Some(json!("1716207617.42")))
}
