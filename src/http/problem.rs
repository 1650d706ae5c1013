//! Errors as callers see them: RFC 9457 `application/problem+json`.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

pub use super::problem_kinds::*;
use super::refusals::Refusal;
use crate::domain::public_url::PublicUrl;

/// An invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// A JSON pointer into the body (`#/callback/url`), `?name` for a query parameter, `{name}` for a path parameter, or the
    /// name of a header.
    #[schema(example = "#/call_id")]
    pub pointer: String,
    /// The rule that the field breaks.
    #[schema(example = "must have 1 to 128 characters, has 0")]
    pub detail: String,
}

/// An error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Link to a page that explains this kind of problem: a path of this service, or a full URL if the operator configured
    /// `server.public_url`.
    #[schema(example = "/problems/invalid_request")]
    pub r#type: String,
    /// The kind of problem. Programs should use this field.
    #[schema(example = "invalid_request")]
    pub code: &'static str,
    /// A short summary of the kind.
    #[schema(example = "Invalid request")]
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    pub status: u16,
    /// The cause of this problem.
    pub detail: String,
    /// The id of the request, as in the logs of the service.
    pub request_id: String,
    /// The invalid fields, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 1000)]
    pub errors: Vec<FieldError>,
}

/// An error that becomes the answer of a request.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", kind.code)]
pub struct ApiError {
    kind: &'static ProblemKind,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    refusal: Option<Box<Refusal>>,
}

impl ApiError {
    /// Creates a problem of this kind, with the cause in `detail`.
    pub fn new(kind: &'static ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), headers: Vec::new(), refusal: None }
    }

    /// Creates an `invalid_request` problem with these fields.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{} {}", only.pointer, only.detail),
            several => format!("{} fields are invalid", several.len()),
        };
        Self { errors, ..Self::new(INVALID_REQUEST, detail) }
    }

    /// Adds the fields that caused the problem.
    pub(super) fn with_errors(self, errors: Vec<FieldError>) -> Self {
        Self { errors, ..self }
    }

    /// Creates an `invalid_request` problem with one field.
    pub fn invalid_field(pointer: impl Into<String>, detail: &(impl std::fmt::Display + ?Sized)) -> Self {
        Self::invalid(vec![FieldError { pointer: pointer.into(), detail: detail.to_string() }])
    }

    /// Creates a `method_not_allowed` problem with the header `Allow`.
    pub fn method_not_allowed(allowed: &HeaderValue) -> Self {
        let methods = String::from_utf8_lossy(allowed.as_bytes());
        Self::new(METHOD_NOT_ALLOWED, format!("the path supports {methods}"))
            .with_header(header::ALLOW, allowed.clone())
    }

    /// Adds a header to the answer.
    pub fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds a `Retry-After` header, rounded up to seconds.
    pub fn with_retry_after(self, after: Duration) -> Self {
        self.with_header(header::RETRY_AFTER, retry_after(after))
    }

    /// Adds the details of a refused request for the log.
    pub(super) fn with_refusal(self, refusal: Refusal) -> Self {
        Self { refusal: Some(Box::new(refusal)), ..self }
    }

    /// Returns the details of a refused request for the log, with the cause of the problem. Returns `None` unless the status is
    /// 401 or 403.
    pub(super) fn refusal(&self) -> Option<(Refusal, &str)> {
        if !matches!(self.kind.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return None;
        }
        let refusal = self.refusal.as_deref().cloned();
        Some((refusal.unwrap_or_else(|| Refusal::without_token(self.kind.code)), &self.detail))
    }

    /// Puts `pointer` before the pointers of the errors. `pointer` has no `#`.
    pub fn within(mut self, pointer: &str) -> Self {
        let was_invalid = self.kind == INVALID_REQUEST;
        for error in &mut self.errors {
            if let Some(rest) = error.pointer.strip_prefix('#') {
                error.pointer = format!("#{pointer}{rest}");
            }
        }
        if was_invalid { Self { headers: self.headers, ..Self::invalid(self.errors) } } else { self }
    }

    /// Returns the complete HTTP answer with the problem.
    pub fn respond(&self, request_id: &str, public_url: &PublicUrl) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.kind.status);
        for (name, value) in &self.headers {
            response.append_header((name.clone(), value.clone()));
        }
        let body = serde_json::to_vec(&self.problem(request_id, public_url)).unwrap_or_default();
        response.content_type("application/problem+json").body(body)
    }

    /// Returns the body of the answer.
    pub fn problem(&self, request_id: &str, public_url: &PublicUrl) -> Problem {
        Problem {
            r#type: public_url.link(&format!("/problems/{}", self.kind.code)),
            code: self.kind.code,
            title: self.kind.title,
            status: self.kind.status.as_u16(),
            detail: self.detail.clone(),
            request_id: request_id.to_owned(),
            errors: self.errors.clone(),
        }
    }
}

/// Returns the value of `Retry-After` for a duration.
pub fn retry_after(after: Duration) -> HeaderValue {
    HeaderValue::from(whole_seconds(after))
}

/// Returns the duration in whole seconds, rounded up, at least one.
pub fn whole_seconds(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    seconds.max(1)
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.kind.status
    }

    /// Returns a preliminary answer. The middleware [`super::observe`] replaces it with one that has the request id and links.
    fn error_response(&self) -> HttpResponse {
        self.respond("", &PublicUrl::default())
    }
}
