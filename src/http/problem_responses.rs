//! The errors that operations share, for the OpenAPI document.

use utoipa::IntoResponses;

use super::problem::Problem;

/// What every operation with a token can answer.
#[derive(IntoResponses)]
pub enum CommonProblems {
    /// A valid token is required; `WWW-Authenticate` says what was wrong with the one that came.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// The token lacks a scope, or its tenant is not configured here.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// The request breaks a rule; `errors` names each field and its rule.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
    /// The tenant asks for more than it may; `Retry-After` says when to try again.
    #[response(status = 429, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds")))]
    RateLimited(Problem),
    /// A fault of the service.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(Problem),
    /// Something that is needed cannot be reached now; `Retry-After` says when to try again.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds")))]
    Unavailable(Problem),
}

/// What operations with a body can answer besides.
#[derive(IntoResponses)]
pub enum BodyProblems {
    /// The body is not JSON.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(Problem),
    /// The body came too slowly.
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(Problem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The body is not of type `application/json`.
    #[response(status = 415, content_type = "application/problem+json")]
    Unsupported(Problem),
}

/// What can be answered to who comes with a link.
#[derive(IntoResponses)]
pub enum LinkProblems {
    /// There is no such link, or the recording is not there any more.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// The call is being analysed anew and has no result now.
    #[response(status = 409, content_type = "application/problem+json")]
    NoResult(Problem),
    /// The link has expired.
    #[response(status = 410, content_type = "application/problem+json")]
    Expired(Problem),
    /// The request has query parameters, and may not.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
    /// The link's tenant asks for more than it may; `Retry-After` says when to try again.
    #[response(status = 429, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds")))]
    RateLimited(Problem),
    /// A fault of the service.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(Problem),
    /// The operator has set no `encryption.key_file`: there are no links.
    #[response(status = 501, content_type = "application/problem+json")]
    NoKeys(Problem),
    /// Something that is needed cannot be reached now; `Retry-After` says when to try again.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds")))]
    Unavailable(Problem),
}

/// What operations that are done once can answer besides.
#[derive(IntoResponses)]
pub enum KeyProblems {
    /// The `Idempotency-Key` is in the way.
    #[response(status = 409, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds")))]
    InUse(Problem),
}

/// What operations on one call can answer besides.
#[derive(IntoResponses)]
pub enum CallProblems {
    /// Neither this service nor the vendor has this call for the tenant.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
}

/// What operations on a call's result can answer besides.
#[derive(IntoResponses)]
pub enum ResultProblems {
    /// The analysis is unfinished or has failed; while it is under way, `Retry-After` says when to ask again.
    #[response(status = 409, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds")))]
    NoResult(Problem),
}

/// What operations on something that was made here can answer besides.
#[derive(IntoResponses)]
pub enum NotFoundProblems {
    /// The tenant has no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
}

/// What operations on a webhook can answer besides.
#[derive(IntoResponses)]
pub enum ConflictProblems {
    /// It cannot be done as things stand; `code` says why.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
}

/// What operations that seal something can answer besides.
#[derive(IntoResponses)]
pub enum SealingProblems {
    /// The operator of this service set no key to seal with.
    #[response(status = 501, content_type = "application/problem+json")]
    NotConfigured(Problem),
}
