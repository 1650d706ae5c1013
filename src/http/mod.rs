//! The web: the only place that knows the framework, but for the server's start in [`crate::app`].
//!
//! A request passes `observe` (id, trace, log, metrics), is routed here, and its handler's signature says what it
//! needs: who may call ([`authorized`]), what it reads ([`input`]). Errors come from one table ([`problem`]).

pub mod admin;
pub mod analyses;
pub mod audio;
pub mod audio_links;
pub mod audit;
pub mod authorized;
pub mod batch;
pub mod conditional;
pub mod cors;
pub mod deletion;
pub mod deliveries;
mod disposition;
pub mod document;
mod event_stream;
pub mod events;
pub mod exact;
pub mod idempotency;
pub mod input;
pub mod listing;
mod negotiation;
mod numbers;
pub mod observe;
pub mod parameters;
pub mod problem;
pub mod problem_responses;
pub mod rate_limits;
mod security_headers;
pub mod state;
pub mod tagged;
pub mod transcripts;
mod unread;
pub mod usage;
pub mod vendor_answers;
pub mod webhook_actions;
pub mod webhooks;

use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, Resource, guard, web};
use url::Url;

use self::observe::Route;
use self::problem::ApiError;

/// The routes of the API's port.
pub fn configure(config: &mut web::ServiceConfig, public_url: Option<&Url>) {
    let body = document::document_body(public_url);
    let get_document = move || {
        let body = body.clone();
        async { HttpResponse::Ok().content_type(ContentType::json()).body(body) }
    };
    config
        .service(
            only("/v1/analyses", "GET, HEAD, POST")
                .route(web::post().to(analyses::submit_analysis))
                .route(web::get().to(listing::list_analyses))
                .route(web::head().to(listing::list_analyses)),
        )
        // Reads and deletions are of a call of that name; it is not a path to advertise, though.
        .service(
            only("/v1/analyses/batch", "POST")
                .guard(guard::Not(guard::Any(guard::Get()).or(guard::Head()).or(guard::Delete())))
                .route(web::post().to(batch::submit_analyses)),
        )
        .service(
            only("/v1/analyses/{call_id}", "GET, HEAD, DELETE")
                .route(web::get().to(analyses::get_analysis))
                .route(web::head().to(analyses::get_analysis))
                .route(web::delete().to(deletion::delete_analysis)),
        )
        .service(read("/v1/analyses/{call_id}/transcript", transcripts::get_transcript))
        .service(read("/v1/analyses/{call_id}/vendor-answer", vendor_answers::get_vendor_answer))
        .service(read("/v1/analyses/{call_id}/audio", audio::get_audio))
        .service(
            only("/v1/analyses/{call_id}/audio-link", "POST")
                .route(web::post().to(audio_links::create_audio_link)),
        )
        .service(read("/v1/audio/{link}", audio_links::get_linked_audio))
        .service(read("/v1/events", events::list_events))
        .service(read("/v1/usage", usage::get_usage))
        .configure(configure_webhooks)
        .service(read("/problems/{code}", document::get_problem))
        .service(web::redirect("/", "/swagger-ui/"))
        .service(web::redirect("/swagger-ui", "/swagger-ui/"))
        .service(read(document::DOCUMENT_PATH, get_document))
        .service(read("/swagger-ui/{file:.*}", document::swagger_ui()))
        .default_service(web::to(input::not_found));
}

/// Webhooks, and what is sent.
fn configure_webhooks(config: &mut web::ServiceConfig) {
    let done = |path, handler| only(path, "POST").route(handler);
    config
        .service(
            only("/v1/webhooks", "GET, HEAD, POST")
                .route(web::post().to(webhooks::create_webhook))
                .route(web::get().to(webhooks::list_webhooks))
                .route(web::head().to(webhooks::list_webhooks)),
        )
        .service(
            only("/v1/webhooks/{webhook_id}", "GET, HEAD, PATCH, DELETE")
                .route(web::get().to(webhooks::get_webhook))
                .route(web::head().to(webhooks::get_webhook))
                .route(web::patch().to(webhooks::change_webhook))
                .route(web::delete().to(webhooks::delete_webhook)),
        )
        .service(done("/v1/webhooks/{webhook_id}/test", web::post().to(webhook_actions::test_webhook)))
        .service(done(
            "/v1/webhooks/{webhook_id}/rotate-secret",
            web::post().to(webhook_actions::rotate_webhook_secret),
        ))
        .service(done("/v1/webhooks/{webhook_id}/replay", web::post().to(webhook_actions::replay_webhook)))
        .service(read("/v1/webhooks/{webhook_id}/replays/{replay_id}", webhook_actions::get_replay))
        .service(read("/v1/deliveries", deliveries::list_deliveries))
        .service(read("/v1/deliveries/{delivery_id}", deliveries::get_delivery))
        .service(done("/v1/deliveries/{delivery_id}/redeliver", web::post().to(deliveries::redeliver)));
}

/// A path that is read: GET, and HEAD for the headers alone.
fn read<H, Args>(path: &'static str, handler: H) -> Resource
where
    H: actix_web::Handler<Args> + Clone,
    Args: actix_web::FromRequest + 'static,
    H::Output: actix_web::Responder + 'static,
{
    only(path, "GET, HEAD").route(web::get().to(handler.clone())).route(web::head().to(handler))
}

/// A path that refuses all methods but these.
fn only(path: &'static str, methods: &'static str) -> Resource {
    web::resource(path).app_data(Route(path)).default_service(web::to(move || async move {
        Err::<HttpResponse, _>(ApiError::method_not_allowed(methods))
    }))
}
