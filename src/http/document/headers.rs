//! Response headers that operations share, defined under `components/headers`.

use serde_json::{Value, json};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Header, Ref, RefOr, Response};

use crate::http::operations::ApiOperation;

struct SharedHeader {
    name: &'static str,
    schema_type: Type,
    description: &'static str,
    example: fn() -> Value,
}

/// Headers of every response.
const ALWAYS: [&str; 3] = ["X-Request-Id", "RateLimit-Policy", "RateLimit"];
const REPLAYED: &str = "Idempotency-Replayed";

const HEADERS: [SharedHeader; 6] = [
    SharedHeader {
        name: "X-Request-Id",
        schema_type: Type::String,
        description: "The id of the request, as in the logs. It is your own `X-Request-Id` if you sent a valid one.",
        example: || json!("req_01a2103696e475a29b2ae58b7ecf9f68"),
    },
    SharedHeader {
        name: "RateLimit-Policy",
        schema_type: Type::String,
        description: "Rate limit of the tenant: a burst of up to `q` requests, which is fully available again after `w` seconds.",
        example: || json!("\"default\";q=200;w=2"),
    },
    SharedHeader {
        name: "RateLimit",
        schema_type: Type::String,
        description: "The remaining requests: `r` are possible now, and one more is possible within `t` seconds.",
        example: || json!("\"default\";r=199;t=1"),
    },
    SharedHeader {
        name: "WWW-Authenticate",
        schema_type: Type::String,
        description: "The reason why the token was refused, or the missing scope (RFC 6750).",
        example: || json!("Bearer error=\"invalid_token\", error_description=\"the token has expired\""),
    },
    SharedHeader {
        name: "Retry-After",
        schema_type: Type::Integer,
        description: "Seconds until you can try again.",
        example: || json!(1),
    },
    SharedHeader {
        name: REPLAYED,
        schema_type: Type::Boolean,
        description: "`true` if this is the stored answer to an earlier request with the same `Idempotency-Key`.",
        example: || json!(true),
    },
];

/// Returns the header definitions that operations refer to.
pub(super) fn shared() -> impl Iterator<Item = (String, RefOr<Header>)> {
    HEADERS.into_iter().map(|header| {
        let definition = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(header.schema_type).build()))
            .description(Some(header.description))
            .example(Some((header.example)()))
            .build();
        (header.name.to_owned(), RefOr::T(definition))
    })
}

/// Adds a shared header to a response.
pub(super) fn add(response: &mut Response, name: &str) {
    let reference = Ref::new(format!("#/components/headers/{name}"));
    response.headers.insert(name.to_owned(), RefOr::Ref(reference));
}

/// Adds the headers of every response.
pub(super) fn add_common(response: &mut Response) {
    ALWAYS.iter().for_each(|name| add(response, name));
}

/// Adds the shared headers to a response that is specific to an operation.
pub(super) fn complete(response: &mut Response, status: &str, operation: &ApiOperation) {
    add_common(response);
    if operation.keyed_answer.is_some() && status.starts_with('2') {
        add(response, REPLAYED);
    }
}
