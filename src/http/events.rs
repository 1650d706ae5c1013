//! The handler of `GET /v1/events`.

use std::convert::Infallible;

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use futures_util::stream::empty;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer_body::taken;
use super::event_bodies::{AnalysisEventType, WebhookEventType};
use super::event_stream::{StreamToken, stream};
use super::negotiation::negotiate;
use super::problem::ApiError;
use super::request::ApiRequest;
use crate::analyses::{FeedPage, Start};
use crate::domain::clock::Timestamp;
use crate::domain::feed::PageLimits;
use crate::domain::ids::TenantId;
use crate::domain::resource::AnalysisResource;
use crate::domain::webhooks::DisabledWebhook;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 500;
/// Maximum total size of the event bodies on a page, in bytes. A larger event gets a page of its own.
const PAGE_BYTES: usize = 4 << 20;
/// The available media types. A caller that accepts both by name gets a stream. [`PAGE`] is the default.
const OFFERED: [&str; 2] = ["text/event-stream", "application/json"];
const STREAM: usize = 0;
const PAGE: usize = 1;
/// The id of the last event that a client of a stream received.
const LAST_EVENT_ID: &str = "last-event-id";

/// The part of the feed to return.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListEvents {
    /// Start position: `next` of the previous page, the `id` of an event, `earliest` or `latest`. By default a page
    /// starts with the oldest event, and a stream starts with the next new event.
    #[param(min_length = 1, max_length = 64, pattern = r"^[A-Za-z0-9_-]+$", example = "earliest")]
    after: Option<String>,
    /// Maximum number of events on a page. The default is 100. A page also ends at 4 MiB. Not allowed for streams.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500, example = 100)]
    limit: Option<usize>,
    /// For streams: the same as the header `Last-Event-ID`, for libraries that cannot send this header. The header takes
    /// precedence; both take precedence over `after`. Other names of this parameter are `Last-Event-ID`, `last-event-id`,
    /// `last_event_id` and `lastEventID`.
    #[serde(rename = "lastEventId", alias = "Last-Event-ID", alias = "last-event-id")]
    #[serde(alias = "last_event_id", alias = "lastEventID")]
    #[param(max_length = 64, pattern = r"^[A-Za-z0-9_-]*$")]
    last_event_id: Option<String>,
}

/// An event. Callbacks and webhooks deliver the same event with `id` as `webhook-id`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Event)]
pub enum EventResource {
    /// A change of an analysis.
    Analysis(Box<AnalysisEvent>),
    /// A webhook that the gateway disabled.
    WebhookDisabled(WebhookDisabledEvent),
}

/// A change of the state of an analysis.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnalysisEvent {
    /// The id of the event, the same in the feed, in streams and in deliveries.
    #[schema(example = "evt_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    id: String,
    /// The type of the event.
    r#type: AnalysisEventType,
    /// Time of the event.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// The analysis at the time of the event.
    data: AnalysisResource,
}

/// The gateway disabled a webhook of the tenant. If a caller disables a webhook, there is no event.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookDisabledEvent {
    /// The id of the event, the same in the feed, in streams and in deliveries.
    #[schema(example = "evt_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    id: String,
    /// The type of the event.
    r#type: WebhookEventType,
    /// Time of the event.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// The disabled webhook.
    data: DisabledWebhook,
}

/// One page of events.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventPage {
    /// The events, oldest first. A page without `events` and without `unreadable` means that there is no newer event yet.
    /// Any other page can have fewer than `limit` events although more events exist.
    #[schema(max_items = 500)]
    events: Vec<EventResource>,
    /// The ids of events on this page that this version of the service cannot read, usually because a later version wrote them.
    /// Omitted if there are none. A stream names these ids in a comment.
    #[schema(required = false, max_items = 1000)]
    unreadable: Vec<String>,
    /// Cursor of the next page. Pass it as `after` to read the events that follow, even much later. The cursor does not expire.
    #[schema(example = "AAAAAAAAAAEqjnBRTbTKTw")]
    next: String,
}

/// Describes the header `Last-Event-ID` for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents a header that `list_events` reads")]
pub struct LastEventId {
    /// For streams: the last `id` that you received. This header takes precedence over `lastEventId` and `after`.
    #[param(rename = "Last-Event-ID")]
    last_event_id: Option<String>,
}

