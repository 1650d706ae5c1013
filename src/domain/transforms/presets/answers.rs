//! Judges the answers of receivers: a request was accepted, may be accepted later, or will never be accepted.

use std::time::Duration;

use serde_json::Value;

use crate::domain::clock::Timestamp;

/// The answer of a receiver.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverAnswer<'a> {
    /// HTTP status of the answer.
    pub status: u16,
    /// The first 4 KiB of the body; `None` if they did not arrive completely.
    pub body: Option<&'a [u8]>,
    /// Time of the answer.
    pub now: Timestamp,
}

impl ReceiverAnswer<'_> {
    /// Returns the body as JSON: `null` if the body is not JSON, and `None` if the body is incomplete.
    fn json(&self) -> Option<Value> {
        Some(serde_json::from_slice(self.body?).unwrap_or_default())
    }
}

/// The meaning of an answer for the delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AnswerVerdict {
    /// The body does not determine the outcome. The general rule for the status applies: 2xx means delivered, 410 ends the
    /// delivery or disables the webhook, and other statuses are retried.
    OfStatus,
    /// The receiver did not accept the event now. The reason is a code or a few words.
    Later { reason: String, after: Duration },
    /// The receiver will never accept this request.
    Never { reason: String },
    /// The body determines the outcome, but the body is incomplete.
    Incomplete,
}

