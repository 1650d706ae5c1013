//! Outcomes of delivery attempts.

use std::fmt;
use std::time::Duration;

use crate::domain::transport_error::TransportError;

/// Outcome of one delivery attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The receiver accepted the event (2xx).
    Delivered {
        /// Status of the answer.
        status: u16,
    },
    /// The receiver answered with another status, which may be a redirect.
    Refused {
        /// Status of the answer.
        status: u16,
        /// `Retry-After` of a 429 or 503.
        retry_after: Option<Duration>,
    },
    /// The answer tells the preset of the transform that the receiver does not accept the event now.
    Declined {
        /// Status of the answer, which may be 200.
        status: u16,
        /// Reason as text for the owner of the webhook.
        reason: String,
        /// Minimum pause before the next attempt.
        retry_after: Duration,
    },
    /// The answer tells the preset of the transform that the receiver will never accept this request.
    Rejected {
        /// Status of the answer, which may be 200.
        status: u16,
        /// Reason as text for the owner of the webhook.
        reason: String,
    },
    /// The receiver answered 410 and wants no more events (Standard Webhooks, "Delivery success and failure").
    Gone,
    /// Nothing was sent, because the signing secret is missing, or the secret, the headers or the URL cannot be decrypted. The
    /// receiver is not at fault.
    Unsigned {
        /// Reason as text for the operator.
        detail: String,
    },
    /// Nothing was sent, because the transform could not render the event, or the call does not have an id that the URL needs.
    Unrendered {
        /// Reasons as text for the owner of the webhook.
        detail: String,
    },
    /// Nothing was sent. The previous attempt may have reached the receiver. In that case, a second request would repeat the
    /// effect.
    Unknown,
    /// Nothing was sent, because the guard forbids the address.
    Forbidden {
        /// Rule that forbids the address.
        detail: String,
    },
    /// The attempt failed without an answer.
    Failed {
        /// Reason of the failure.
        error: TransportError,
    },
}

impl AttemptOutcome {
    /// Label of [`AttemptOutcome::Unrendered`].
    pub const UNRENDERED: &str = "transform";
    const DECLINED: &str = "declined";
    const REJECTED: &str = "rejected";

    /// Whether an outcome with this label and status concerns one event only, so that other events to the same webhook may
    /// succeed. The outcome `declined` with the status 401, 403, 429 or 5xx concerns every event.
    pub fn concerns_one_event(label: &str, status: Option<u16>) -> bool {
        match label {
            Self::UNRENDERED | Self::REJECTED => true,
            Self::DECLINED => !matches!(status, None | Some(401 | 403 | 429 | 500..)),
            _ => false,
        }
    }

    /// Changes the reason that a preset took from the answer. Other outcomes contain no text of the receiver.
    #[must_use]
    pub fn map_reason(mut self, change: impl FnOnce(&str) -> String) -> Self {
        if let Self::Declined { reason, .. } | Self::Rejected { reason, .. } = &mut self {
            *reason = change(reason);
        }
        self
    }

    /// Returns the label of the outcome in metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Refused { .. } => "refused",
            Self::Declined { .. } => Self::DECLINED,
            Self::Rejected { .. } => Self::REJECTED,
            Self::Gone => "gone",
            Self::Unsigned { .. } => "unsigned",
            Self::Unrendered { .. } => Self::UNRENDERED,
            Self::Unknown => "unknown",
            Self::Forbidden { .. } => "forbidden",
            Self::Failed { error } => error.kind(),
        }
    }
}

/// Writes one sentence for the record of the attempt. The sentence never names the URL.
impl fmt::Display for AttemptOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered { status } => write!(f, "delivered with status {status}"),
            Self::Refused { status, .. } => write!(f, "the receiver answered with status {status}"),
            Self::Declined { status, reason, .. } | Self::Rejected { status, reason } => {
                write!(f, "{reason} (status {status})")
            }
            Self::Gone => f.write_str("the receiver answered 410 and wants no more callbacks"),
            Self::Unsigned { detail } | Self::Unrendered { detail } | Self::Forbidden { detail } => {
                f.write_str(detail)
            }
            Self::Unknown => {
                f.write_str("the previous attempt may have reached the receiver, and on_unknown is give_up")
            }
            Self::Failed { error } => error.fmt(f),
        }
    }
}
