//! The context of a request, which its middleware, its extractor and its audit entry share.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest};

use super::problem::{ApiError, INTERNAL};
use super::rate_limits::Remaining;
use crate::domain::ids::TenantId;
use crate::domain::trace::TraceContext;

/// The context of a request. All parts of the context are one entry in the extensions of the request. The map of the extensions
/// is new for each request, so a separate entry for each part would cost more.
#[derive(Debug)]
pub(super) struct RequestContext {
    /// The trace context of the request. Spans of later work become children of the request's span.
    pub(super) trace: TraceContext,
    /// The id of a request with an unsafe method; `None` for a safe method, which saves a copy of the id.
    pub(super) request_id: Option<String>,
    /// The tenant of the verified token or link; `None` before the verification. The answer uses this tenant's share of the
    /// memory budget.
    pub(super) tenant: Option<TenantId>,
    /// The state of the tenant's rate limit, until it is written to the answer.
    pub(super) remaining: Option<Remaining>,
}

impl RequestContext {
    /// Calls `part` with the context of a request, and returns the result. Every request has a context:
    /// [`observe`](super::observe::observe) creates it.
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
