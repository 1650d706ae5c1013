//! Errors as callers see them: RFC 9457 `application/problem+json`, from one table.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::analyses::{AnalysesError, TooManyStreams, WebhooksError};
use crate::auth::Rejection;
use crate::domain::webhooks::MAX_WEBHOOKS;
use crate::store::StoreError;

/// A kind of problem: its page is at `/problems/{code}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemKind {
    /// The last part of its `type`.
    pub code: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// A short name.
    pub title: &'static str,
    /// What it means and what to do, for its page.
    pub advice: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $code:literal, $status:ident, $title:literal, $advice:literal;)*) => {
        $(#[doc = $title] pub const $name: &ProblemKind = &ProblemKind {
            code: $code, status: StatusCode::$status, title: $title, advice: $advice,
        };)*
        /// Every kind there is.
        pub const ALL: &[&ProblemKind] = &[$($name),*];
    };
}

kinds! {
    INVALID_REQUEST = "invalid_request", UNPROCESSABLE_ENTITY, "The request breaks a rule",
        "Each entry of `errors` names a field (a JSON pointer into the body, `?name` for a query parameter, `{name}` \
         for a part of the path, a header's name) and the rule it breaks. Mend the request; sending it again as it is will not help.";
    MALFORMED_BODY = "malformed_body", BAD_REQUEST, "The body is not JSON",
        "The body could not be read as JSON. `detail` says where it went wrong.";
    MALFORMED_REQUEST = "malformed_request", BAD_REQUEST, "The request is not HTTP as it should be",
        "The request's head could not be read as HTTP. Look at what stands between you and this service.";
    CALLBACK_FORBIDDEN = "callback_forbidden", UNPROCESSABLE_ENTITY, "The callback may not go there",
        "Callbacks go to public addresses over https only, unless the operator of this service allows more.";
    UNAUTHORIZED = "unauthorized", UNAUTHORIZED, "A valid token is required",
        "Send exactly one header `Authorization: Bearer <JWT>` with a token that is valid now. `WWW-Authenticate` says \
         what was wrong with the one that came.";
    INSUFFICIENT_SCOPE = "insufficient_scope", FORBIDDEN, "The token lacks a scope",
        "Ask the issuer for a token with the scope that `WWW-Authenticate` names.";
    UNKNOWN_TENANT = "unknown_tenant", FORBIDDEN, "The tenant is not known here",
        "The token is valid, but the tenant it names is not configured. Ask the operator of this service.";
    CORS_REFUSED = "cors_refused", FORBIDDEN, "A page may not ask for that",
        "A browser asked on behalf of a page whether it may call this service, and it may not: its origin is not among those \
         that the operator allows, or the method or a header is none that this service takes.";
    NOT_FOUND = "not_found", NOT_FOUND, "There is no such thing",
        "Neither this service nor the vendor has it for your tenant, or the path is misspelt.";
    METHOD_NOT_ALLOWED = "method_not_allowed", METHOD_NOT_ALLOWED, "The path does not take this method",
        "The header `Allow` lists the methods it takes.";
    NOT_ACCEPTABLE = "not_acceptable", NOT_ACCEPTABLE, "It is not there in a form that is accepted",
        "`Accept` refuses every form there is; `detail` lists them. Ask for one of them, or for `*/*`.";
    LINK_EXPIRED = "link_expired", GONE, "The link has expired",
        "Ask for a new one with `POST /v1/analyses/{call_id}/audio-link`.";
    NO_RESULT = "no_result", CONFLICT, "There is no result",
        "The analysis is not finished, or has failed. While it is under way, `Retry-After` says when to ask again.";
    WEBHOOK_DISABLED = "webhook_disabled", CONFLICT, "The webhook is disabled",
        "Nothing is sent to it: enable it first, with PATCH and `{\"enabled\": true}`.";
    WEBHOOK_LIMIT = "webhook_limit", CONFLICT, "There are as many webhooks as there may be",
        "Delete one that is not needed any more. One webhook can take every type of event.";
    REPLAY_UNDER_WAY = "replay_under_way", CONFLICT, "Another replay is under way",
        "A webhook has one replay at a time. Wait until the one before is finished.";
    WEBHOOK_SEALED = "webhook_sealed", CONFLICT, "The headers that were kept cannot be opened",
        "The key that sealed them is gone from this service. Take all headers away with `{\"headers\": null}` and set them \
         anew, or ask the operator for the key.";
    BODY_TOO_LARGE = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large",
        "Send less at once; `detail` says how much is taken.";
    BODY_TOO_SLOW = "body_too_slow", REQUEST_TIMEOUT, "The body came too slowly",
        "Send the whole body at once.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body is not of type JSON",
        "Send `Content-Type: application/json`, in UTF-8 and without a content encoding.";
    PRECONDITION_FAILED = "precondition_failed", PRECONDITION_FAILED, "It is not in the state that was asked for",
        "The condition in `If-Match` or `If-Unmodified-Since` does not hold.";
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable", RANGE_NOT_SATISFIABLE, "There is no such part",
        "`Content-Range` tells how long the whole is.";
    RATE_LIMITED = "rate_limited", TOO_MANY_REQUESTS, "Too many requests",
        "Your tenant asks for more than it may. `Retry-After` says when the next request will be taken.";
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The key belongs to another request",
        "An `Idempotency-Key` stands for one request: method, path and body. Give another request a key of its own.";
    IDEMPOTENCY_KEY_IN_USE = "idempotency_key_in_use", CONFLICT, "The same request is under way",
        "A request with this `Idempotency-Key` has not been answered yet. Send it again after `Retry-After`, as it is.";
    IDEMPOTENT_ANSWER_NOT_KEPT = "idempotent_answer_not_kept", CONFLICT, "It was done, and its answer is not kept",
        "A request with this `Idempotency-Key` was done before. Its answer was too large to be kept, told of a call \
         that was deleted since, or was sealed with a key that is no longer there. Ask for what it made with GET; to \
         have it done once more, send it with a new key.";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "Something broke here",
        "This is a fault of the service. Give its operator the `request_id`.";
    ENCRYPTION_NOT_CONFIGURED = "encryption_not_configured", NOT_IMPLEMENTED, "This service has no key to seal with",
        "The operation seals what it keeps or hands out. The operator has to set `encryption.key_file`.";
    UNAVAILABLE = "unavailable", SERVICE_UNAVAILABLE, "Not available now",
        "Something that is needed for this request cannot be reached. Nothing was lost: try again after `Retry-After`.";
}

