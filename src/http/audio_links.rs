//! `/v1/analyses/{call_id}/audio-link` and `/v1/audio/{link}`: a recording for who has no token, but a link.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::audio;
use super::audit::Audited;
use super::authorized::{AudioRead, Authorized, take_turn};
use super::idempotency::Idempotency;
use super::input::{CallPath, NoParameters, OptionalBody, StrictQuery};
use super::numbers::whole_number;
use super::observe::RequestTrace;
use super::parameters::{CallParameter, RequestKey};
use super::problem::{ApiError, INTERNAL, LINK_EXPIRED, NOT_FOUND, Problem};
use super::problem_responses::{
    BodyProblems, CallProblems, CommonProblems, KeyProblems, LinkProblems, ResultProblems,
};
use super::security_headers::RESOURCE_POLICY;
use super::state::ApiState;
use crate::domain::audio_link::{AudioLink, DEFAULT_LIFETIME, MAX_LIFETIME, MIN_LIFETIME};
use crate::domain::clock::Timestamp;
use crate::domain::idempotency::Subject;
use crate::domain::ids::CallId;
use crate::tenants::Tenant;

/// Where linked recordings are; the link's token follows.
const LINKED: &str = "/v1/audio/";

/// What a link is to be.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAudioLink {
    /// How long it is good for, in seconds: from a minute to seven days. An hour, if not given.
    #[schema(value_type = Option<u32>, nullable = false, minimum = 60, maximum = 604_800, default = 3600, example = 3600)]
    #[serde(default, deserialize_with = "whole_number")]
    expires_in: Option<u64>,
}

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
    /// Where the recording is for everybody who knows this. A path of this service, unless its operator has set
    /// `server.public_url`.
    #[schema(
        example = "/v1/audio/ZIcUHmK7kcE_PuSBbE7ItaNMelRzNufqhLnqbHrjOq9QNcVRVI5mtr0Jc5yceSQTpo3LBLerJCzuyLrl"
    )]
    url: String,
    /// Until when.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Make a link to the recording of a call
///
/// For players and CRMs that cannot send a token: whoever has the link may hear the recording until it expires, so give it
/// to nobody else. It cannot be taken back, but ends with the analysis (delete it) and with the key that sealed it. Requests
/// by link count against the tenant's rate limit.
#[utoipa::path(
    post, path = "/v1/analyses/{call_id}/audio-link", operation_id = "create_audio_link", tag = "analyses",
    params(CallParameter, RequestKey),
    request_body = Option<CreateAudioLink>,
    responses(
        (status = 201, description = "The link", body = AudioLinkResource,
            headers(("Location" = String, description = "The link"),
                ("Idempotency-Replayed" = bool, description = "`true`: the first answer to this `Idempotency-Key`, again"))),
        (status = 501, description = "The operator has set no `encryption.key_file`", body = Problem, content_type = "application/problem+json"),
        BodyProblems, CallProblems, KeyProblems, ResultProblems, CommonProblems,
    ),
    security(("bearer" = ["audio:read"]))
)]
pub async fn create_audio_link(
    state: web::Data<ApiState>,
    caller: Authorized<AudioRead>,
    trace: RequestTrace,
    call: CallPath,
    idempotency: Idempotency,
    _query: StrictQuery<NoParameters>,
    body: OptionalBody<CreateAudioLink>,
) -> Result<HttpResponse, ApiError> {
    let keys = state.sealing_keys()?;
    let expires_at = state.env.clock.now() + body.0.lifetime()?;
    let (keyed, tenant) = (Arc::clone(&state.keyed), caller.tenant.id().clone());
    let subject = Subject::Call(call.0.clone());
    let work = async move {
        // A link to nothing helps nobody.
        state.analyses.recording_path(&caller.tenant, &call.0, trace.0).await?;
        let link = AudioLink { tenant: caller.tenant.id().clone(), call_id: call.0, expires_at };
        let base = state.public_url.as_ref().map_or("", |url| url.as_str().trim_end_matches('/'));
        let url = format!("{base}{LINKED}{}", link.seal(&keys, &*state.env.entropy));
        Ok(HttpResponse::Created()
            .insert_header((header::LOCATION, url.as_str()))
            .json(AudioLinkResource { url, expires_at }))
    };
    idempotency.once(&keyed, &tenant, subject, work).await
}

/// Who comes with a link: stands in a handler's signature as [`Authorized`] does.
pub struct Linked {
    tenant: Arc<Tenant>,
    call_id: CallId,
}

impl FromRequest for Linked {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(admit(request).map_err(Into::into))
    }
}

fn admit(request: &HttpRequest) -> Result<Linked, ApiError> {
    let state = request
        .app_data::<web::Data<ApiState>>()
        .ok_or_else(|| ApiError::new(INTERNAL, "the service is not set up"))?;
    let none = || ApiError::new(NOT_FOUND, "there is no such link");
    let keys = state.sealing_keys()?;
    let link = AudioLink::open(&keys, request.match_info().query("link")).ok_or_else(none)?;
    let tenant = state.tenants.get(&link.tenant).ok_or_else(none)?;
    Audited::link(request, &link.tenant, &link.call_id);
    take_turn(request, state, tenant.id())?;
    if link.is_expired(state.env.clock.now()) {
        return Err(ApiError::new(LINK_EXPIRED, format!("the link was good until {}", link.expires_at)));
    }
    Ok(Linked { tenant, call_id: link.call_id })
}

/// The link in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct LinkParameter {
    /// What `create_audio_link` gave.
    #[param(
        max_length = 512,
        pattern = "^[A-Za-z0-9_-]+$",
        example = "ZIcUHmK7kcE_PuSBbE7ItaNMelRzNufqhLnqbHrjOq9QNcVRVI5mtr0Jc5yceSQTpo3LBLerJCzuyLrl"
    )]
    pub link: String,
}

/// Get a recording by its link
///
/// As `get_audio`, without a token: for `<audio src>` on any page. Seeking asks for ranges.
#[utoipa::path(
    get, path = "/v1/audio/{link}", operation_id = "get_linked_audio", tag = "analyses",
    params(
        LinkParameter,
        ("Range" = Option<String>, Header, description = "A part of it", example = "bytes=0-1023"),
    ),
    responses(audio::AudioResponses, audio::AudioProblems, LinkProblems),
    security(())
)]
pub async fn get_linked_audio(
    request: HttpRequest,
    state: web::Data<ApiState>,
    link: Linked,
    trace: RequestTrace,
    _query: StrictQuery<NoParameters>,
) -> Result<HttpResponse, ApiError> {
    let mut response = audio::stream(&request, &state, &link.tenant, &link.call_id, trace.0).await?;
    let headers = response.headers_mut();
    // Cross-origin pages may embed it, also those that are isolated.
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    Ok(response)
}
