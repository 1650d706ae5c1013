//! The reasons why a request to the vendor failed. Their texts are public: callers see them in `last_error.detail`.

use std::time::Duration;

use reqwest::StatusCode;

use crate::domain::analysis::FaultCode;
use crate::domain::lifecycle::VendorFault;
use crate::domain::transport_error::TransportError;
use crate::http_client::Network;

/// Returns the fault that a status indicates; `None` if the meaning of the status depends on the request.
pub(super) fn fault_of_status(
    status: StatusCode,
    retry_after: Option<Duration>,
    words: Option<String>,
) -> Option<VendorFault> {
    let code = match status.as_u16() {
        401 | 403 => FaultCode::TokenRefused,
        429 => FaultCode::VendorThrottled,
        304 => return None,
        300..=399 | 408 | 425 | 500.. => FaultCode::VendorError,
        // A proxy sent this answer, so the vendor did not see the request.
        407 => {
            return Some(fault(
                FaultCode::VendorUnreachable,
                not_connected(TransportError::ProxyAuthentication),
            ));
        }
        _ => return None,
    };
    Some(VendorFault { code, detail: answered(status, words), retry_after })
}

/// Whether a status may be the vendor's answer for an unknown call, although [`fault_of_status`] returns a fault for the status.
/// Such a status is a redirect or an error of the vendor's program. The other faults come from the vendor's proxies, or concern
/// the token, the rate or the timing of requests.
pub(super) fn may_be_about_call(status: StatusCode) -> bool {
    matches!(status.as_u16(), 300..=303 | 305..=399 | 500 | 501 | 505..=511)
}

/// Returns a text with a status and the vendor's words.
pub(super) fn answered(status: StatusCode, words: Option<String>) -> String {
    quoted(format!("the vendor answered {}", status.as_u16()), words)
}

/// Returns a text with the vendor's words in double quotes.
pub(super) fn quoted(text: impl Into<String>, words: Option<String>) -> String {
    let text = text.into();
    match words {
        Some(words) => format!("{text}: \"{words}\""),
        None => text,
    }
}

/// Returns the fault for a status that the vendor should not send.
pub(super) fn unexpected_status(status: u16) -> VendorFault {
    fault(FaultCode::VendorError, format!("the vendor answered {status}"))
}

/// Public text for a submit whose answer lacks the documented id.
pub(super) const UNCONFIRMED: &str = "the vendor's answer does not confirm the submit";

/// Public text for an answer with status 404.
pub(super) const UNKNOWN_CALL: &str = "the vendor does not know the call (404)";

/// Returns the fault for a call that the vendor does not know.
pub(super) fn call_not_found(words: Option<String>) -> VendorFault {
    fault(FaultCode::CallNotFound, quoted(UNKNOWN_CALL, words))
}

/// Returns the fault of a request that got no answer or an incomplete answer. The fault does not contain the error, because the
/// error contains the URL.
pub(super) fn transport(network: &Network, error: &reqwest::Error) -> VendorFault {
    let code = if error.is_timeout() { FaultCode::VendorTimeout } else { FaultCode::VendorUnreachable };
    match network.explain(error) {
        TransportError::Timeout => fault(code, "the vendor did not answer in time"),
        reason if error.is_connect() => fault(code, not_connected(reason)),
        reason => fault(code, format!("the connection to the vendor was lost: {reason}")),
    }
}

fn not_connected(reason: TransportError) -> String {
    format!("cannot connect to the vendor: {reason}")
}

/// Returns the fault of an answer whose body did not arrive completely.
pub(super) fn broken_body(network: &Network, error: &reqwest::Error) -> VendorFault {
    match network.explain(error) {
        _ if error.is_timeout() => transport(network, error),
        TransportError::Reset => unreadable("the vendor's answer is incomplete: the connection was reset"),
        _ => unreadable("the vendor's answer is incomplete or damaged"),
    }
}

/// Returns the fault of an answer for which the body budget had no room before the deadline.
pub(super) fn over_budget() -> VendorFault {
    fault(FaultCode::VendorTimeout, "too many large answers of the vendor arrived at the same time")
}

/// Returns the fault of an answer that cannot be read.
pub(super) fn unreadable(detail: impl Into<String>) -> VendorFault {
    fault(FaultCode::AnswerUnreadable, detail)
}

fn fault(code: FaultCode, detail: impl Into<String>) -> VendorFault {
    VendorFault { code, detail: detail.into(), retry_after: None }
}