/// The function with which a preset judges answers.
pub(super) type Judge = fn(&ReceiverAnswer<'_>) -> AnswerVerdict;

/// Statuses that the receiver would send again after a repeat of the same request. Other statuses, such as 401 and 403, can
/// change when the settings of the receiver or of the webhook change.
const FINAL: [u16; 7] = [400, 404, 405, 413, 414, 415, 422];
/// Maximum length of a reason.
const MAX_REASON: usize = 100;
/// Pause after a request that exceeded a limit of requests per second.
const SHORT_PAUSE: Duration = Duration::from_secs(5);
/// Pause while a call is not finished in Bitrix24.
const UNFINISHED_PAUSE: Duration = Duration::from_mins(1);
/// Pause after the error `OPERATION_TIME_LIMIT` if the answer does not say when the limit ends. The limit of Bitrix24 covers the
/// last ten minutes.
const OPERATION_PAUSE: Duration = Duration::from_mins(10);

/// Errors of Bitrix24 after which the same request can succeed later.
const BITRIX24_LATER: [&str; 16] = [
    "access_denied",
    "error_oauth",
    "error_unexpected_answer",
    "expired_token",
    "insufficient_scope",
    "internal_server_error",
    "invalid_credentials",
    "invalid_token",
    "method_confirm_waiting",
    "no_auth_found",
    "operation_time_limit",
    "overload_limit",
    "portal_deleted",
    "query_limit_exceeded",
    "service_unavailable",
    "user_access_error",
];

/// Judges by the status alone, for any receiver.
pub(super) const fn generic(_: &ReceiverAnswer<'_>) -> AnswerVerdict {
    AnswerVerdict::OfStatus
}

/// Judges by the status. The statuses in `FINAL` mean that the receiver will never accept the request.
pub(super) fn by_status(answer: &ReceiverAnswer<'_>) -> AnswerVerdict {
    if FINAL.contains(&answer.status) {
        AnswerVerdict::Never {
            reason: format!("the receiver refuses this request with status {}", answer.status),
        }
    } else {
        AnswerVerdict::OfStatus
    }
}

/// Judges an answer of Bitrix24. Bitrix24 describes errors in the body, also with status 200.
pub(super) fn bitrix24(answer: &ReceiverAnswer<'_>) -> AnswerVerdict {
    let Some(body) = answer.json() else { return AnswerVerdict::Incomplete };
    let code = match &body["error"] {
        Value::String(code) => code.clone(),
        Value::Number(code) => code.to_string(),
        _ => return by_status(answer),
    };
    let description = body["error_description"].as_str().unwrap_or_default();
    let reason = short(&format!("Bitrix24 answered {code}"));
    // The call is registered, but Bitrix24 does not know its end yet.
    if description.to_lowercase().contains("finished") {
        let reason = "Bitrix24 does not have the finished call yet".to_owned();
        return AnswerVerdict::Later { reason, after: UNFINISHED_PAUSE };
    }
    let known = code.to_lowercase();
    if known == "operation_time_limit" {
        let reset = body.pointer("/time/operating_reset_at").and_then(Value::as_i64);
        let reset = reset.and_then(|seconds| seconds.checked_mul(1000)).map(Timestamp::from_millis);
        let after = reset.map_or(OPERATION_PAUSE, |reset| reset.since(answer.now)).min(OPERATION_PAUSE * 2);
        return AnswerVerdict::Later { reason, after };
    }
    if BITRIX24_LATER.contains(&known.as_str()) || matches!(answer.status, 401 | 403 | 429 | 500..) {
        let after = if known == "query_limit_exceeded" { SHORT_PAUSE } else { Duration::ZERO };
        return AnswerVerdict::Later { reason, after };
    }
    AnswerVerdict::Never { reason }
}

/// Judges an answer of amoCRM to a new call. If no contact has the phone number, amoCRM adds no call and still answers 2xx. The
/// contact may be created later.
pub(super) fn amocrm_call(answer: &ReceiverAnswer<'_>) -> AnswerVerdict {
    let Some(body) = answer.json() else { return AnswerVerdict::Incomplete };
    let added = body.pointer("/_embedded/calls").and_then(Value::as_array).map(Vec::len);
    let is_empty = added == Some(0) || body["_total_items"].as_i64() == Some(0);
    if (200..300).contains(&answer.status) && is_empty {
        let reason = "amoCRM added no call: no contact has the phone number".to_owned();
        return AnswerVerdict::Later { reason, after: Duration::ZERO };
    }
    by_status(answer)
}

/// Judges an answer of Telegram. The body of an error has `{"ok": false}` and a description. The body of a 429 also has the
/// length of the pause.
pub(super) fn telegram(answer: &ReceiverAnswer<'_>) -> AnswerVerdict {
    let Some(body) = answer.json() else { return AnswerVerdict::Incomplete };
    let description = short(body["description"].as_str().unwrap_or_default());
    match answer.status {
        429 => {
            let after = body.pointer("/parameters/retry_after").and_then(Value::as_u64).unwrap_or(5);
            let reason = "Telegram limits the number of messages".to_owned();
            AnswerVerdict::Later { reason, after: Duration::from_secs(after.min(3600)) }
        }
        403 => AnswerVerdict::Never { reason: format!("Telegram answered: {description}") },
        _ if body["ok"] == false && answer.status < 300 => {
            AnswerVerdict::Never { reason: format!("Telegram answered: {description}") }
        }
        _ => by_status(answer),
    }
}

/// Returns the beginning of a text, without control characters. Tabs stay, because the caller later erases the values of custom
/// headers from the reason, and such a value can contain a tab.
fn short(text: &str) -> String {
    text.chars().filter(|&c| c == '\t' || !c.is_control()).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_716_207_617_000);

    fn meaning(judge: Judge, status: u16, body: &Value) -> AnswerVerdict {
        judge(&ReceiverAnswer { status, body: Some(body.to_string().as_bytes()), now: NOW })
    }

    fn later(judge: Judge, status: u16, body: &Value) -> u64 {
        match meaning(judge, status, body) {
            AnswerVerdict::Later { after, .. } => after.as_secs(),
            other => panic!("{body}: {other:?}"),
        }
    }

    fn is_never(judge: Judge, status: u16, body: &Value) -> bool {
        matches!(meaning(judge, status, body), AnswerVerdict::Never { .. })
    }

    #[test]
    fn bitrix24_errors_are_read_from_the_body() {
        let error = |code: &str, description: &str| json!({"error": code, "error_description": description});
        assert_eq!(meaning(bitrix24, 200, &json!({"result": {"TRANSCRIPT_ID": 1}})), AnswerVerdict::OfStatus);
        assert_eq!(later(bitrix24, 503, &error("QUERY_LIMIT_EXCEEDED", "Too many requests")), 5);
        assert_eq!(later(bitrix24, 200, &error("QUERY_LIMIT_EXCEEDED", "")), 5);
        let mut limited = error("OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.");
        assert_eq!(later(bitrix24, 429, &limited), 600);
        limited["time"] = json!({"operating_reset_at": 1_716_207_617 + 90});
        assert_eq!(later(bitrix24, 429, &limited), 90);
        limited["time"] = json!({"operating_reset_at": i64::MAX});
        assert_eq!(later(bitrix24, 429, &limited), 600);
        assert_eq!(later(bitrix24, 400, &error("", "Call is not found. Is it finished?")), 60);
        assert_eq!(later(bitrix24, 401, &error("expired_token", "")), 0);
        assert_eq!(later(bitrix24, 500, &error("ERROR_CORE", "")), 0);
        assert!(is_never(bitrix24, 400, &error("ERROR_CORE", "MESSAGES is empty")));
        assert!(is_never(bitrix24, 200, &error("ERROR_ARGUMENT", "")));
        assert_eq!(meaning(bitrix24, 502, &json!("bad gateway")), AnswerVerdict::OfStatus);
    }

    #[test]
    fn amocrm_adds_nothing_without_a_contact() {
        let added = json!({"_total_items": 1, "errors": [], "_embedded": {"calls": [{"id": 1}]}});
        assert_eq!(meaning(amocrm_call, 200, &added), AnswerVerdict::OfStatus);
        let none = json!({"_total_items": 0, "errors": [{"status": 263, "detail": "Entity not found"}], "_embedded": {"calls": []}});
        assert_eq!(later(amocrm_call, 200, &none), 0);
        assert!(is_never(amocrm_call, 400, &json!({"title": "Bad Request"})));
        assert_eq!(meaning(amocrm_call, 429, &json!({})), AnswerVerdict::OfStatus);
    }

    #[test]
    fn telegram_says_how_long_to_wait() {
        let limited = json!({"ok": false, "error_code": 429, "parameters": {"retry_after": 17}});
        assert_eq!(later(telegram, 429, &limited), 17);
        assert!(is_never(
            telegram,
            403,
            &json!({"ok": false, "description": "Forbidden: bot was blocked by the user"})
        ));
        assert!(is_never(telegram, 400, &json!({"ok": false, "description": "Bad Request: chat not found"})));
        assert_eq!(meaning(telegram, 200, &json!({"ok": true})), AnswerVerdict::OfStatus);
    }

    #[test]
    fn presets_that_read_the_body_do_not_judge_an_incomplete_one() {
        let incomplete = |judge: Judge, status| judge(&ReceiverAnswer { status, body: None, now: NOW });
        for judge in [bitrix24 as Judge, amocrm_call, telegram] {
            assert_eq!(incomplete(judge, 200), AnswerVerdict::Incomplete);
        }
        assert_eq!(incomplete(by_status, 200), AnswerVerdict::OfStatus);
        assert!(matches!(incomplete(by_status, 404), AnswerVerdict::Never { .. }));
        assert_eq!(incomplete(generic, 404), AnswerVerdict::OfStatus);
    }

    #[test]
    fn statuses_that_a_repeat_cannot_change_are_final() {
        for (status, is_final) in [
            (200, false),
            (400, true),
            (401, false),
            (403, false),
            (404, true),
            (413, true),
            (422, true),
            (429, false),
            (500, false),
        ] {
            assert_eq!(is_never(by_status, status, &json!({})), is_final, "{status}");
        }
        assert_eq!(meaning(generic, 400, &json!({})), AnswerVerdict::OfStatus);
    }
}
