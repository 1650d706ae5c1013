//! The extractor of the API: it checks a request step by step and passes the parts to the handler.
//!
//! The order is fixed: token, tenant, scope, rate limit, connection limit, path, query, `Idempotency-Key`, body. actix-web
//! polls the extractors of a handler together, so separate extractors would read the body while the check of the token waits
//! for the keys of its issuer. Here a step begins after the previous step has succeeded, so the body of an unauthenticated
//! caller is never read.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{FromRequest, HttpRequest, web};

use super::audit::AuditEntry;
use super::body::{ReceivedBody, RequestBody, receive};
use super::conditional::preferred_wait;
use super::idempotency::{IdempotentRequest, parse_key};
use super::operations::{Access, ApiOperation, PathOperations};
use super::path::PathParameters;
use super::problem::{ApiError, INSUFFICIENT_SCOPE, INTERNAL, RATE_LIMITED, UNKNOWN_TENANT};
use super::query::{NoQuery, QueryParameters};
use super::rate_limits::Exceeded;
use super::refusals::Refusal;
use super::request_context::RequestContext;
use super::state::ApiState;
use crate::analyses::MemoryPermit;
use crate::auth::{Caller, Scope, bearer};
use crate::domain::ids::TenantId;
use crate::domain::trace::TraceContext;
use crate::telemetry::spans;
use crate::tenants::Tenant;

/// A request that passed every check, with its parsed path `P`, query `Q` and body `B`.
pub struct ApiRequest<P = (), Q = NoQuery, B = ()> {
    /// The shared state of the API.
    pub state: web::Data<ApiState>,
    /// The tenant of the token.
    pub tenant: Arc<Tenant>,
    /// The verified claims of the token.
    pub caller: Arc<Caller>,
    /// The trace of the request.
    pub trace: TraceContext,
    /// The request id. It is empty for safe methods, whose handlers do not need it.
    pub request_id: String,
    /// Maximum time for which the caller wants to wait for an outcome (`Prefer: wait`).
    pub wait: Option<Duration>,
    /// The path parameters.
    pub path: P,
    /// The query parameters.
    pub query: Q,
    /// The parsed body.
    pub body: B,
    /// The identity of the request for the store of idempotency keys; `None` without an `Idempotency-Key`, for a dry run, and
    /// for an operation that takes no key.
    pub(super) idempotent: Option<IdempotentRequest>,
    /// The permit for the memory of the body. The permit is released when the handler has ended.
    _memory: Option<MemoryPermit>,
}

impl<P, Q, B> FromRequest for ApiRequest<P, Q, B>
where
    P: PathParameters + 'static,
    Q: QueryParameters + 'static,
    B: RequestBody + 'static,
{
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move { Ok(extract(request, payload).await?) })
    }
}

async fn extract<P: PathParameters, Q: QueryParameters, B: RequestBody>(
    request: HttpRequest,
    payload: Payload,
) -> Result<ApiRequest<P, Q, B>, ApiError> {
    let state = state_of(&request)?;
    let operation = operation_of(&request)?;
    let Access::Token(scope) = operation.access else {
        return Err(ApiError::new(INTERNAL, "the operation takes no token"));
    };
    let caller = authenticate(&request, state).await?;
    AuditEntry::begin_for_token(&request, (state, operation), &caller);
    let tenant = authorize(state, &caller, scope)?;
    take_turn(&request, state, tenant.id())?;
    let path = P::parse(&request)?;
    let query = Q::parse(&request)?;
    let key = operation.keyed_answer.map(|_| parse_key(&request)).transpose()?.flatten();
    let received = receive::<B>(&request, payload, state, tenant.id()).await?;
    let (bytes, memory) = received.map(|ReceivedBody { bytes, memory }| (bytes, memory)).unzip();
    let body = B::parse(bytes.as_deref())?;
    let calls = body.calls();
    let wait = preferred_wait(&request);
    let call = path.call().or(calls.first());
    let idempotent = operation.keyed_answer.zip(key.filter(|_| !body.is_dry_run())).map(|(contents, key)| {
        IdempotentRequest::new(&request, &key, bytes.as_deref(), contents.subject(call), wait)
    });
    AuditEntry::add_calls(&request, calls);
    let context = RequestContext::of(&request, |context| (context.trace, context.request_id.clone()));
    let (trace, request_id) = context.ok_or_else(|| ApiError::new(INTERNAL, "the request has no context"))?;
    Ok(ApiRequest {
        state: state.clone(),
        tenant,
        caller,
        trace,
        request_id: request_id.unwrap_or_default(),
        wait,
        path,
        query,
        body,
        idempotent,
        _memory: memory,
    })
}

