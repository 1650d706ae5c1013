//! The OpenAPI document. It consists of the rows of the route table and the parts that all operations share:
//! security, path parameters, headers and problems. Each shared part is defined once under `components`.

mod bounds;
mod event_requests;
mod examples;
mod headers;
mod parameters;
mod problems;

use bytes::Bytes;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{Operation as Documented, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::server::ServerBuilder;
use utoipa::openapi::{OpenApi as Document, RefOr, Server};
use utoipa::{OpenApi, openapi};

use super::event_bodies::{
    AnalysisEventBody, TestEventBody, ThinEventBody, ThinTestEventBody, WebhookDisabledBody,
};
use super::operations::{Access, ApiOperation};
use super::problem::{FieldError, Problem};
use super::routes;
use crate::domain::public_url::PublicUrl;

/// The path of the OpenAPI document.
pub const DOCUMENT_PATH: &str = "/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "AloVoice gateway",
        description = "Speech analytics of recorded AloVoice calls: submit a call once and get its transcript, tags and talk \
            metrics as soon as they are ready.\n\nEach operation except `get_linked_audio` needs `Authorization: Bearer <JWT>`. \
            The token names the tenant, and you see only the calls of this tenant. Times are RFC 3339 in UTC; offsets are in \
            milliseconds from the start of the call. Errors are RFC 9457 `application/problem+json`. Unknown fields and query \
            parameters are errors.",
        contact(name = "The operator of this gateway"),
        license(name = "Apache-2.0", url = "https://www.apache.org/licenses/LICENSE-2.0"),
    ),
    components(schemas(
        Problem,
        FieldError,
        AnalysisEventBody,
        ThinEventBody,
        WebhookDisabledBody,
        TestEventBody,
        ThinTestEventBody
    )),
    tags(
        (name = "analyses", description = "Submit calls and get their analyses, transcripts and recordings."),
        (name = "events", description = "Read all changes of analyses in order."),
        (name = "usage", description = "Read the usage of each day."),
        (name = "webhooks", description = "Register receivers of events and inspect their deliveries."),
    )
)]
struct Frame;

/// Returns the OpenAPI document. Its server is the public URL, or `/` if there is none.
pub fn document(public_url: &PublicUrl) -> Document {
    let mut document = Frame::openapi().merge_from(routes::documentation());
    let server = if public_url.as_str().is_empty() { "/" } else { public_url.as_str() };
    document.servers = Some(vec![public_server(server)]);
    for operation in routes::operations() {
        if let Some(documented) = find(&mut document, operation) {
            complete(documented, operation);
        }
    }
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer()));
    components.headers.extend(headers::shared());
    components.parameters.extend(parameters::shared());
    components.responses.extend(problems::shared());
    event_requests::complete(&mut document);
    bounds::complete(&mut document);
    examples::complete(&mut document);
    document
}

/// Returns the OpenAPI document as JSON.
pub fn document_body(public_url: &PublicUrl) -> Bytes {
    // A document that the macros generate can always be serialized.
    Bytes::from(document(public_url).to_json().unwrap_or_default())
}

/// Adds to an operation the parts that follow from its row in the route table.
fn complete(documented: &mut Documented, operation: &ApiOperation) {
    let requirement = match operation.access {
        Access::Token(scope) => SecurityRequirement::new("bearer", [scope.as_str()]),
        Access::Link => SecurityRequirement::default(),
    };
    documented.security = Some(vec![requirement]);
    parameters::complete(documented, operation);
    problems::complete(documented, operation);
    for (status, response) in &mut documented.responses.responses {
        if let RefOr::T(response) = response {
            headers::complete(response, status, operation);
        }
    }
}

fn find<'a>(document: &'a mut Document, operation: &ApiOperation) -> Option<&'a mut Documented> {
    let item = document.paths.paths.get_mut(operation.path)?;
    operations_of(item).find(|documented| documented.operation_id.as_deref() == Some(operation.id))
}

/// Returns all operations of an OpenAPI document.
fn operations(document: &mut Document) -> impl Iterator<Item = &mut Documented> {
    document.paths.paths.values_mut().flat_map(operations_of)
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = &mut Documented> {
    let PathItem { get, post, patch, delete, .. } = item;
    [get, post, patch, delete].into_iter().filter_map(Option::as_mut)
}

fn bearer() -> openapi::security::Http {
    HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        // The OWASP rule of Spectral expects the spelling `RFC8725`, without a space.
        .description(Some(
            "A JWT of a configured issuer with the claims `iss`, `aud`, `exp` and the tenant. It is verified as RFC8725 \
             recommends: the key determines the algorithm.",
        ))
        .build()
}

/// Returns the server of the API. The admin port is not part of the document.
fn public_server(url: &str) -> Server {
    let audience = ExtensionsBuilder::new().add("x-internal", false).build();
    ServerBuilder::new().url(url).extensions(Some(audience)).build()
}
