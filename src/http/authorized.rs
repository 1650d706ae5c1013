//! Authorization stands in a handler's signature: a handler that takes [`Authorized<S>`] runs for callers with a
//! valid token, a configured tenant, the scope `S` and room in the tenant's rate.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};

use super::audit::Audited;
use super::problem::{ApiError, INSUFFICIENT_SCOPE, RATE_LIMITED, UNKNOWN_TENANT};
use super::rate_limits::Exceeded;
use super::state::ApiState;
use crate::auth::{Caller, bearer};
use crate::domain::ids::TenantId;
use crate::telemetry::spans;
use crate::tenants::Tenant;

/// A scope, as a type.
pub trait Scope: 'static {
    /// Its name in tokens.
    const NAME: &'static str;
}

/// `analyses:read`
pub struct AnalysesRead;
/// `analyses:write`
pub struct AnalysesWrite;
/// `audio:read`
pub struct AudioRead;
/// `webhooks:manage`
pub struct WebhooksManage;

impl Scope for WebhooksManage {
    const NAME: &'static str = "webhooks:manage";
}
impl Scope for AudioRead {
    const NAME: &'static str = "audio:read";
}
impl Scope for AnalysesRead {
    const NAME: &'static str = "analyses:read";
}
impl Scope for AnalysesWrite {
    const NAME: &'static str = "analyses:write";
}

/// The tenant of a caller who may do what `S` names.
pub struct Authorized<S> {
    /// On whose behalf.
    pub tenant: Arc<Tenant>,
    /// Who the token speaks for.
    pub bearer: Arc<Caller>,
    scope: PhantomData<S>,
}

impl<S: Scope> FromRequest for Authorized<S> {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(authorize::<S>(&request).await?) })
    }
}

async fn authorize<S: Scope>(request: &HttpRequest) -> Result<Authorized<S>, ApiError> {
    let state = request
        .app_data::<web::Data<ApiState>>()
        .ok_or_else(|| ApiError::new(super::problem::INTERNAL, "the service is not set up"))?;
    let values = request.headers().get_all(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let verified = match bearer(values) {
        Ok(token) => state.verifier.verify(token).await,
        Err(rejection) => Err(rejection),
    };
    let caller = verified.inspect_err(|rejection| {
        state.env.metrics.token_rejections.with_label_values(&[rejection.reason()]).inc();
    })?;
    Audited::bearer(request, &caller);
    let Some(tenant) = state.tenants.get(&caller.tenant) else {
        state.env.metrics.token_rejections.with_label_values(&["unknown_tenant"]).inc();
        return Err(ApiError::new(UNKNOWN_TENANT, "the tenant that the token names is not configured"));
    };
    if !caller.scopes.contains(S::NAME) {
        state.env.metrics.token_rejections.with_label_values(&["insufficient_scope"]).inc();
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", S::NAME);
        let error = ApiError::new(INSUFFICIENT_SCOPE, format!("the token lacks the scope {}", S::NAME));
        return Err(match HeaderValue::from_str(&challenge) {
            Ok(challenge) => error.with_header(header::WWW_AUTHENTICATE, challenge),
            Err(_) => error,
        });
    }
    spans::export("tenant", tenant.id());
    take_turn(request, state, tenant.id())?;
    Ok(Authorized { tenant, bearer: caller, scope: PhantomData })
}

/// Counts a request against the tenant's rate. What is left is told with the answer, whatever that will be, by the
/// middleware `observe`.
pub(super) fn take_turn(request: &HttpRequest, state: &ApiState, tenant: &TenantId) -> Result<(), ApiError> {
    let (remaining, outcome) = match state.limits.take(tenant) {
        Ok(remaining) => (remaining, Ok(())),
        Err(Exceeded { wait, remaining }) => {
            state.env.metrics.rate_limited.with_label_values(&[tenant.as_str()]).inc();
            let error = ApiError::new(RATE_LIMITED, "the tenant asks for more than it may");
            (Some(remaining), Err(error.with_retry_after(wait)))
        }
    };
    if let Some(remaining) = remaining {
        request.extensions_mut().insert(remaining);
    }
    outcome
}