/// Returns the shared state.
///
/// # Errors
/// `internal`, if the server was set up without the state.
pub(super) fn state_of(request: &HttpRequest) -> Result<&web::Data<ApiState>, ApiError> {
    request
        .app_data::<web::Data<ApiState>>()
        .ok_or_else(|| ApiError::new(INTERNAL, "the service is not set up"))
}

/// Returns the operation that a request asks for.
///
/// # Errors
/// `internal`, if the handler serves a path without a row in the route table.
pub(super) fn operation_of(request: &HttpRequest) -> Result<&'static ApiOperation, ApiError> {
    PathOperations::of(request).ok_or_else(|| ApiError::new(INTERNAL, "the path is not in the route table"))
}

async fn authenticate(request: &HttpRequest, state: &ApiState) -> Result<Arc<Caller>, ApiError> {
    let values = request.headers().get_all(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let verified = match bearer(values) {
        Ok(token) => state.verifier.verify(token).await,
        Err(rejection) => Err(rejection.into()),
    };
    Ok(verified.inspect_err(|rejected| {
        state.env.metrics.token_rejections.with_label_values(&[rejected.rejection.reason()]).inc();
    })?)
}

/// Checks that the tenant of a verified token is configured and that the token has the scope.
fn authorize(state: &ApiState, caller: &Caller, scope: Scope) -> Result<Arc<Tenant>, ApiError> {
    let refused = |refusal: Refusal, error: ApiError| {
        state.env.metrics.token_rejections.with_label_values(&[refusal.reason]).inc();
        error.with_refusal(refusal)
    };
    let issuer = || state.verifier.issuer(&caller.issuer);
    let Some(tenant) = state.tenants.get(&caller.tenant) else {
        let error = ApiError::new(UNKNOWN_TENANT, "the tenant of the token is not configured");
        return Err(refused(Refusal::unknown_tenant(caller, issuer()), error));
    };
    if !caller.scopes.contains(scope.as_str()) {
        let refusal = Refusal::insufficient_scope(caller, issuer());
        return Err(refused(refusal, insufficient_scope(scope.as_str())));
    }
    spans::export("tenant", tenant.id());
    Ok(tenant)
}

fn insufficient_scope(scope: &str) -> ApiError {
    let error = ApiError::new(INSUFFICIENT_SCOPE, format!("the token lacks the scope {scope}"));
    let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
    match HeaderValue::from_str(&challenge) {
        Ok(challenge) => error.with_header(header::WWW_AUTHENTICATE, challenge),
        Err(_) => error,
    }
}

/// Counts a request against the rate limit of its tenant, and counts the connection of the request against the connection limit
/// of the tenant. The middleware `observe` writes the number of remaining requests to the answer, whether the request succeeds
/// or not.
pub(super) fn take_turn(request: &HttpRequest, state: &ApiState, tenant: &TenantId) -> Result<(), ApiError> {
    let (remaining, outcome) = match state.limits.take(tenant) {
        Ok(remaining) => (remaining, Ok(())),
        Err(Exceeded { wait, remaining }) => {
            state.env.metrics.rate_limited.with_label_values(&[tenant.as_str()]).inc();
            let error = ApiError::new(RATE_LIMITED, "the tenant has sent too many requests");
            (Some(remaining), Err(error.with_retry_after(wait)))
        }
    };
    RequestContext::of(request, |context| {
        context.tenant = Some(tenant.clone());
        context.remaining = remaining;
    });
    outcome?;
    state.connections.count(request, tenant).map_err(|too_many| {
        state.env.metrics.overload_refusals.with_label_values(&[tenant.as_str(), "connections"]).inc();
        ApiError::new(RATE_LIMITED, too_many.to_string()).with_retry_after(Duration::from_secs(1))
    })
}
