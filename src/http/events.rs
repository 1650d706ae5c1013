//! `/v1/events`

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::authorized::{AnalysesRead, Authorized};
use super::event_stream::{Pass, is_wanted, stream};
use super::input::StrictQuery;
use super::negotiation::negotiate;
use super::problem::{ApiError, Problem};
use super::problem_responses::CommonProblems;
use super::state::ApiState;
use crate::analyses::{FeedPage, Start};
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::feed::PageLimits;
use crate::domain::ids::TenantId;
use crate::domain::resource::AnalysisResource;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 500;
/// Bytes of bodies in one page; the event that passes them ends it.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// The form of a stream.
const STREAM: &str = "text/event-stream";
/// The forms that there are.
const OFFERED: [&str; 2] = ["application/json", STREAM];
/// What a stream that broke off gives as the last event it had.
const LAST_EVENT_ID: &str = "last-event-id";

/// Which part of the feed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListEvents {
    /// Where to go on: `next` of the page before, the `id` of an event, `earliest` or `latest`. Without it a list begins
    /// with the oldest event that is kept, a stream with the next that comes.
    #[param(min_length = 1, max_length = 64, pattern = r"^[A-Za-z0-9_-]+$", example = "earliest")]
    after: Option<String>,
    /// The most events of a page, 100 if not given; a page of more than 8 MiB ends earlier. Not for streams.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500, example = 100)]
    limit: Option<usize>,
}

/// Something that happened to an analysis. Callbacks tell the same, with `id` as `webhook-id`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// Its id. The same event has the same id wherever it is told.
    #[schema(example = "evt_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    id: String,
    /// What happened.
    r#type: EventKind,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// The analysis as it stood then.
    data: AnalysisResource,
}

/// A page of the feed.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventPage {
    /// The events, oldest first. Fewer than `limit` does not mean that there are no more; none does, for now.
    #[schema(max_items = 500)]
    events: Vec<Event>,
    /// Where to go on, now or later: give it as `after`. It stays good however old it gets.
    #[schema(example = "AAAAAAAAAAEqjnBRTbTKTw")]
    next: String,
}

/// Follow what happens to analyses
///
/// Every event of the tenant once and in one order, as a list or live. A list is a page of events and the cursor of the
/// next; events are kept as long as `store.retention` says. With `Accept: text/event-stream` the answer is a stream of
/// Server-Sent Events: `id` is the event's id, `event` its type, `data` the event as in a list, on one line. A stream that
/// breaks off is resumed after the event that `Last-Event-ID` names, at any replica, without loss or doubling; clients
/// such as `EventSource` do that by themselves. At its start comes an `id` without data, so that this holds before the
/// first event, too. Comments keep a silent stream alive. It ends when the token counts no more and when the server stops:
/// connect again.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "list_events", tag = "events",
    params(
        ListEvents,
        ("Last-Event-ID" = Option<String>, Header, description = "Of a stream: the `id` that came last; counts before `after`", example = "evt_018f95f4cd287c5b9a6f3b1f8f0a1d2e"),
    ),
    responses(
        (status = 200, description = "The events after the cursor, or a stream of them", content(
            (EventPage = "application/json"),
            (String = "text/event-stream", example = json!("retry: 2000\nid: AAAAAAAAAAEqjnBRTbTKTw\n\nid: evt_018f95f4cd287c5b9a6f3b1f8f0a1d2e\nevent: analysis.completed\ndata: {\"id\":\"evt_018f95f4cd287c5b9a6f3b1f8f0a1d2e\",\"type\":\"analysis.completed\",…}\n\n: ping\n\n")),
        )),
        (status = 406, description = "`Accept` refuses all that there is; `detail` lists it", body = Problem, content_type = "application/problem+json"),
        CommonProblems,
    ),
    security(("bearer" = ["analyses:read"]))
)]
pub async fn list_events(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Authorized<AnalysesRead>,
    query: StrictQuery<ListEvents>,
) -> Result<HttpResponse, ApiError> {
    let (tenant, ListEvents { after, limit }) = (caller.tenant.id(), query.0);
    let after = after.map(|after| start(tenant, "?after", &after)).transpose()?;
    let accepted = negotiate(&request, &OFFERED)?;
    if OFFERED[accepted] == STREAM || is_wanted(request.headers()) {
        if limit.is_some() {
            return Err(ApiError::invalid_field("?limit", "is not for streams, which go on for ever"));
        }
        let last = request.headers().get(LAST_EVENT_ID).filter(|last| !last.is_empty());
        let last = last.map(|last| start(tenant, "Last-Event-ID", last.to_str().unwrap_or_default()));
        let start = last.transpose()?.or(after).unwrap_or(Start::Latest);
        // Only a body needs a place among the streams.
        let is_head = request.method() == Method::HEAD;
        if is_head {
            return Ok(stream_head().finish());
        }
        let pass = Pass::new(&state.verifier, request.headers())?;
        return open(&state, &caller, pass, start).await;
    }
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid_field("?limit", &format!("must be 1 to {MAX_LIMIT}")));
    }
    let limits = PageLimits { events: limit, bytes: PAGE_BYTES };
    let page = state.feed.page(tenant, after.unwrap_or(Start::Earliest), limits).await?;
    Ok(HttpResponse::Ok()
        .content_type(header::ContentType::json())
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .insert_header((header::VARY, HeaderValue::from_static("Authorization, Accept")))
        .body(body(&page)))
}

fn start(tenant: &TenantId, pointer: &str, text: &str) -> Result<Start, ApiError> {
    let rule = "must be a cursor that this feed gave, the id of an event, \"earliest\" or \"latest\"";
    Start::parse(tenant, text).ok_or_else(|| ApiError::invalid_field(pointer, rule))
}

async fn open(
    state: &ApiState,
    caller: &Authorized<AnalysesRead>,
    pass: Pass,
    start: Start,
) -> Result<HttpResponse, ApiError> {
    let tenant = caller.tenant.id();
    let refused = || state.env.metrics.rate_limited.with_label_values(&[tenant.as_str()]).inc();
    let place = state.feed.join(tenant).inspect_err(|_| refused())?;
    let events = state.feed.stream(tenant, start, caller.bearer.until(), place).await?;
    Ok(stream_head().streaming(stream(events, pass)))
}

/// With what keeps proxies from holding events back.
fn stream_head() -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(STREAM)
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .insert_header((header::VARY, HeaderValue::from_static("Authorization, Accept")))
        .insert_header(("x-accel-buffering", "no"));
    response
}

/// The form of [`EventPage`], with the bodies as they are stored.
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
    // Made of the alphabet of base64: nothing in it needs escaping.
    body.extend_from_slice(format!("],\"next\":\"{}\"}}", page.next_cursor).as_bytes());
    body
}
