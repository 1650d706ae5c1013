//! Problem responses that several operations share in the OpenAPI document.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{Ref, RefOr, Response};

use super::problem::{
    BODY_TOO_LARGE, BODY_TOO_SLOW, ENCRYPTION_NOT_CONFIGURED, IDEMPOTENCY_KEY_IN_USE, INSUFFICIENT_SCOPE,
    INTERNAL, INVALID_REQUEST, LINK_EXPIRED, MALFORMED_BODY, NO_RESULT, NOT_ACCEPTABLE, NOT_FOUND,
    PRECONDITION_FAILED, ProblemKind, RANGE_NOT_SATISFIABLE, RATE_LIMITED, UNAUTHORIZED, UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE, WEBHOOK_DISABLED,
};

/// A problem response, defined under `components/responses`.
pub(super) struct SharedProblem {
    pub(super) name: &'static str,
    /// The kind of problem that the example shows. The response has the status of this kind.
    pub(super) kind: &'static ProblemKind,
    pub(super) description: &'static str,
    /// A header of this response, in addition to the headers of every response.
    pub(super) header: Option<&'static str>,
}

const CHALLENGE: Option<&str> = Some("WWW-Authenticate");
const RETRY: Option<&str> = Some("Retry-After");

const fn problem(
    name: &'static str,
    kind: &'static ProblemKind,
    header: Option<&'static str>,
    description: &'static str,
) -> SharedProblem {
    SharedProblem { name, kind, description, header }
}

/// All shared problems.
pub(super) const PROBLEMS: [SharedProblem; 23] = [
    problem("Unauthorized", UNAUTHORIZED, CHALLENGE, "The token is missing or invalid."),
    problem(
        "Forbidden",
        INSUFFICIENT_SCOPE,
        CHALLENGE,
        "The token lacks a scope, or its tenant is not configured.",
    ),
    problem(
        "InvalidRequest",
        INVALID_REQUEST,
        None,
        "The request is invalid. `errors` names each field and its rule.",
    ),
    problem(
        "RateLimited",
        RATE_LIMITED,
        RETRY,
        "The tenant has exceeded its rate limit, has too many refreshes, event streams or connections (`rate_limited`), or has \
         too many expensive reads in progress (`too_many_reads`).",
    ),
    problem(
        "InternalError",
        INTERNAL,
        None,
        "The service has a fault (`internal`), or the stored record cannot be read (`unreadable_record`). Report the \
         `request_id` to the operator of the service.",
    ),
    problem(
        "Unavailable",
        UNAVAILABLE,
        RETRY,
        "A required component is unavailable, or a read took too long. Try again later.",
    ),
    problem("MalformedBody", MALFORMED_BODY, None, "The body is not valid JSON, or it ended early."),
    problem("BodyTimeout", BODY_TOO_SLOW, None, "The body did not arrive in time."),
    problem("BodyTooLarge", BODY_TOO_LARGE, None, "The body is too large."),
    problem(
        "UnsupportedMediaType",
        UNSUPPORTED_MEDIA_TYPE,
        None,
        "The body is not of type `application/json` in UTF-8 (for PATCH, `application/merge-patch+json` is also allowed), or it \
         has a content encoding.",
    ),
    problem("CallNotFound", NOT_FOUND, None, "Neither the gateway nor AloVoice has this call of the tenant."),
    problem("ResourceNotFound", NOT_FOUND, None, "The tenant has no such resource."),
    problem("LinkNotFound", NOT_FOUND, None, "The link is unknown, or the recording no longer exists."),
    problem("LinkExpired", LINK_EXPIRED, None, "The link has expired."),
    problem("NotAcceptable", NOT_ACCEPTABLE, None, "`Accept` excludes all available media types."),
    problem(
        "PreconditionFailed",
        PRECONDITION_FAILED,
        None,
        "The condition in `If-Match` or `If-Unmodified-Since` is false.",
    ),
    problem(
        "RangeNotSatisfiable",
        RANGE_NOT_SATISFIABLE,
        None,
        "The recording does not have the requested range.",
    ),
    problem(
        "EncryptionNotConfigured",
        ENCRYPTION_NOT_CONFIGURED,
        None,
        "The operator has configured no encryption key.",
    ),
    problem(
        "NoResult",
        NO_RESULT,
        RETRY,
        "The analysis has no result. If it is unfinished, `Retry-After` says when to try again.",
    ),
    problem(
        "WebhookConflict",
        WEBHOOK_DISABLED,
        None,
        "The state of the webhook does not allow the request; `code` says why (`webhook_disabled`, `webhook_limit`, \
         `webhook_sealed`, `replay_under_way`).",
    ),
    problem(
        "KeyConflict",
        IDEMPOTENCY_KEY_IN_USE,
        RETRY,
        "The request with this `Idempotency-Key` is in progress (`idempotency_key_in_use`), or its answer was not kept \
         (`idempotent_answer_not_kept`).",
    ),
    problem(
        "NoResultOrKeyConflict",
        NO_RESULT,
        RETRY,
        "The analysis has no result (`no_result`), or the request with this `Idempotency-Key` is in progress \
         (`idempotency_key_in_use`), or its answer was not kept (`idempotent_answer_not_kept`).",
    ),
    problem(
        "WebhookOrKeyConflict",
        WEBHOOK_DISABLED,
        RETRY,
        "The state of the webhook does not allow the request (`webhook_disabled`, `webhook_limit`, \
         `replay_under_way`), or the request with this `Idempotency-Key` is in progress (`idempotency_key_in_use`), or its \
         answer was not kept (`idempotent_answer_not_kept`).",
    ),
];

/// Returns a reference to a shared problem.
pub(super) fn shared_problem(name: &str) -> RefOr<Response> {
    RefOr::Ref(Ref::from_response_name(name))
}

/// Returns references to the problems with these names. The keys of the map are the HTTP statuses.
pub(super) fn references(names: &[&str]) -> BTreeMap<String, RefOr<Response>> {
    let known = PROBLEMS.iter().filter(|problem| names.contains(&problem.name));
    known.map(|problem| (problem.kind.status.as_str().to_owned(), shared_problem(problem.name))).collect()
}

/// Declares a set of shared problems for the rows of the route table.
macro_rules! problem_set {
    ($($(#[$doc:meta])* $set:ident = $($name:ident),+;)*) => {$(
        $(#[$doc])*
        pub struct $set;

        impl IntoResponses for $set {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                references(&[$(stringify!($name)),+])
            }
        }
    )*};
}

problem_set! {
    /// The result of an analysis is not available.
    NoResult = NoResult;
    /// No available media type is acceptable.
    NotAcceptable = NotAcceptable;
    /// The state of a webhook does not allow the request.
    WebhookConflict = WebhookConflict;
    /// The resource that the request names does not exist.
    ResourceNotFound = ResourceNotFound;
    /// The operation needs an encryption key.
    EncryptionNotConfigured = EncryptionNotConfigured;
    /// The problems of a request with a link.
    LinkProblems = LinkNotFound, LinkExpired, NoResult, EncryptionNotConfigured;
}
