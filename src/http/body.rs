//! Request bodies: received within the limits of size and time, then parsed as JSON.

use std::rc::Rc;

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::http::{Method, header};
use actix_web::web::BytesMut;
use futures_util::StreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::connection_state::ConnectionState;
use super::json::{Object, parse};
use super::problem::{ApiError, BODY_TOO_LARGE, BODY_TOO_SLOW, MALFORMED_BODY, UNSUPPORTED_MEDIA_TYPE};
use super::state::ApiState;
use crate::analyses::MemoryPermit;
use crate::domain::ids::{CallId, TenantId};

/// Maximum size of a small body in bytes. Small bodies use a separate budget, so they do not wait for large ones.
const SMALL: usize = 64 << 10;
/// Number of bodies of the maximum size that fit into the budget of large bodies.
const LARGEST_AT_ONCE: usize = 2;
/// Size of the budget of small bodies in bytes.
pub const SMALL_BODIES: usize = 4 << 20;

/// Returns the size of the budget of large bodies in bytes.
pub const fn large_bodies(max_body_bytes: usize) -> usize {
    max_body_bytes.saturating_mul(LARGEST_AT_ONCE)
}

/// The request body that an operation takes.
pub trait RequestBody: Sized {
    /// Whether the operation takes a body.
    const PRESENCE: BodyPresence;

    /// Parses the bytes of the body. `bytes` is `None` if the request has no body.
    ///
    /// # Errors
    /// `malformed_body` or `invalid_request`.
    fn parse(bytes: Option<&[u8]>) -> Result<Self, ApiError>;

    /// Returns the calls that the body names, for the audit log and for stored answers.
    fn calls(&self) -> Vec<CallId> {
        Vec::new()
    }

    /// Whether the request is a dry run. The answer to a dry run is not stored under an `Idempotency-Key`.
    fn is_dry_run(&self) -> bool {
        false
    }
}

/// Whether an operation takes a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyPresence {
    /// Bodies are not read.
    None,
    /// A body is read if the request has one.
    Optional,
    /// A request without a body is malformed.
    Required,
}

/// The fields of a JSON body.
pub trait JsonFields: DeserializeOwned {
    /// Parses a JSON object.
    ///
    /// # Errors
    /// `malformed_body` or `invalid_request`.
    fn from_json(bytes: &[u8]) -> Result<Self, ApiError> {
        parse::<Object<Self>>(bytes, Self::advice).map(|object| object.0)
    }

    /// Returns the calls that the body names, as in [`RequestBody::calls`].
    fn calls(&self) -> Vec<CallId> {
        Vec::new()
    }

    /// Whether the request changes nothing, as in [`RequestBody::is_dry_run`].
    fn is_dry_run(&self) -> bool {
        false
    }

    /// Returns advice for a caller who sends an unknown field at this JSON pointer.
    fn advice(_pointer: &str) -> Option<&'static str> {
        None
    }
}

/// A JSON body.
pub struct JsonBody<T>(pub T);

/// A JSON body that a caller may leave out; all its fields have defaults.
pub struct OptionalBody<T>(pub T);

/// The fields of an operation without input: only `{}`, `null` or no body is valid.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoFields {}

impl JsonFields for NoFields {}

impl RequestBody for () {
    const PRESENCE: BodyPresence = BodyPresence::None;

    fn parse(_: Option<&[u8]>) -> Result<Self, ApiError> {
        Ok(())
    }
}

impl<T: JsonFields> RequestBody for JsonBody<T> {
    const PRESENCE: BodyPresence = BodyPresence::Required;

    fn parse(bytes: Option<&[u8]>) -> Result<Self, ApiError> {
        T::from_json(bytes.unwrap_or_default()).map(Self)
    }

    fn calls(&self) -> Vec<CallId> {
        self.0.calls()
    }

    fn is_dry_run(&self) -> bool {
        self.0.is_dry_run()
    }
}

impl<T: JsonFields + Default> RequestBody for OptionalBody<T> {
    const PRESENCE: BodyPresence = BodyPresence::Optional;

    /// Parses the body. `null` means the same as no body.
    fn parse(bytes: Option<&[u8]>) -> Result<Self, ApiError> {
        let object = bytes.map(|bytes| parse::<Option<Object<T>>>(bytes, T::advice)).transpose()?.flatten();
        Ok(Self(object.map(|object| object.0).unwrap_or_default()))
    }
}

/// A received body, with the permit for its memory.
pub(super) struct ReceivedBody {
    pub(super) bytes: BytesMut,
    pub(super) memory: MemoryPermit,
}

