//! The kinds of problems. One table has the code, the status, the title and the advice of each kind.

use actix_web::http::StatusCode;

/// A kind of problem. The page `/problems/{code}` explains the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemKind {
    /// The last segment of the URL in the field `type` of a problem.
    pub code: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// A short summary.
    pub title: &'static str,
    /// The cause of the problem, and the actions that help the caller. The page of the problem shows this text.
    pub advice: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $code:literal, $status:ident, $title:literal, $advice:literal;)*) => {
        $(#[doc = $title] pub const $name: &ProblemKind = &ProblemKind {
            code: $code, status: StatusCode::$status, title: $title, advice: $advice,
        };)*
        /// All kinds of problems.
        pub const ALL: &[&ProblemKind] = &[$($name),*];
    };
}

kinds! {
    INVALID_REQUEST = "invalid_request", UNPROCESSABLE_ENTITY, "Invalid request",
        "Each entry of `errors` names a field and the rule it breaks. The field is a JSON pointer into the body, `?name` for a \
         query parameter, `{name}` for a path parameter, or the name of a header. Correct the request before you send it again.";
    MALFORMED_BODY = "malformed_body", BAD_REQUEST, "Malformed body",
        "The body is not valid JSON. `detail` says where parsing failed.";
    MALFORMED_REQUEST = "malformed_request", BAD_REQUEST, "Malformed HTTP request",
        "The head of the request is not valid HTTP. Check your client and the proxies in front of this service.";
    CALLBACK_FORBIDDEN = "callback_forbidden", UNPROCESSABLE_ENTITY, "Forbidden callback URL",
        "The URL must use https and lead to a public address, unless the operator of this service allows other addresses.";
    UNAUTHORIZED = "unauthorized", UNAUTHORIZED, "Authentication required",
        "Send one header `Authorization: Bearer <JWT>` with a valid token. `WWW-Authenticate` says why the token of the request \
         was rejected.";
    INSUFFICIENT_SCOPE = "insufficient_scope", FORBIDDEN, "Insufficient scope",
        "Get a token with the scope that `WWW-Authenticate` names.";
    UNKNOWN_TENANT = "unknown_tenant", FORBIDDEN, "Unknown tenant",
        "The token is valid, but its tenant is not configured. Contact the operator of this service.";
    CORS_REFUSED = "cors_refused", FORBIDDEN, "Cross-origin request refused",
        "A web page of another origin called this service from a browser. The operator does not allow this origin, or the \
         method or a header is not supported.";
    NOT_FOUND = "not_found", NOT_FOUND, "Not found",
        "Neither this service nor AloVoice has this resource for your tenant, or the path is wrong.";
    METHOD_NOT_ALLOWED = "method_not_allowed", METHOD_NOT_ALLOWED, "Method not allowed",
        "The header `Allow` lists the methods of the path.";
    NOT_ACCEPTABLE = "not_acceptable", NOT_ACCEPTABLE, "No acceptable media type",
        "`Accept` excludes all available media types. Request one of those that `detail` lists, or `*/*`.";
    LINK_EXPIRED = "link_expired", GONE, "Link expired",
        "Create a new link with `POST /v1/analyses/{call_id}/audio-link`.";
    NO_RESULT = "no_result", CONFLICT, "No result available",
        "The analysis is unfinished or has failed. If it is unfinished, `Retry-After` says when to try again.";
    WEBHOOK_DISABLED = "webhook_disabled", CONFLICT, "Webhook disabled",
        "A disabled webhook receives nothing. Enable it with PATCH and `{\"enabled\": true}`.";
    WEBHOOK_LIMIT = "webhook_limit", CONFLICT, "Too many webhooks",
        "Delete a webhook that you no longer need. One webhook can receive all types of events.";
    REPLAY_UNDER_WAY = "replay_under_way", CONFLICT, "Replay in progress",
        "A webhook has one replay at a time. Wait until the current one has finished.";
    WEBHOOK_SEALED = "webhook_sealed", CONFLICT, "Custom headers cannot be decrypted",
        "This service no longer has the key that encrypted the custom headers. Remove them with `{\"headers\": null}` and set \
         them again, or ask the operator to restore the key.";
    BODY_TOO_LARGE = "body_too_large", PAYLOAD_TOO_LARGE, "Body too large",
        "Send less data in one request. `detail` states the limit.";
    BODY_TOO_SLOW = "body_too_slow", REQUEST_TIMEOUT, "Body timeout",
        "The body did not arrive in time. Send it without pauses.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "Unsupported media type",
        "Send `Content-Type: application/json` in UTF-8, without a content encoding.";
    PRECONDITION_FAILED = "precondition_failed", PRECONDITION_FAILED, "Precondition failed",
        "The condition in `If-Match` or `If-Unmodified-Since` is false.";
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable", RANGE_NOT_SATISFIABLE, "Range not satisfiable",
        "The requested range is outside the recording. `Content-Range` states the length of the recording.";
    RATE_LIMITED = "rate_limited", TOO_MANY_REQUESTS, "Rate limit exceeded",
        "Your tenant has exceeded its rate limit, or has too many refreshes, event streams or connections. Wait as long as `Retry-After` says.";
    TOO_MANY_READS = "too_many_reads", TOO_MANY_REQUESTS, "Too many expensive reads",
        "Your tenant has too many lists, searches, pages of events or statistics in progress at the same time. Send fewer of them \
         in parallel, and wait as long as `Retry-After` says.";
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "Idempotency key reused",
        "An `Idempotency-Key` belongs to one request with its method, path and body. Use a new key for a different request.";
    IDEMPOTENCY_KEY_IN_USE = "idempotency_key_in_use", CONFLICT, "Idempotency key in use",
        "The first request with this `Idempotency-Key` is still in progress. Send the same request again after `Retry-After`.";
    IDEMPOTENT_ANSWER_NOT_KEPT = "idempotent_answer_not_kept", CONFLICT, "Answer no longer available",
        "The request with this `Idempotency-Key` was executed, but its answer is not available: it was too large, it described a \
         call that has been deleted, or the key that encrypted it is no longer configured. Read the resource with GET, or \
         use a new key to execute the request again.";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "Internal error",
        "This is a fault of the service. Report the `request_id` to its operator.";
    UNREADABLE_RECORD = "unreadable_record", INTERNAL_SERVER_ERROR, "Unreadable record",
        "This version of the service cannot read the stored record, because a later version wrote it or because it is damaged. Other \
         records are not affected. DELETE removes it. Otherwise report the `request_id` to the operator of this service.";
    ENCRYPTION_NOT_CONFIGURED = "encryption_not_configured", NOT_IMPLEMENTED, "Encryption not configured",
        "The operation needs an encryption key. The operator of this service must configure `encryption.key_file`.";
    UNAVAILABLE = "unavailable", SERVICE_UNAVAILABLE, "Service unavailable",
        "A component that this request needs is unavailable. No data is lost. Try again after `Retry-After`.";
    READ_TIMEOUT = "read_timeout", SERVICE_UNAVAILABLE, "Read timeout",
        "A list, a search or a statistic took too long and was cancelled. Wait as long as `Retry-After` says, or request less: \
         a shorter period, a smaller `limit`, longer words.";
}
