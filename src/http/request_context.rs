//! The context of a request, which its middleware, its extractor and its audit entry share.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest};

use super::problem::{ApiError, INTERNAL};
use super::rate_limits::Remaining;
use crate::domain::ids::TenantId;
use crate::domain::trace::TraceContext;

/// The context of a request, in the extensions of the request. All parts share one value, which is cheaper than a separate
/// value for each part: each value must be inserted into the map of the extensions, which is new for each request.
#[derive(Debug)]
pub(super) struct RequestContext {
    /// The trace context. Later work becomes a child of its span.
    pub(super) trace: TraceContext,
    /// The id of a request with an unsafe method. Requests with a safe method avoid this copy.
    pub(super) request_id: Option<String>,
    /// The tenant of the verified token or link; `None` before the verification. The answer uses this tenant's share of the
    /// memory budget.
    pub(super) tenant: Option<TenantId>,
    /// The state of the tenant's rate limit, until it is written to the answer.
    pub(super) remaining: Option<Remaining>,
}

impl RequestContext {
    /// Returns a part of the context of a request. Every request has a context: [`observe`](super::observe::observe) creates it.
    pub(super) fn of<T>(request: &HttpRequest, part: impl FnOnce(&mut Self) -> T) -> Option<T> {
        request.extensions_mut().get_mut().map(part)
    }
}

/// The trace context of a request, as an extractor.
#[derive(Debug, Clone, Copy)]
pub struct RequestTrace(pub TraceContext);

impl FromRequest for RequestTrace {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let known = RequestContext::of(request, |context| Self(context.trace));
        ready(known.ok_or_else(|| ApiError::new(INTERNAL, "the request has no trace").into()))
    }
}
