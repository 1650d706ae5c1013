//! The OpenAPI document, generated from the handlers, and the pages for people.
//!
//! What all operations have in common is put in at the end, so that a new one has it too: `answers`, `bounds`,
//! `examples`.

mod answers;
mod bounds;
mod examples;

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::http::{Method, header};
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use url::Url;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::server::ServerBuilder;
use utoipa::openapi::{OpenApi as Document, Server};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::Config;

use self::answers::{KeyedConflicts, SharedHeaders};
use self::bounds::IntegerBounds;
use self::examples::RealAnswers;
use super::problem::{self, ApiError, INTERNAL, NOT_FOUND};
use super::security_headers::CSP_OF_PAGES;
use super::{
    analyses, audio, audio_links, batch, deletion, deliveries, events, listing, transcripts, usage,
    vendor_answers, webhook_actions, webhooks,
};

/// Where the document is.
pub const DOCUMENT_PATH: &str = "/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "AloVoice gateway",
        description = "Speech analytics of recorded AloVoice calls: submit a call once, know the moment its analysis \
            is ready, get it clean and complete.\n\nEvery operation needs `Authorization: Bearer <JWT>`; the token's \
            tenant decides whose calls are seen. Times are RFC 3339 in UTC, offsets are milliseconds from the start \
            of the call. Errors are RFC 9457 `application/problem+json`. Unknown fields and query parameters are \
            errors.",
        contact(name = "Whoever operates this gateway"),
        license(name = "Apache-2.0", url = "https://www.apache.org/licenses/LICENSE-2.0"),
    ),
    paths(
        analyses::submit_analysis,
        batch::submit_analyses,
        listing::list_analyses,
        analyses::get_analysis,
        deletion::delete_analysis,
        transcripts::get_transcript,
        vendor_answers::get_vendor_answer,
        audio::get_audio,
        audio_links::create_audio_link,
        audio_links::get_linked_audio,
        events::list_events,
        usage::get_usage,
        webhooks::create_webhook,
        webhooks::list_webhooks,
        webhooks::get_webhook,
        webhooks::change_webhook,
        webhooks::delete_webhook,
        webhook_actions::test_webhook,
        webhook_actions::rotate_webhook_secret,
        webhook_actions::replay_webhook,
        webhook_actions::get_replay,
        deliveries::list_deliveries,
        deliveries::get_delivery,
        deliveries::redeliver,
    ),
    components(schemas(problem::Problem, problem::FieldError)),
    tags(
        (name = "analyses", description = "The analysis of recorded calls"),
        (name = "events", description = "What happened to them"),
        (name = "usage", description = "What was used"),
        (name = "webhooks", description = "Registered endpoints, and what is sent to them"),
    ),
    modifiers(&BearerTokens, &SharedHeaders, &KeyedConflicts, &IntegerBounds, &RealAnswers)
)]
struct ApiDocument;

struct BearerTokens;

impl Modify for BearerTokens {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some(
                "A JWT of one of the configured issuers: `iss`, `aud`, `exp` and the tenant's claim are required. It is \
                 verified as RFC8725 asks: the algorithm is pinned by the key.",
            ))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The document, with the address that callers use.
pub fn document(public_url: Option<&Url>) -> Document {
    let mut document = ApiDocument::openapi();
    let server = public_url.map_or("/", |url| url.as_str().trim_end_matches('/'));
    document.servers = Some(vec![public_server(if server.is_empty() { "/" } else { server })]);
    document
}

/// Every operation of the document.
fn operations(document: &mut Document) -> impl Iterator<Item = &mut Operation> {
    document.paths.paths.values_mut().flat_map(|path| {
        let PathItem { get, put, post, delete, options, head, patch, trace, .. } = path;
        [get, put, post, delete, options, head, patch, trace].into_iter().filter_map(Option::as_mut)
    })
}

/// The path, method and id of every operation.
pub(super) fn operation_ids() -> impl Iterator<Item = (String, Method, String)> {
    ApiDocument::openapi().paths.paths.into_iter().flat_map(|(path, item)| {
        let methods = [
            (Method::GET, item.get),
            (Method::POST, item.post),
            (Method::PUT, item.put),
            (Method::PATCH, item.patch),
            (Method::DELETE, item.delete),
        ];
        methods
            .into_iter()
            .filter_map(move |(method, operation)| Some((path.clone(), method, operation?.operation_id?)))
    })
}

/// A server for everybody who has a token; the admin port is not in the document.
fn public_server(url: &str) -> Server {
    let audience = ExtensionsBuilder::new().add("x-internal", false).build();
    ServerBuilder::new().url(url).extensions(Some(audience)).build()
}

/// The document as it is served.
pub fn document_body(public_url: Option<&Url>) -> Bytes {
    // What the macros made can always be written.
    Bytes::from(document(public_url).to_json().unwrap_or_default())
}

/// Answers the files of Swagger UI, for the document.
pub fn swagger_ui() -> impl Fn(web::Path<String>) -> Ready<Result<HttpResponse, ApiError>> + Clone + 'static {
    let config = Config::new([DOCUMENT_PATH])
        .display_operation_id(true)
        .display_request_duration(true)
        .try_it_out_enabled(true)
        // Else every page view asks an outside service about the document.
        .validator_url("none");
    let config = Arc::new(config);
    move |name| ready(page(&name, &config))
}

fn page(name: &str, config: &Arc<Config<'static>>) -> Result<HttpResponse, ApiError> {
    let file = utoipa_swagger_ui::serve(name, Arc::clone(config))
        .map_err(|error| ApiError::new(INTERNAL, error.to_string()))?
        .ok_or_else(|| ApiError::new(NOT_FOUND, "Swagger UI has no such file"))?;
    Ok(HttpResponse::Ok()
        .content_type(file.content_type)
        .insert_header((header::CONTENT_SECURITY_POLICY, CSP_OF_PAGES))
        .body(file.bytes.into_owned()))
}

/// `/problems/{code}`: what a kind of problem means and what to do.
pub async fn get_problem(code: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let kind = problem::ALL
        .iter()
        .find(|kind| kind.code == *code)
        .ok_or_else(|| ApiError::new(NOT_FOUND, "there is no such kind of problem"))?;
    // What stands between backticks is code.
    let parts = kind.advice.split('`').enumerate();
    let advice: String = parts
        .map(|(place, part)| if place % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() })
        .collect();
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{code}</title>\
         <h1>{title}</h1><p>Code <code>{code}</code>, status {status}.</p><p>{advice}</p></html>",
        code = kind.code,
        title = kind.title,
        status = kind.status.as_u16(),
    );
    Ok(HttpResponse::Ok()
        .content_type(header::ContentType::html())
        .insert_header((header::CACHE_CONTROL, "public, max-age=3600"))
        .body(page))
}
