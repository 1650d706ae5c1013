//! The mapping of errors of the inner layers to problems. Each match is exhaustive.

use std::time::Duration;

use actix_web::http::header::{self, HeaderValue};

use super::problem::{
    ApiError, CALLBACK_FORBIDDEN, ENCRYPTION_NOT_CONFIGURED, FieldError, INTERNAL, NO_RESULT, NOT_FOUND,
    RATE_LIMITED, READ_TIMEOUT, REPLAY_UNDER_WAY, TOO_MANY_READS, UNAUTHORIZED, UNAVAILABLE,
    UNREADABLE_RECORD, WEBHOOK_DISABLED, WEBHOOK_LIMIT, WEBHOOK_SEALED,
};
use super::refusals::Refusal;
use crate::analyses::{AnalysesError, MemoryUsedUp, TooManyStreams, WebhooksError};
use crate::auth::{RejectedToken, Rejection};
use crate::domain::field_problem::FieldProblem;
use crate::domain::webhooks::MAX_WEBHOOKS;
use crate::store::{ScanRefusal, StoreError};

impl ApiError {
    /// Creates the problem of an operation that needs an encryption key, if no key is configured.
    pub(super) fn encryption_not_configured() -> Self {
        Self::new(ENCRYPTION_NOT_CONFIGURED, "the operator must configure encryption.key_file")
    }

    /// Creates the problem of a transform with an invalid field.
    fn invalid_transform(pointer: &str, problem: &FieldProblem) -> Self {
        Self::invalid_field(format!("{pointer}{}", problem.pointer), &problem.detail)
    }

    fn callback_forbidden(pointer: &str, forbidden: &impl ToString) -> Self {
        let detail = forbidden.to_string();
        let field = FieldError { pointer: pointer.to_owned(), detail: detail.clone() };
        Self::new(CALLBACK_FORBIDDEN, detail).with_errors(vec![field])
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        RejectedToken::from(rejection).into()
    }
}

impl From<RejectedToken> for ApiError {
    fn from(rejected: RejectedToken) -> Self {
        let rejection = rejected.rejection;
        if rejection.is_unavailable() {
            return Self::new(UNAVAILABLE, rejection.to_string()).with_retry_after(Duration::from_secs(5));
        }
        let challenge = match rejection.error() {
            None => "Bearer".to_owned(),
            Some(error) => format!("Bearer error=\"{error}\", error_description=\"{rejection}\""),
        };
        let error = Self::new(UNAUTHORIZED, rejection.to_string()).with_refusal(Refusal::of_token(rejected));
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
            AnalysesError::NotRendered(reasons) => {
                let field = |detail| FieldError { pointer: "{preset}".to_owned(), detail };
                Self::invalid(reasons.into_iter().map(field).collect())
            }
            AnalysesError::TooManyRefreshes => {
                Self::new(RATE_LIMITED, error.to_string()).with_retry_after(Duration::from_secs(5))
            }
            AnalysesError::CallbackForbidden(forbidden) => {
                Self::callback_forbidden("#/callback/url", &forbidden)
            }
            AnalysesError::Template(problem) => Self::invalid_transform("#/callback/transform", &problem),
            AnalysesError::NoCallbackSecret => Self::invalid_field(
                "#/callback",
                "is not possible: the tenant has no callback secret, and callbacks must be signed",
            ),
            AnalysesError::VendorUnavailable { retry_after } => {
                Self::new(UNAVAILABLE, "AloVoice is unavailable, and the request needs it")
                    .with_retry_after(retry_after.unwrap_or(Duration::from_secs(5)))
            }
            AnalysesError::MemoryUsedUp(error) => error.into(),
            AnalysesError::Store(error) => error.into(),
        }
    }
}

impl From<WebhooksError> for ApiError {
    fn from(error: WebhooksError) -> Self {
        match error {
            WebhooksError::NotFound(what) => Self::new(NOT_FOUND, format!("there is no {what} with this id")),
            WebhooksError::NotConfigured => Self::encryption_not_configured(),
            WebhooksError::Forbidden(forbidden) => Self::callback_forbidden("#/url", &forbidden),
            WebhooksError::Template(problem) => Self::invalid_transform("#/transform", &problem),
            WebhooksError::Headers(rule) => Self::invalid_field("#/headers", &rule),
            WebhooksError::BurstWithoutRate => {
                Self::invalid_field("#/burst", "needs a rate, and neither the webhook nor its preset has one")
            }
            WebhooksError::TooMany => {
                Self::new(WEBHOOK_LIMIT, format!("a tenant can have {MAX_WEBHOOKS} webhooks"))
            }
            WebhooksError::Disabled => {
                Self::new(WEBHOOK_DISABLED, "the webhook is disabled and receives nothing")
            }
            WebhooksError::ReplayUnderWay => {
                Self::new(REPLAY_UNDER_WAY, "a replay to this webhook is in progress")
            }
            WebhooksError::Unopenable => {
                Self::new(WEBHOOK_SEALED, "the custom headers of the webhook cannot be decrypted")
            }
            WebhooksError::InvalidCursor(error) => Self::invalid_field("?cursor", &error),
            WebhooksError::MemoryUsedUp(error) => error.into(),
            WebhooksError::Store(error) => error.into(),
        }
    }
}

impl From<TooManyStreams> for ApiError {
    fn from(error: TooManyStreams) -> Self {
        Self::new(RATE_LIMITED, error.to_string()).with_retry_after(Duration::from_secs(10))
    }
}

impl From<MemoryUsedUp> for ApiError {
    fn from(error: MemoryUsedUp) -> Self {
        Self::new(UNAVAILABLE, error.to_string()).with_retry_after(Duration::from_secs(1))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(source) => {
                tracing::error!(error = %source, "store unavailable");
                Self::new(UNAVAILABLE, "the store is unavailable").with_retry_after(Duration::from_secs(1))
            }
            StoreError::Rejected(source) => {
                tracing::error!(error = %source, "store rejected a statement");
                Self::new(INTERNAL, "the store rejected the data")
            }
            StoreError::FileLost(reason) => {
                tracing::error!(error = reason, "request refused: the store file is lost");
                let detail = "the database file of the store was removed or replaced: the operator must act";
                Self::new(UNAVAILABLE, detail).with_retry_after(Duration::from_secs(30))
            }
            StoreError::Refused(refusal) => {
                let (kind, retry_after) = match refusal {
                    ScanRefusal::TenantLimit => (TOO_MANY_READS, Duration::from_secs(1)),
                    ScanRefusal::Deadline(_) => (READ_TIMEOUT, Duration::from_secs(5)),
                };
                Self::new(kind, refusal.to_string()).with_retry_after(retry_after)
            }
            StoreError::Corrupt(message) => {
                tracing::error!(error = message, "failed to read a stored record");
                let detail = "the stored record cannot be read by this version of the service";
                Self::new(UNREADABLE_RECORD, detail)
            }
            StoreError::LeaseLost => Self::new(INTERNAL, "a record was changed by another process"),
        }
    }
}
