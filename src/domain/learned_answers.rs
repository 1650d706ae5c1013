//! Learned answers of the vendor to the requests of a tenant, and the meaning of an answer.
//!
//! - **Unknown calls.** A probe requests the result of a call that cannot exist. Answers of the same shape mean that the vendor
//!   does not know the call. Status 404 always means this.
//! - **Calls in progress** are calls that the vendor knows, but whose result is not ready. From each call whose result becomes
//!   ready, the gateway learns the shapes of the answers that came before the result. Answers of these shapes mean that the
//!   result is not ready.
//!
//! A shape in both lists is **ambiguous**: it does not show whether the vendor knows the call. A shape that
//! occurred only in answers to probes is **proven** once enough calls in progress had other shapes.
//!
//! During maintenance or an outage, the vendor may give the same answer for all calls, and also to probes. Therefore:
//!
//! - An answer that replaces another one is ambiguous until a call became ready and a later probe got the same answer again.
//! - A server error (5xx) never shows that the vendor does not know the call. The gateway learns a server error from a probe only
//!   while no probe got another answer.

#[cfg(test)]
mod tests;
mod unknown_answers;

use std::cmp::Reverse;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::unknown_answers::UnknownAnswers;
use super::answer_shape::AnswerShape;
use super::clock::Timestamp;
use super::vendor_token::TokenFingerprint;

/// Learned answers of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LearnedAnswers {
    /// Fingerprint of the token of the probes. Another token may belong to another account, with other answers for unknown calls.
    account: Option<TokenFingerprint>,
    unknown: UnknownAnswers,
    /// Answers about calls in progress, learned when the calls became ready.
    pending: Vec<PendingAnswer>,
}

/// An answer of the vendor about a call in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct PendingAnswer {
    shape: AnswerShape,
    /// Number of calls that had this answer and became ready later. The maximum is [`LearnedAnswers::ENOUGH_CALLS`].
    calls: u32,
    /// Time at which the latest such call became ready, accurate to an hour.
    seen_at: Timestamp,
}

/// Meaning of an answer without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The vendor knows the call.
    Known,
    /// The vendor does not know the call.
    Unknown {
        /// Whether enough calls in progress had other answers. If not, calls in progress may have this answer too.
        is_proven: bool,
    },
    /// Unknown calls and calls in progress have the same answer.
    Ambiguous,
}

/// Meaning of an answer according to the learned answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The meaning according to the latest probe.
    pub meaning: Meaning,
    /// Earliest start of a probe that makes the meaning certain. `None` if the meaning is certain.
    pub needs_probe: Option<Timestamp>,
    /// Whether neither unknown calls nor earlier calls in progress had an answer of this shape. The vendor may have changed its
    /// answers.
    pub is_unexpected: bool,
}

impl Judgement {
    /// Creates a judgement whose meaning is certain, so that it needs no probe.
    pub const fn certain(meaning: Meaning) -> Self {
        Self { meaning, needs_probe: None, is_unexpected: false }
    }
}

/// Result of a comparison of a probe with the previous probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The tenant had no earlier probe with this token.
    Learned,
    /// The answer has the same shape as before.
    Unchanged,
    /// The answer has another shape.
    Changed,
}

impl ProbeOutcome {
    /// All outcomes of a probe.
    pub const ALL: [Self; 3] = [Self::Learned, Self::Unchanged, Self::Changed];

    /// Returns the name in metrics and log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
        }
    }
}

impl LearnedAnswers {
    /// Interval of probes while the gateway polls for results.
    pub const PROBE_INTERVAL: Duration = Duration::from_hours(24);
    /// Number of calls in progress that must have had other answers before an answer for unknown calls is proven.
    pub const ENOUGH_CALLS: u32 = 10;

    /// Time after which the gateway forgets an answer of calls in progress, unless a further call had the same answer. The
    /// vendor may have changed its answers.
    const RETENTION: Duration = Duration::from_hours(30 * 24);
    /// Minimum interval between two writes of an answer that already has [`Self::ENOUGH_CALLS`] calls to the store.
    const REFRESH: Duration = Duration::from_hours(1);
    /// Maximum number of different answers of calls in progress.
    const MAX_PENDING: usize = 16;

    /// Creates the empty state of a tenant, before anything is learned.
    pub const fn nothing() -> Self {
        Self { account: None, unknown: UnknownAnswers::nothing(), pending: Vec::new() }
    }

    /// Returns the learned answers that apply to requests with this token. If the token has changed, only the answers of calls in
    /// progress are kept: the new token usually belongs to the same account, and the vendor still works on the calls of that
    /// account.
    #[must_use]
    pub fn of_account(self, account: TokenFingerprint) -> Self {
        if self.account == Some(account) {
            return self;
        }
        Self { account: Some(account), unknown: UnknownAnswers::nothing(), pending: self.pending }
    }

    /// Whether no probe has started from `since` to `now`. A probe whose start time is in the future does not count,
    /// because that time comes from a wrong clock.
    pub fn lacks_probe(&self, since: Timestamp, now: Timestamp) -> bool {
        self.unknown.lacks_probe(since, now)
    }

