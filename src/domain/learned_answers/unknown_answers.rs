//! The answers to probes. They show how the vendor answers for calls that it does not know.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ProbeOutcome;
use crate::domain::answer_shape::AnswerShape;
use crate::domain::clock::Timestamp;

/// Answers to probes, latest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct UnknownAnswers(Vec<UnknownAnswer>);

/// An answer of the vendor about a call that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct UnknownAnswer {
    shape: AnswerShape,
    probed_at: Timestamp,
    /// Number of consecutive probes with this answer.
    probes: u32,
    #[serde(default)]
    trust: Trust,
}

/// Evidence that the vendor gives an answer only for unknown calls, and not temporarily for all calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Trust {
    /// The answer is the first learned answer, or probes got the answer both before and after a call became ready.
    #[default]
    Trusted,
    /// The answer replaced another answer, and no call has become ready since then.
    Suspect,
    /// A call became ready after a probe with this answer. If the next probe gets the same answer, the answer becomes
    /// trusted. Otherwise the answer becomes suspect again.
    Contrasted,
}

impl UnknownAnswers {
    /// An answer to an earlier probe stays valid for this time after that probe, because some of the vendor's servers may still
    /// send the answer.
    const OVERLAP: Duration = Duration::from_hours(48);
    /// After this number of probes with the same words, an answer with other words counts as a different answer. With
    /// fewer probes, the words may be random.
    const ENOUGH_PROBES: u32 = 2;
    /// Maximum number of answers that are kept.
    const MAX: usize = 2;
    /// Maximum difference between the clocks of replicas. A time further in the future comes from a wrong clock.
    const MAX_SKEW: Duration = Duration::from_mins(1);

    pub(super) const fn nothing() -> Self {
        Self(Vec::new())
    }

    /// Whether no probe has started from `since` to `now`.
    pub(super) fn lacks_probe(&self, since: Timestamp, now: Timestamp) -> bool {
        let is_wrong = |at: Timestamp| at > now + Self::MAX_SKEW;
        self.0.first().is_none_or(|latest| latest.probed_at < since || is_wrong(latest.probed_at))
    }

    /// Whether the vendor may give the latest answer temporarily for all calls.
    pub(super) fn is_suspect(&self) -> bool {
        self.0.first().is_some_and(|latest| latest.trust != Trust::Trusted)
    }

    /// Whether the answer to a probe can be learned. A server error usually means an outage. So the gateway learns a server error
    /// only while no probe got another answer.
    pub(super) fn may_learn(&self, shape: AnswerShape) -> bool {
        !shape.is_server_error() || self.0.iter().all(|unknown| unknown.shape.is_server_error())
    }

    /// Whether one of the answers has this shape and is still valid at `now`.
    pub(super) fn has(&self, shape: AnswerShape, now: Timestamp) -> bool {
        self.valid(now).any(|unknown| shape.matches(unknown.shape))
    }

    /// Whether a valid and trusted answer has this shape. A server error is never trusted.
    pub(super) fn has_trusted(&self, shape: AnswerShape, now: Timestamp) -> bool {
        let mut trusted = self.valid(now).filter(|unknown| unknown.trust == Trust::Trusted);
        !shape.is_server_error() && trusted.any(|unknown| shape.matches(unknown.shape))
    }

    fn valid(&self, now: Timestamp) -> impl Iterator<Item = &UnknownAnswer> {
        let recent = move |unknown: &&UnknownAnswer| now.since(unknown.probed_at) < Self::OVERLAP;
        self.0.iter().take(1).chain(self.0.iter().skip(1).filter(recent))
    }

    /// Compares an answer with the latest answer to a probe. Their words differ, which may be random. Returns the time of that
    /// probe if both answers have the same structure and only another probe can show whether the words are random. Returns
    /// `None` otherwise.
    pub(super) fn has_other_words(&self, shape: AnswerShape) -> Option<Timestamp> {
        let is_alike =
            |latest: &&UnknownAnswer| shape.is_alike(latest.shape) && latest.probes < Self::ENOUGH_PROBES;
        self.0.first().filter(is_alike).map(|latest| latest.probed_at)
    }

    /// Learns the answer to a probe that started at `probed_at`.
    pub(super) fn learn(&mut self, shape: AnswerShape, probed_at: Timestamp) -> ProbeOutcome {
        if !shape.is_server_error() {
            self.0.retain(|unknown| !unknown.shape.is_server_error());
        }
        let new = UnknownAnswer { shape, probed_at, probes: 1, trust: Trust::Suspect };
        let Some(latest) = self.0.first_mut() else {
            self.0.push(UnknownAnswer { trust: Trust::Trusted, ..new });
            return ProbeOutcome::Learned;
        };
        // The store repeats this write after a lost connection, so the probe is already known.
        if latest.probed_at == probed_at {
            return ProbeOutcome::Unchanged;
        }
        if shape.is_alike(latest.shape) {
            let before = latest.shape;
            if latest.trust == Trust::Contrasted {
                latest.trust = Trust::Trusted;
            }
            latest.repeat(shape, probed_at);
            return if latest.shape == before { ProbeOutcome::Unchanged } else { ProbeOutcome::Changed };
        }
        if latest.trust == Trust::Contrasted {
            latest.trust = Trust::Suspect;
        }
        // If two answers alternate, each keeps its learned words.
        let earlier = self.0.iter().position(|earlier| shape.is_alike(earlier.shape));
        let earlier = earlier.map(|index| self.0.remove(index)).map(|mut earlier| {
            earlier.repeat(shape, probed_at);
            earlier
        });
        self.0.insert(0, earlier.unwrap_or(new));
        self.0.truncate(Self::MAX);
        ProbeOutcome::Changed
    }

    /// Records that a call became ready. Returns whether the trust in the latest answer changed.
    pub(super) fn learn_ready_call(&mut self) -> bool {
        let suspect = self.0.first_mut().filter(|latest| latest.trust == Trust::Suspect);
        suspect.map(|latest| latest.trust = Trust::Contrasted).is_some()
    }
}

impl UnknownAnswer {
    /// Records that another probe got the same answer.
    fn repeat(&mut self, shape: AnswerShape, probed_at: Timestamp) {
        self.shape = self.shape.merged(shape);
        self.probed_at = probed_at;
        self.probes = self.probes.saturating_add(1);
    }
}