/// Where a request breaks which rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// A JSON pointer into the body (`#/callback/url`), `?name` for a query parameter, `{name}` for a part of the path.
    #[schema(example = "#/call_id")]
    pub pointer: String,
    /// The rule.
    #[schema(example = "must have 1 to 128 characters, has 0")]
    pub detail: String,
}

/// The body of an error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// A page that explains this kind of problem.
    #[schema(example = "/problems/invalid_request")]
    pub r#type: String,
    /// The kind, for programs.
    #[schema(example = "invalid_request")]
    pub code: &'static str,
    /// The kind, for people.
    #[schema(example = "The request breaks a rule")]
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// The request, as it is named in the logs.
    pub request_id: String,
    /// For bad input: each field and its rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 1000)]
    pub errors: Vec<FieldError>,
}

/// An error on its way to the caller.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", kind.code)]
pub struct ApiError {
    kind: &'static ProblemKind,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl ApiError {
    /// A problem of this kind.
    pub fn new(kind: &'static ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), headers: Vec::new() }
    }

    /// Bad input.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{} {}", only.pointer, only.detail),
            several => format!("{} fields break a rule", several.len()),
        };
        Self { errors, ..Self::new(INVALID_REQUEST, detail) }
    }

    /// Bad input in one place.
    pub fn invalid_field(pointer: impl Into<String>, detail: &(impl std::fmt::Display + ?Sized)) -> Self {
        Self::invalid(vec![FieldError { pointer: pointer.into(), detail: detail.to_string() }])
    }

    /// A method that the path does not take.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        Self::new(METHOD_NOT_ALLOWED, format!("the path takes {allowed}"))
            .with_header(header::ALLOW, HeaderValue::from_static(allowed))
    }

    /// Adds a header, if its value can be one.
    pub fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says when to try again, in whole seconds and at least one.
    pub fn with_retry_after(self, after: Duration) -> Self {
        self.with_header(header::RETRY_AFTER, retry_after(after))
    }

    /// The same in a part of the body, whose pointer is given without `#`.
    pub fn within(mut self, pointer: &str) -> Self {
        let was_invalid = self.kind == INVALID_REQUEST;
        for error in &mut self.errors {
            if let Some(rest) = error.pointer.strip_prefix('#') {
                error.pointer = format!("#{pointer}{rest}");
            }
        }
        if was_invalid { Self { headers: self.headers, ..Self::invalid(self.errors) } } else { self }
    }

    /// The whole answer.
    pub fn respond(&self, request_id: &str) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.kind.status);
        for (name, value) in &self.headers {
            response.append_header((name.clone(), value.clone()));
        }
        let body = serde_json::to_vec(&self.problem(request_id)).unwrap_or_default();
        response.content_type("application/problem+json").body(body)
    }

    /// The body of the answer.
    pub fn problem(&self, request_id: &str) -> Problem {
        Problem {
            r#type: format!("/problems/{}", self.kind.code),
            code: self.kind.code,
            title: self.kind.title,
            status: self.kind.status.as_u16(),
            detail: self.detail.clone(),
            request_id: request_id.to_owned(),
            errors: self.errors.clone(),
        }
    }
}

