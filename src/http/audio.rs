//! The handler of `GET /v1/analyses/{call_id}/audio`, and the streaming of recordings.

use std::collections::BTreeMap;

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::{StreamExt, TryStreamExt};
use utoipa::openapi::{Content, RefOr, Response, ResponseBuilder, ResponsesBuilder};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};

use super::answer_body::streamed;
use super::disposition::inline;
use super::problem::{ApiError, PRECONDITION_FAILED, RANGE_NOT_SATISFIABLE};
use super::request::ApiRequest;
use super::shared_problems::shared_problem;
use super::state::ApiState;
use crate::alovoice::{REQUEST_HEADERS, Recording};
use crate::domain::ids::CallId;
use crate::domain::lifecycle::VendorFault;
use crate::domain::trace::TraceContext;
use crate::tenants::Tenant;

/// Maximum memory in bytes for a recording while it is sent: the data that the HTTP client reads ahead, and a buffer.
const RECORDING_BYTES: usize = 512 << 10;
/// Size of the budget of recordings in bytes.
pub const RECORDINGS: usize = 64 * RECORDING_BYTES;

/// Describes the responses with a recording for the OpenAPI document.
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
            .response("200", sound("The whole recording."))
            .response("206", sound("The requested part of the recording."))
            .response("304", ResponseBuilder::new().description("The recording has not changed."))
            .response("412", shared_problem("PreconditionFailed"))
            .response("416", shared_problem("RangeNotSatisfiable"))
            .build()
            .into()
    }
}

/// The bytes of a recording. The type is `application/octet-stream` if AloVoice does not name an audio type.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only describes a schema of the document")]
struct Sound(Vec<u8>);

/// Describes the header `Range` for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents a header that AloVoice handles")]
pub struct Range {
    /// The part of the recording to return, for example `bytes=0-1023`.
    #[param(rename = "Range")]
    range: Option<String>,
}

/// Streams the recording of a call.
pub(super) async fn get_audio(
    http: HttpRequest,
    request: ApiRequest<CallId>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, trace, path: call_id, .. } = request;
    let mut response = stream(&http, &state, &tenant, &call_id, trace).await?;
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Authorization"));
    Ok(response)
}

/// Streams a recording from AloVoice. The ranges and conditions of the request are passed on to AloVoice.
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
    let memory = state.recordings.take_in_time(tenant.id(), RECORDING_BYTES).await?;
    let recording = state.analyses.recording(tenant, call_id, head, &headers, trace).await?;
    let mut response = match recording.status() {
        412 => {
            return Err(ApiError::new(
                PRECONDITION_FAILED,
                "the recording does not match the condition of the request",
            ));
        }
        416 => return Err(no_such_part(&recording)),
        206 => HttpResponse::PartialContent(),
        304 => HttpResponse::NotModified(),
        _ => HttpResponse::Ok(),
    };
    for (name, value) in recording.headers() {
        if name == "content-length" {
            // With the length, a client notices a recording that ends early.
            if let Some(length) = std::str::from_utf8(value).ok().and_then(|length| length.parse().ok()) {
                response.no_chunking(length);
            }
            continue;
        }
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        // An HTML page from AloVoice must not run at the origin of the gateway, so the media type is an audio type or
        // plain bytes.
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
    let bytes = recording.into_stream().map_err(broken);
    // The recording counts against the budget until its body is dropped.
    Ok(streamed(response.streaming(bytes.inspect(move |_| _ = &memory))))
}

/// Returns the file name extension of an audio type; `None` for other types.
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
    let error = ApiError::new(RANGE_NOT_SATISFIABLE, "the recording does not have the requested range");
    let length = recording.headers().find(|(name, _)| *name == "content-range");
    match length.and_then(|(_, value)| HeaderValue::from_bytes(value).ok()) {
        Some(length) => error.with_header(header::CONTENT_RANGE, length),
        None => error,
    }
}
