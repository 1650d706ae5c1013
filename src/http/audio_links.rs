//! Handlers of `/v1/analyses/{call_id}/audio-link` and `/v1/audio/{link}`: a recording for a caller with a link instead
//! of a token.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audio;
use super::audit::AuditEntry;
use super::body::{JsonFields, OptionalBody};
use super::numbers::whole_number;
use super::problem::{ApiError, LINK_EXPIRED, NOT_FOUND};
use super::query::{NoQuery, QueryParameters};
use super::request::{ApiRequest, operation_of, state_of, take_turn};
use super::request_context::RequestTrace;
use super::security_headers::RESOURCE_POLICY;
use crate::domain::audio_link::{AudioLink, DEFAULT_LIFETIME, MAX_LIFETIME, MIN_LIFETIME};
use crate::domain::clock::Timestamp;
use crate::domain::ids::CallId;
use crate::tenants::Tenant;

/// Beginning of the path of a linked recording. The token of the link follows.
const LINKED: &str = "/v1/audio/";

/// Options of a link.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAudioLink {
    /// Lifetime in seconds, from a minute to seven days. The default is an hour.
    #[schema(value_type = Option<u32>, nullable = false, minimum = 60, maximum = 604_800, example = 3600)]
    #[serde(default, deserialize_with = "whole_number")]
    expires_in: Option<u64>,
}

impl JsonFields for CreateAudioLink {}

impl CreateAudioLink {
    fn lifetime(&self) -> Result<Duration, ApiError> {
        let lifetime = self.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
        if (MIN_LIFETIME..=MAX_LIFETIME).contains(&lifetime) {
            return Ok(lifetime);
        }
        let rule = format!("must be {} to {} seconds", MIN_LIFETIME.as_secs(), MAX_LIFETIME.as_secs());
        Err(ApiError::invalid_field("#/expires_in", &rule))
    }
}

/// A link to a recording.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AudioLink)]
pub struct AudioLinkResource {
    /// The link. It is a path of this service, or a full URL if the operator configured `server.public_url`.
    #[schema(
        example = "/v1/audio/ZIcUHmK7kcE_PuSBbE7ItaNMelRzNufqhLnqbHrjOq9QNcVRVI5mtr0Jc5yceSQTpo3LBLerJCzuyLrl"
    )]
    url: String,
    /// Time when the link expires.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Creates a link to the recording of a call. The call must have a recording.
pub(super) async fn create_audio_link(
    request: ApiRequest<CallId, NoQuery, OptionalBody<CreateAudioLink>>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, trace, path: call_id, body, .. } = request;
    let keys = state.sealing_keys()?;
    let expires_at = state.env.clock.now() + body.0.lifetime()?;
    state.analyses.recording_path(&tenant, &call_id, trace).await?;
    let link = AudioLink { tenant: tenant.id().clone(), call_id, expires_at };
    let url = state.env.public_url.link(&format!("{LINKED}{}", link.seal(&keys, &*state.env.entropy)));
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, url.as_str()))
        .json(AudioLinkResource { url, expires_at }))
}

/// A request with a valid link. The checks run in the same order as for [`ApiRequest`], but with a link instead of a token.
pub(super) struct LinkedRequest {
    tenant: Arc<Tenant>,
    call_id: CallId,
}

impl FromRequest for LinkedRequest {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(open(request).map_err(Into::into))
    }
}

fn open(request: &HttpRequest) -> Result<LinkedRequest, ApiError> {
    let (state, operation) = (state_of(request)?, operation_of(request)?);
    let unknown = || ApiError::new(NOT_FOUND, "there is no such link");
    let keys = state.sealing_keys()?;
    let link = AudioLink::open(&keys, request.match_info().query("link")).ok_or_else(unknown)?;
    let tenant = state.tenants.get(&link.tenant).ok_or_else(unknown)?;
    AuditEntry::begin_for_link(request, (state, operation), &link.tenant, &link.call_id);
    take_turn(request, state, tenant.id())?;
    if link.is_expired(state.env.clock.now()) {
        return Err(ApiError::new(LINK_EXPIRED, format!("the link expired at {}", link.expires_at)));
    }
    NoQuery::parse(request)?;
    Ok(LinkedRequest { tenant, call_id: link.call_id })
}

/// Streams the recording that a link gives access to.
pub(super) async fn get_linked_audio(
    http: HttpRequest,
    trace: RequestTrace,
    request: LinkedRequest,
) -> Result<HttpResponse, ApiError> {
    let state = state_of(&http)?;
    let mut response = audio::stream(&http, state, &request.tenant, &request.call_id, trace.0).await?;
    // Pages of other origins may embed a linked recording, even if these pages are cross-origin isolated.
    response.headers_mut().insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    Ok(response)
}
