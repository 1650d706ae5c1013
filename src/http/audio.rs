//! `/v1/analyses/{call_id}/audio`

use std::collections::BTreeMap;

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::TryStreamExt;
use utoipa::openapi::{Content, RefOr, Response, ResponseBuilder, ResponsesBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::authorized::{AudioRead, Authorized};
use super::disposition::inline;
use super::input::{CallPath, NoParameters, StrictQuery};
use super::observe::RequestTrace;
use super::parameters::CallParameter;
use super::problem::{ApiError, PRECONDITION_FAILED, Problem, RANGE_NOT_SATISFIABLE};
use super::problem_responses::{CallProblems, CommonProblems, ResultProblems};
use super::state::ApiState;
use crate::alovoice::{REQUEST_HEADERS, Recording};
use crate::domain::ids::CallId;
use crate::domain::lifecycle::VendorFault;
use crate::domain::trace::TraceContext;
use crate::tenants::Tenant;

/// A recording, or a part of it.
pub struct AudioResponses;

impl IntoResponses for AudioResponses {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let sound = |description: &str| {
            let content = || Content::new(Some(Sound::schema()));
            ResponseBuilder::new()
                .description(description)
                .content("audio/*", content())
                .content("application/octet-stream", content())
        };
        ResponsesBuilder::new()
            .response("200", sound("The recording"))
            .response("206", sound("The part that was asked for"))
            .build()
            .into()
    }
}

/// Why there is none now.
#[derive(IntoResponses)]
pub enum AudioProblems {
    /// As known
    #[response(status = 304)]
    Known,
    /// Not in the state that was asked for
    #[response(status = 412, content_type = "application/problem+json")]
    Changed(Problem),
    /// There is no such part
    #[response(status = 416, content_type = "application/problem+json")]
    NoSuchPart(Problem),
}

/// The bytes of a recording; of type `application/octet-stream` if the vendor does not say what they are.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "for the document alone")]
struct Sound(Vec<u8>);

/// Get the recording of a call
///
/// Streamed from the vendor as it comes. Ranges and conditions are the vendor's to answer.
#[utoipa::path(
    get, path = "/v1/analyses/{call_id}/audio", operation_id = "get_audio", tag = "analyses",
    params(
        CallParameter,
        ("Range" = Option<String>, Header, description = "A part of it", example = "bytes=0-1023"),
    ),
    responses(AudioResponses, AudioProblems, CallProblems, ResultProblems, CommonProblems),
    security(("bearer" = ["audio:read"]))
)]
pub async fn get_audio(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Authorized<AudioRead>,
    trace: RequestTrace,
    call: CallPath,
    _query: StrictQuery<NoParameters>,
) -> Result<HttpResponse, ApiError> {
    let mut response = stream(&request, &state, &caller.tenant, &call.0, trace.0).await?;
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Authorization"));
    Ok(response)
}

/// Answers the recording as it comes, by the request's ranges and conditions.
pub(super) async fn stream(
    request: &HttpRequest,
    state: &ApiState,
    tenant: &Tenant,
    call_id: &CallId,
    trace: TraceContext,
) -> Result<HttpResponse, ApiError> {
    let headers: Vec<_> = REQUEST_HEADERS
        .into_iter()
        .filter_map(|name| Some((name, request.headers().get(name)?.as_bytes().to_vec())))
        .collect();
    let head = request.method() == Method::HEAD;
    let recording = state.analyses.recording(tenant, call_id, head, &headers, trace).await?;
    let mut response = match recording.status() {
        412 => return Err(ApiError::new(PRECONDITION_FAILED, "the recording is in another state")),
        416 => return Err(no_such_part(&recording)),
        206 => HttpResponse::PartialContent(),
        304 => HttpResponse::NotModified(),
        _ => HttpResponse::Ok(),
    };
    for (name, value) in recording.headers() {
        if name == "content-length" {
            // Said as it is, so that a recording that breaks off is seen to have.
            if let Some(length) = std::str::from_utf8(value).ok().and_then(|length| length.parse().ok()) {
                response.no_chunking(length);
            }
            continue;
        }
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        // On this service's own address a page of the vendor's must not run: a recording is sound, or just bytes.
        let is_page = name == "content-type" && !value.as_bytes().starts_with(b"audio/");
        let value = if is_page { HeaderValue::from_static("application/octet-stream") } else { value };
        response.insert_header((name, value));
    }
    let kind = recording.headers().find(|(name, _)| *name == "content-type").map(|(_, value)| value);
    if let Some(extension) = kind.and_then(extension) {
        response.insert_header((header::CONTENT_DISPOSITION, inline(call_id.as_str(), extension)));
    }
    response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")));
    let broken = |fault: VendorFault| std::io::Error::other(fault.detail);
    Ok(response.streaming(recording.into_stream().map_err(broken)))
}

/// What a file of this type is named by; `None` for types that are no sound, or seldom.
fn extension(content_type: &[u8]) -> Option<&'static str> {
    Some(match content_type.split(|byte| *byte == b';').next()?.trim_ascii() {
        b"audio/wav" | b"audio/x-wav" | b"audio/wave" | b"audio/vnd.wave" => "wav",
        b"audio/mpeg" | b"audio/mp3" => "mp3",
        b"audio/ogg" => "ogg",
        b"audio/flac" => "flac",
        b"audio/mp4" | b"audio/x-m4a" => "m4a",
        _ => return None,
    })
}

fn no_such_part(recording: &Recording) -> ApiError {
    let error = ApiError::new(RANGE_NOT_SATISFIABLE, "the recording has no such part");
    let length = recording.headers().find(|(name, _)| *name == "content-range");
    match length.and_then(|(_, value)| HeaderValue::from_bytes(value).ok()) {
        Some(length) => error.with_header(header::CONTENT_RANGE, length),
        None => error,
    }
}
