//! Parameters in the paths of operations.

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;

use super::operations::PathOperations;
use super::problem::{ApiError, NOT_FOUND};
use crate::domain::ids::{CallId, DeliveryId, InvalidId, ReplayId, WebhookId};
use crate::domain::transforms::presets::Preset;

/// The parameters in the path of an operation.
pub trait PathParameters: Sized {
    /// Parses the path of a request.
    ///
    /// # Errors
    /// The problem of an invalid parameter.
    fn parse(request: &HttpRequest) -> Result<Self, ApiError>;

    /// Returns the call that the path names.
    fn call(&self) -> Option<&CallId> {
        None
    }
}

/// A path without parameters.
impl PathParameters for () {
    fn parse(_: &HttpRequest) -> Result<Self, ApiError> {
        Ok(())
    }
}

/// The path parameter `{call_id}`. A text that is not a call id causes an `invalid_request`, as for a call id in a body.
impl PathParameters for CallId {
    fn parse(request: &HttpRequest) -> Result<Self, ApiError> {
        call_id(request).map_err(|error| ApiError::invalid_field("{call_id}", &error))
    }

    fn call(&self) -> Option<&CallId> {
        Some(self)
    }
}

impl PathParameters for WebhookId {
    fn parse(request: &HttpRequest) -> Result<Self, ApiError> {
        generated("webhook", Self::parse(request.match_info().query("webhook_id")))
    }
}

impl PathParameters for DeliveryId {
    fn parse(request: &HttpRequest) -> Result<Self, ApiError> {
        generated("delivery", Self::parse(request.match_info().query("delivery_id")))
    }
}

/// The path parameters `{call_id}` and `{preset}`.
impl PathParameters for (CallId, &'static Preset) {
    fn parse(request: &HttpRequest) -> Result<Self, ApiError> {
        let call_id = PathParameters::parse(request)?;
        Ok((call_id, generated("preset", Preset::named(request.match_info().query("preset")))?))
    }

    fn call(&self) -> Option<&CallId> {
        Some(&self.0)
    }
}

/// The path parameters `{webhook_id}` and `{replay_id}`.
impl PathParameters for (WebhookId, ReplayId) {
    fn parse(request: &HttpRequest) -> Result<Self, ApiError> {
        let replay = generated("replay", ReplayId::parse(request.match_info().query("replay_id")));
        Ok((PathParameters::parse(request)?, replay?))
    }
}

/// Returns the parsed id or name in the path. If `id` is `None`, the text in the path is neither a generated id nor a known name.
/// The answer is then 404, as for an unknown resource.
fn generated<T>(resource: &str, id: Option<T>) -> Result<T, ApiError> {
    id.ok_or_else(|| ApiError::new(NOT_FOUND, format!("there is no {resource} with this id")))
}

/// Returns the call id in the path, percent-decoded once. The function reads the raw path, because the router decodes only some
/// escapes.
pub(super) fn call_id(request: &HttpRequest) -> Result<CallId, InvalidCallId> {
    let template = request.app_data::<PathOperations>().map_or("", |path| path.path);
    let place = template.rsplit('/').position(|segment| segment == "{call_id}");
    let segment = place.and_then(|place| request.uri().path().rsplit('/').nth(place)).unwrap_or_default();
    let has_lone_percent = segment.split('%').skip(1).any(|rest| {
        let digits = rest.as_bytes().get(..2);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if has_lone_percent {
        return Err(InvalidCallId::LonePercent);
    }
    Ok(CallId::parse(&percent_decode_str(segment).decode_utf8_lossy())?)
}

/// The reason why the segment of a path is not a call id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidCallId {
    /// A `%` is not followed by two hexadecimal digits.
    #[error("must be percent-encoded: a \"%\" is written as \"%25\"")]
    LonePercent,
    /// The decoded segment is not a call id.
    #[error(transparent)]
    Id(#[from] InvalidId),
}