/// `Retry-After` in whole seconds.
pub fn retry_after(after: Duration) -> HeaderValue {
    HeaderValue::from(whole_seconds(after))
}

/// Rounded up, at least one.
pub fn whole_seconds(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    seconds.max(1)
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.kind.status
    }

    /// The middleware [`super::observe`] answers again, with the request's id.
    fn error_response(&self) -> HttpResponse {
        self.respond("")
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        if rejection.is_unavailable() {
            return Self::new(UNAVAILABLE, rejection.to_string()).with_retry_after(Duration::from_secs(5));
        }
        let challenge = match rejection.error() {
            None => "Bearer".to_owned(),
            Some(error) => format!("Bearer error=\"{error}\", error_description=\"{rejection}\""),
        };
        let error = Self::new(UNAUTHORIZED, rejection.to_string());
        match HeaderValue::from_str(&challenge) {
            Ok(challenge) => error.with_header(header::WWW_AUTHENTICATE, challenge),
            Err(_) => error,
        }
    }
}

impl From<AnalysesError> for ApiError {
    fn from(error: AnalysesError) -> Self {
        match error {
            AnalysesError::NotFound => Self::new(NOT_FOUND, "there is no analysis of this call"),
            AnalysesError::InvalidCursor(error) => Self::invalid_field("?cursor", &error),
            AnalysesError::NoRecording => Self::new(NOT_FOUND, "there is no recording of this call"),
            AnalysesError::NoResult { status, retry_after } => {
                let problem = Self::new(NO_RESULT, format!("the analysis is {}", status.as_str()));
                match retry_after {
                    Some(after) => problem.with_retry_after(after),
                    None => problem,
                }
            }
            AnalysesError::CallbackForbidden(forbidden) => {
                let field =
                    FieldError { pointer: "#/callback/url".to_owned(), detail: forbidden.to_string() };
                Self { errors: vec![field], ..Self::new(CALLBACK_FORBIDDEN, forbidden.to_string()) }
            }
            AnalysesError::NoCallbackSecret => Self::invalid_field(
                "#/callback",
                "cannot be taken: no callback secret is configured for the tenant, and callbacks are signed",
            ),
            AnalysesError::VendorUnavailable { retry_after } => {
                Self::new(UNAVAILABLE, "the vendor has to be asked for this, and cannot be now")
                    .with_retry_after(retry_after.unwrap_or(Duration::from_secs(5)))
            }
            AnalysesError::Store(error) => error.into(),
        }
    }
}

impl From<WebhooksError> for ApiError {
    fn from(error: WebhooksError) -> Self {
        match error {
            WebhooksError::NotFound(what) => Self::new(NOT_FOUND, format!("there is no {what} of this id")),
            WebhooksError::NotConfigured => Self::new(
                ENCRYPTION_NOT_CONFIGURED,
                "the operator of this service has to set encryption.key_file",
            ),
            WebhooksError::Forbidden(forbidden) => {
                let field = FieldError { pointer: "#/url".to_owned(), detail: forbidden.to_string() };
                Self { errors: vec![field], ..Self::new(CALLBACK_FORBIDDEN, forbidden.to_string()) }
            }
            WebhooksError::Headers(rule) => Self::invalid_field("#/headers", &rule),
            WebhooksError::TooMany => {
                Self::new(WEBHOOK_LIMIT, format!("a tenant may have {MAX_WEBHOOKS} webhooks"))
            }
            WebhooksError::Disabled => Self::new(WEBHOOK_DISABLED, "nothing is sent while it is disabled"),
            WebhooksError::ReplayUnderWay => {
                Self::new(REPLAY_UNDER_WAY, "an earlier replay to this webhook is not finished")
            }
            WebhooksError::Unopenable => {
                Self::new(WEBHOOK_SEALED, "no key of this service opens the headers that were kept")
            }
            WebhooksError::InvalidCursor(error) => Self::invalid_field("?cursor", &error),
            WebhooksError::Store(error) => error.into(),
        }
    }
}

impl From<TooManyStreams> for ApiError {
    fn from(error: TooManyStreams) -> Self {
        Self::new(RATE_LIMITED, error.to_string()).with_retry_after(Duration::from_secs(10))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(source) => {
                tracing::error!(error = %source, "the store cannot be used");
                Self::new(UNAVAILABLE, "the store cannot be used now")
                    .with_retry_after(Duration::from_secs(1))
            }
            StoreError::Corrupt(message) => {
                tracing::error!(error = message, "the store holds a value that cannot be read");
                Self::new(INTERNAL, "a record cannot be read")
            }
            StoreError::LeaseLost => Self::new(INTERNAL, "a record changed under way"),
        }
    }
}