    /// Returns the time [`Self::PROBE_INTERVAL`] before `now` if no probe has started since that time. Returns `None` otherwise.
    pub fn overdue_probe(&self, now: Timestamp) -> Option<Timestamp> {
        Some(Self::a_probe_interval_before(now)).filter(|since| self.lacks_probe(*since, now))
    }

    fn a_probe_interval_before(now: Timestamp) -> Timestamp {
        let interval = i64::try_from(Self::PROBE_INTERVAL.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(now.as_millis().saturating_sub(interval))
    }

    /// Returns the earliest start of a probe that confirms the latest answer for unknown calls, after a call became
    /// ready at `now`. Returns `None` if that answer needs no confirmation.
    pub fn confirming_probe(&self, now: Timestamp) -> Option<Timestamp> {
        self.unknown.is_suspect().then_some(now)
    }

    /// Whether the answer to a probe can be learned. A server error usually means an outage. So the gateway learns a server error
    /// only while no probe got another answer.
    pub fn may_learn_unknown(&self, shape: AnswerShape) -> bool {
        self.unknown.may_learn(shape)
    }

    /// Returns the meaning of an answer without a result, for a call that was submitted at `since`. The meaning is certain only
    /// after a probe at `since` or later, because the vendor may have changed its answers after an earlier probe.
    pub fn judge(&self, shape: AnswerShape, since: Timestamp, now: Timestamp) -> Judgement {
        if !self.may_learn_unknown(shape) {
            return Judgement::certain(Meaning::Known);
        }
        let probe_since = |since| Some(since).filter(|since| self.lacks_probe(*since, now));
        if !self.is_unknown(shape, now) {
            let probed_at = self.unknown.has_other_words(shape);
            let after_latest = probed_at.map(|probed_at| probed_at + Duration::from_millis(1));
            let needs_probe = probe_since(after_latest.map_or(since, |after| after.max(since)));
            let is_seen = self.pending.iter().any(|pending| pending.shape.is_alike(shape));
            let is_unexpected = !is_seen && !self.pending.is_empty();
            return Judgement { meaning: Meaning::Known, needs_probe, is_unexpected };
        }
        let pending = self.pending.iter().filter(|pending| !pending.is_forgotten(now));
        let (same, other): (Vec<&PendingAnswer>, Vec<&PendingAnswer>) =
            pending.partition(|pending| pending.shape.is_alike(shape) && self.is_unknown(pending.shape, now));
        let meaning = if same.is_empty() && self.is_trusted(shape, now) {
            // One call can have several answers, so the sum would count calls repeatedly.
            let calls = other.iter().map(|pending| pending.calls).max();
            Meaning::Unknown { is_proven: calls.is_some_and(|calls| calls >= Self::ENOUGH_CALLS) }
        } else {
            Meaning::Ambiguous
        };
        let is_certain = shape.status() == NOT_FOUND;
        let needs_probe = probe_since(since).filter(|_| !is_certain);
        Judgement { meaning, needs_probe, is_unexpected: false }
    }

    /// Whether an answer has the shape of an answer for unknown calls.
    pub fn is_unknown(&self, shape: AnswerShape, now: Timestamp) -> bool {
        shape.status() == NOT_FOUND || self.unknown.has(shape, now)
    }

    /// Whether an answer has the shape of an answer that the vendor gives for unknown calls only.
    pub fn is_trusted(&self, shape: AnswerShape, now: Timestamp) -> bool {
        shape.status() == NOT_FOUND || self.unknown.has_trusted(shape, now)
    }

    /// Learns the answer to a probe that started at `probed_at`, if it [may be learned](Self::may_learn_unknown).
    pub fn learn_unknown(&mut self, shape: AnswerShape, probed_at: Timestamp) -> ProbeOutcome {
        self.unknown.learn(shape, probed_at)
    }

    /// Learns from a call that became ready at `now`. `shapes` are its earlier answers. Returns whether the learned answers changed.
    pub fn learn_pending(&mut self, shapes: &[AnswerShape], now: Timestamp) -> bool {
        let mut is_new = self.unknown.learn_ready_call();
        for shape in shapes {
            match self.pending.iter_mut().find(|pending| pending.shape == *shape) {
                Some(known)
                    if known.calls >= Self::ENOUGH_CALLS && now.since(known.seen_at) < Self::REFRESH =>
                {
                    continue;
                }
                Some(known) => {
                    known.calls = known.calls.saturating_add(1).min(Self::ENOUGH_CALLS);
                    known.seen_at = now;
                }
                None => self.pending.push(PendingAnswer { shape: *shape, calls: 1, seen_at: now }),
            }
            is_new = true;
        }
        if is_new {
            // Answers that unknown calls have too are kept longest, because they make the meaning ambiguous.
            let mut pending = std::mem::take(&mut self.pending);
            pending.retain(|pending| !pending.is_forgotten(now));
            pending.sort_by_key(|pending| Reverse((self.is_unknown(pending.shape, now), pending.seen_at)));
            pending.truncate(Self::MAX_PENDING);
            self.pending = pending;
        }
        is_new
    }
}

impl PendingAnswer {
    fn is_forgotten(&self, now: Timestamp) -> bool {
        now.since(self.seen_at) >= LearnedAnswers::RETENTION
    }
}

/// Status that HTTP defines for an unknown resource (RFC 9110, 15.5.5).
const NOT_FOUND: u16 = 404;
