//! The HTTP API. Only this module uses the web framework, except for the start of the servers in [`crate::app`].
//!
//! A request passes the middleware [`observe`], which gives the request an id, a trace, a log line and metrics. The router finds
//! the operation in the route table ([`routes`]). The extractor [`request::ApiRequest`] authenticates the caller and checks the
//! request, and the handler of the resource answers. Errors become problems ([`problem`]).

pub mod admin;
pub mod analyses;
pub mod answer_body;
pub mod audio;
pub mod audio_links;
mod audit;
pub mod batch;
pub mod body;
mod call_id_schema;
pub mod call_input;
pub mod conditional;
pub mod connection;
pub mod connection_limits;
pub mod connection_state;
pub mod cors;
mod deletion;
pub mod deliveries;
mod disposition;
pub mod document;
pub mod event_bodies;
mod event_stream;
pub mod events;
mod exact_object;
mod field_errors;
pub mod idempotency;
mod item_statuses;
pub mod json;
pub mod list_query;
pub mod listing;
pub mod merged_schema;
mod message_scan;
mod negotiation;
mod numbers;
pub mod observe;
pub mod open_connections;
pub mod operations;
mod pages;
pub mod path;
pub mod problem;
mod problem_kinds;
mod problem_mapping;
pub mod query;
pub mod rate_limits;
pub mod refusals;
pub mod renderings;
pub mod request;
pub mod request_context;
pub mod routes;
mod security_headers;
pub mod shared_problems;
pub mod state;
mod tagged;
pub mod transcripts;
mod unread;
pub mod usage;
mod vendor_answers;
pub mod webhook_actions;
pub mod webhook_input;
pub mod webhook_previews;
pub mod webhook_replays;
pub mod webhook_resource;
mod webhook_schemas;
mod webhooks;

use self::operations::PathOperations;
use self::problem::{ApiError, NOT_FOUND};
use crate::domain::public_url::PublicUrl;
use actix_web::http::Method;
use actix_web::http::header::{ContentType, HeaderValue};
use actix_web::{HttpResponse, Resource, guard, web};

/// Adds the routes of the API port.
pub fn configure(config: &mut web::ServiceConfig, public_url: &PublicUrl) {
    for path in routes::paths() {
        config.service(resource(path));
    }
    let document = document::document_body(public_url);
    let get_document = move || {
        let document = document.clone();
        async { answer_body::shared(HttpResponse::Ok().content_type(ContentType::json()).body(document)) }
    };
    config
        .service(page("/", pages::redirect_to_swagger_ui))
        .service(page("/swagger-ui", pages::redirect_to_swagger_ui))
        .service(page("/problems/{code}", pages::get_problem))
        .service(page(document::DOCUMENT_PATH, get_document))
        .service(page("/swagger-ui/{file:.*}", pages::get_swagger_ui))
        .default_service(web::to(not_found));
}

/// Returns the resource of a path in the route table.
fn resource(path: PathOperations) -> Resource {
    let mut resource = web::resource(path.path);
    if path.path == "/v1/analyses/batch" {
        // A call id may be `batch`. These methods on `/v1/analyses/batch` address that call.
        let of_calls = guard::Any(guard::Get()).or(guard::Head()).or(guard::Delete());
        resource = resource.guard(guard::Not(of_calls));
    }
    for route in path.routes() {
        resource = resource.route(route);
    }
    refusing_others(resource, &path.methods()).app_data(path)
}

/// Returns the resource of a path without authentication. The resource answers GET and HEAD.
fn page<H, Args>(path: &'static str, handler: H) -> Resource
where
    H: actix_web::Handler<Args> + Clone,
    Args: actix_web::FromRequest + 'static,
    H::Output: actix_web::Responder + 'static,
{
    let resource = web::resource(path).route(web::get().to(handler.clone())).route(web::head().to(handler));
    refusing_others(resource, &[Method::GET, Method::HEAD])
        .app_data(PathOperations { path, operations: Vec::new() })
}

/// Answers all methods that are not in `methods` with 405 and `Allow`.
fn refusing_others(resource: Resource, methods: &[Method]) -> Resource {
    let methods: Vec<_> = methods.iter().map(Method::as_str).collect();
    let allow = HeaderValue::try_from(methods.join(", ")).unwrap_or(HeaderValue::from_static(""));
    resource.default_service(web::to(move || {
        let error = ApiError::method_not_allowed(&allow);
        async { Err::<HttpResponse, _>(error) }
    }))
}

async fn not_found() -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(NOT_FOUND, "there is no such path"))
}
