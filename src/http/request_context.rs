//! The trace and the id of a request, which the middleware leaves in the extensions of the request.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest};

use super::problem::{ApiError, INTERNAL};
use crate::domain::trace::TraceContext;

/// The trace context of a request. Later work is a child of the span in it.
#[derive(Debug, Clone, Copy)]
pub struct RequestTrace(pub TraceContext);

impl FromRequest for RequestTrace {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let known = request.extensions().get::<Self>().copied();
        ready(known.ok_or_else(|| ApiError::new(INTERNAL, "the request has no trace").into()))
    }
}

/// The id of a request with an unsafe method. Requests with a safe method avoid this copy.
#[derive(Debug, Clone)]
pub struct RequestName(pub String);