/// Receives the body of a request. Returns `None` if the operation takes no body or the request has none.
///
/// # Errors
/// `unsupported_media_type`, `body_too_large`, `body_too_slow`, `malformed_body` if the body ends early, and `unavailable`
/// if the memory for bodies is used up.
pub(super) async fn receive<B: RequestBody>(
    request: &HttpRequest,
    payload: Payload,
    state: &ApiState,
    tenant: &TenantId,
) -> Result<Option<ReceivedBody>, ApiError> {
    match B::PRESENCE {
        BodyPresence::None => return Ok(None),
        BodyPresence::Optional if is_absent(request) => return Ok(None),
        BodyPresence::Optional | BodyPresence::Required => {}
    }
    check_media_type(request)?;
    collect(request, payload, state, tenant).await.map(Some)
}

fn is_absent(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0")
        && !headers.contains_key(header::TRANSFER_ENCODING)
}

/// Returns the length of the body; `None` if it is chunked.
fn length(request: &HttpRequest) -> Option<usize> {
    let headers = request.headers();
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    match announced.and_then(|length| length.trim().parse::<u64>().ok()) {
        Some(length) => Some(usize::try_from(length).unwrap_or(usize::MAX)),
        None => (!headers.contains_key(header::TRANSFER_ENCODING)).then_some(0),
    }
}

fn check_media_type(request: &HttpRequest) -> Result<(), ApiError> {
    let unsupported = |detail: &str| ApiError::new(UNSUPPORTED_MEDIA_TYPE, detail);
    let value = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let has_coding = request.headers().contains_key(header::CONTENT_ENCODING)
        && !value(header::CONTENT_ENCODING).is_some_and(|coding| coding.eq_ignore_ascii_case("identity"));
    if has_coding {
        return Err(unsupported("the body must have no content encoding"));
    }
    let mut parts = value(header::CONTENT_TYPE).unwrap_or_default().split(';');
    let media_type = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let charset = parts.filter_map(|parameter| parameter.split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches(['"', '\'']))
    });
    if is_json(request.method(), &media_type) && charset.is_none_or(is_utf_8) {
        return Ok(());
    }
    let patch = if request.method() == Method::PATCH { " or application/merge-patch+json" } else { "" };
    Err(unsupported(&format!("the body must be of type application/json{patch} in UTF-8")))
}

/// Whether this name of a character encoding means UTF-8 or its subset ASCII. Clients also write `utf8`, which is not registered.
fn is_utf_8(charset: &str) -> bool {
    let letters: String = charset.chars().filter(char::is_ascii_alphanumeric).collect();
    ["utf8", "usascii", "ascii"].iter().any(|name| letters.eq_ignore_ascii_case(name))
}

/// Whether the media type is JSON for this method. A merge patch has its own media type (RFC 7396, 4).
fn is_json(method: &Method, media_type: &str) -> bool {
    media_type == "application/json"
        || (method == Method::PATCH && media_type == "application/merge-patch+json")
}

/// Reads the body. Its bytes stay in the kernel or at the client until the body has a permit for its memory.
async fn collect(
    request: &HttpRequest,
    mut payload: Payload,
    state: &ApiState,
    tenant: &TenantId,
) -> Result<ReceivedBody, ApiError> {
    let limit = state.max_body_bytes;
    let too_large = || ApiError::new(BODY_TOO_LARGE, format!("the body must have at most {limit} bytes"));
    let too_slow = |_| ApiError::new(BODY_TOO_SLOW, "the body did not arrive in time");
    let announced = length(request);
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    // A body of unknown size counts as a small one at first.
    let mut room = announced.unwrap_or(SMALL.min(limit));
    let mut memory = memory(room, state, tenant).await?;
    let mut deadline = Instant::now() + state.body_timeout;
    let connection = ConnectionState::of(request);
    resume(connection);
    let mut body = BytesMut::with_capacity(room);
    // The framework does not end the body of a request with `Upgrade: websocket`.
    while announced.is_none_or(|length| body.len() < length)
        && let Some(chunk) = timeout_at(deadline, payload.next()).await.map_err(too_slow)?
    {
        let chunk = chunk.map_err(|_| ApiError::new(MALFORMED_BODY, "the body ended early"))?;
        let bytes = body.len() + chunk.len();
        if bytes > limit {
            return Err(too_large());
        }
        if bytes > room {
            pause(connection);
            // The body keeps its permit for a small body while it waits. This cannot deadlock, because the budgets are separate.
            let large = Box::pin(self::memory(limit, state, tenant)).await?;
            (room, memory, deadline) = (limit, large, Instant::now() + state.body_timeout);
            resume(connection);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(ReceivedBody { bytes: body, memory })
}

fn pause(connection: Option<&Rc<ConnectionState>>) {
    if let Some(connection) = connection {
        connection.pause();
    }
}

fn resume(connection: Option<&Rc<ConnectionState>>) {
    if let Some(connection) = connection {
        connection.resume();
    }
}

/// Waits for a permit for the memory of a body. The size of the body determines the budget.
async fn memory(bytes: usize, state: &ApiState, tenant: &TenantId) -> Result<MemoryPermit, ApiError> {
    let budget = if bytes <= SMALL { &state.small_bodies } else { &state.large_bodies };
    Ok(budget.take_in_time(tenant, bytes).await?)
}