/// Returns a page of events, or a stream of events if the header `Accept` prefers a stream.
pub(super) async fn list_events(
    http: HttpRequest,
    request: ApiRequest<(), ListEvents>,
) -> Result<HttpResponse, ApiError> {
    let tenant = request.tenant.id();
    let ListEvents { after, limit, last_event_id } = &request.query;
    let after = after.as_deref().map(|after| start(tenant, "?after", after)).transpose()?;
    if negotiate(&http, &OFFERED, PAGE)? == STREAM {
        if limit.is_some() {
            return Err(ApiError::invalid_field("?limit", "must not be given for a stream"));
        }
        let header = http.headers().get(LAST_EVENT_ID).map(|last| String::from_utf8_lossy(last.as_bytes()));
        let given = [("Last-Event-ID", header.as_deref()), ("?lastEventId", last_event_id.as_deref())];
        let last =
            given.into_iter().find_map(|(name, last)| Some((name, last.filter(|last| !last.is_empty())?)));
        let last = last.map(|(name, last)| start(tenant, name, last)).transpose()?;
        return open_stream(&http, &request, last.or(after).unwrap_or(Start::Latest)).await;
    }
    if last_event_id.is_some() {
        return Err(ApiError::invalid_field("?lastEventId", "is for streams; a page takes `after`"));
    }
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid_field("?limit", &format!("must be 1 to {MAX_LIMIT}")));
    }
    let limits = PageLimits { events: limit, bytes: PAGE_BYTES };
    let page = request.state.feed.page(tenant, after.unwrap_or(Start::Earliest), limits).await?;
    let response = HttpResponse::Ok()
        .content_type(header::ContentType::json())
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .insert_header((header::VARY, HeaderValue::from_static("Authorization, Accept")))
        .body(body(&page));
    Ok(taken(response, Some(page.memory)))
}

fn start(tenant: &TenantId, pointer: &str, text: &str) -> Result<Start, ApiError> {
    let rule = "must be a cursor of this feed, the id of an event, \"earliest\" or \"latest\"";
    Start::parse(tenant, text).ok_or_else(|| ApiError::invalid_field(pointer, rule))
}

/// Opens a stream. A HEAD request passes the same checks, but the answer has no body, so no stream stays open.
async fn open_stream(
    http: &HttpRequest,
    request: &ApiRequest<(), ListEvents>,
    start: Start,
) -> Result<HttpResponse, ApiError> {
    let (state, tenant) = (&request.state, request.tenant.id());
    let token = StreamToken::new(&state.verifier, http.headers())?;
    let refused = || state.env.metrics.rate_limited.with_label_values(&[tenant.as_str()]).inc();
    let place = state.feed.join(tenant).inspect_err(|_| refused())?;
    let events = state.feed.stream(tenant, start, request.caller.until(), place).await?;
    if *http.method() == Method::HEAD {
        // `finish` would add a length, which the answer to GET does not have.
        return Ok(stream_head().streaming(empty::<Result<Bytes, Infallible>>()));
    }
    Ok(stream_head().streaming(stream(events, token)))
}

/// Returns the head of a stream, with headers that prevent proxies from buffering events.
fn stream_head() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(OFFERED[STREAM])
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .insert_header((header::VARY, HeaderValue::from_static("Authorization, Accept")))
        .insert_header(("x-accel-buffering", "no"));
    response
}

/// Writes an [`EventPage`] with the stored bodies of its events.
fn body(page: &FeedPage) -> Vec<u8> {
    let bytes: usize = page.events.iter().map(|event| event.body.len() + 64).sum();
    let mut body = Vec::with_capacity(bytes + 64);
    body.extend_from_slice(b"{\"events\":[");
    for (number, event) in page.events.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        event.write_json(&mut body);
    }
    body.extend_from_slice(b"],");
    if !page.unreadable.is_empty() {
        body.extend_from_slice(format!("\"unreadable\":{},", serde_json::json!(page.unreadable)).as_bytes());
    }
    // A cursor is base64, which needs no escaping.
    body.extend_from_slice(format!("\"next\":\"{}\"}}", page.next_cursor).as_bytes());
    body
}
