//! What many answers have in common.

use utoipa::Modify;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Header, OpenApi as Document, RefOr};

use super::operations;

/// Tells of the request's id on every answer, of the tenant's rate on those that count, and of the challenge on refusals.
pub(super) struct SharedHeaders;

impl Modify for SharedHeaders {
    fn modify(&self, document: &mut Document) {
        for operation in operations(document) {
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else { continue };
                let fields = FIELDS.iter().filter(|field| (field.is_on)(status));
                for Field { name, description, example, .. } in fields {
                    // A handler that says more about it has the word.
                    let known = response.headers.keys().any(|known| known.eq_ignore_ascii_case(name));
                    if !known {
                        response.headers.insert((*name).to_owned(), RefOr::T(text(description, example)));
                    }
                }
            }
        }
    }
}

/// Says on every 409 of an operation that takes an `Idempotency-Key` what the key can have to do with it.
pub(super) struct KeyedConflicts;

const OF_THE_KEY: &str = "The same request is under way (`idempotency_key_in_use`, with `Retry-After`), or was done and its \
    answer is not kept (`idempotent_answer_not_kept`).";

impl Modify for KeyedConflicts {
    fn modify(&self, document: &mut Document) {
        for operation in operations(document) {
            let mut parameters = operation.parameters.iter().flatten();
            if !parameters.any(
                |parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == IDEMPOTENCY_KEY),
            ) {
                continue;
            }
            if let Some(RefOr::T(conflict)) = operation.responses.responses.get_mut("409") {
                let told = conflict.description.trim_end();
                let end = if told.ends_with('.') { " " } else { ". " };
                conflict.description = format!("{told}{end}{OF_THE_KEY}");
            }
        }
    }
}

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

struct Field {
    name: &'static str,
    description: &'static str,
    example: &'static str,
    is_on: fn(&str) -> bool,
}

const FIELDS: [Field; 4] = [
    Field {
        name: "X-Request-Id",
        description: "The request, as it is named in the logs: the caller's own `X-Request-Id` if it was fit for that",
        example: "req_01a2103696e475a29b2ae58b7ecf9f68",
        is_on: |_| true,
    },
    Field {
        name: "RateLimit-Policy",
        description: "On answers to those who were let in, the tenant's limit \
            (draft-ietf-httpapi-ratelimit-headers-10): `q` requests at once, all of which may be made again after `w` seconds",
        example: "\"default\";q=200;w=2",
        is_on: |_| true,
    },
    Field {
        name: "RateLimit",
        description: "On answers to those who were let in, what is left of the limit: `r` requests may be made now, and \
            there is one more after `t` seconds at most",
        example: "\"default\";r=199;t=1",
        is_on: |_| true,
    },
    Field {
        name: "WWW-Authenticate",
        description: "What was wrong with the token, or which scope it lacks (RFC 6750)",
        example: "Bearer error=\"invalid_token\", error_description=\"the token has expired\"",
        is_on: |status| matches!(status, "401" | "403"),
    },
];

fn text(description: &str, example: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
        .description(Some(description))
        .example(Some(example.into()))
        .build()
}
