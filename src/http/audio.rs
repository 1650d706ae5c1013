//! `/v1/analyses/{call_id}/audio`

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::TryStreamExt;
use utoipa::ToSchema;

use super::authorized::{AudioRead, Authorized};
use super::input::{CallPath, NoParameters, StrictQuery};
use super::observe::RequestTrace;
use super::parameters::CallParameter;
use super::problem::{ApiError, PRECONDITION_FAILED, Problem, RANGE_NOT_SATISFIABLE};
use super::problem_responses::{CallProblems, CommonProblems, ResultProblems};
use super::state::ApiState;
use crate::vendor::{ASKED, Recording};

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
    responses(
        (status = 200, description = "The recording", content(
            (Sound = "audio/*"), (Sound = "application/octet-stream"),
        )),
        (status = 206, description = "The part that was asked for", content(
            (Sound = "audio/*"), (Sound = "application/octet-stream"),
        )),
        (status = 304, description = "As known"),
        (status = 412, description = "Not in the state that was asked for", body = Problem, content_type = "application/problem+json"),
        (status = 416, description = "There is no such part", body = Problem, content_type = "application/problem+json"),
        CallProblems, ResultProblems, CommonProblems,
    ),
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
    let asked: Vec<_> = ASKED
        .into_iter()
        .filter_map(|name| Some((name, request.headers().get(name)?.as_bytes().to_vec())))
        .collect();
    let head = request.method() == Method::HEAD;
    let recording = state.analyses.recording(&caller.tenant, &call.0, head, &asked, trace.0).await?;
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
    response
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")))
        .insert_header((header::VARY, HeaderValue::from_static("Authorization")));
    let broken = |fault: crate::domain::lifecycle::Fault| std::io::Error::other(fault.detail);
    Ok(response.streaming(recording.into_stream().map_err(broken)))
}

fn no_such_part(recording: &Recording) -> ApiError {
    let error = ApiError::new(RANGE_NOT_SATISFIABLE, "the recording has no such part");
    let length = recording.headers().find(|(name, _)| *name == "content-range");
    match length.and_then(|(_, value)| HeaderValue::from_bytes(value).ok()) {
        Some(length) => error.with_header(header::CONTENT_RANGE, length),
        None => error,
    }
}
