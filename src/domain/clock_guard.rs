//! The rule that decides whether the gateway accepts a jump of another clock.
//!
//! The gateway's clock ([`SteadyClock`](super::clock::SteadyClock)) advances with the monotonic clock of the machine.
//! The store keeps the latest time of this clock. Schedules, leases, deadlines, expiries and retention use only this
//! clock. The clock follows a **reference**: the machine's clock, or with PostgreSQL the clock of the database server.
//! The rule:
//!
//! 1. While the reference differs by less than [`TOLERANCE`], the gateway's clock follows it gradually.
//! 2. A larger difference is a **jump**, and the clock is **in doubt**. The gateway's clock then ignores the reference and
//!    advances with the monotonic clock alone, and retention is paused. At a start, the gateway's clock continues from the stored
//!    time, so an outage of all gateways is a jump too.
//! 3. The doubt ends when the reference agrees with the gateway's clock again. No time is changed in this case.
//! 4. Otherwise the doubt ends with a **step**: the gateway's clock takes the time of the reference. A step needs a
//!    [`JumpConfirmation`]: the vendor's `Date`, an operator, or a period of [`OBSERVATION`] in which the jump stayed the same
//!    and no witness supported the gateway's clock. After an outage of at most [`OUTAGE`], a step needs no witness.
//! 5. A **witness** supports the closer clock, if the witness and that clock differ by at most [`AGREEMENT`]. Witnesses are the
//!    vendor's `Date` and, with PostgreSQL, the machine's clock. The machine's clock can support the gateway's clock against the
//!    server's clock. It never confirms the server's clock, because both may run on one machine.
//! 6. A new store has no time to compare with. The store is **anchored** when all available witnesses agree with the gateway's
//!    clock for the first time, or when [`OBSERVATION`] has passed. Until then, the gateway's clock follows jumps at once, unless a
//!    witness contradicts them.
//! 7. A time before [`EARLIEST`] is never accepted.
//!
//! A step keeps the age of all waiting work ([`ClockStore`](crate::store::ClockStore)), so no deadline passes because of a step,
//! even after an outage of weeks. Only retention deletes data, and retention stays paused for a while after a step
//! ([`JumpConfirmation::retention_pause`]).

use std::time::Duration;

use super::clock::{ClockStep, Timestamp};

#[cfg(test)]
mod tests;

/// Minimum difference between the reference and the gateway's clock that counts as a jump.
pub const TOLERANCE: Duration = Duration::from_secs(10);
/// Maximum length of an outage for which the step at the next start needs no witness.
pub const OUTAGE: Duration = Duration::from_hours(1);
/// Time after which a jump is accepted if no witness confirms or contradicts it.
pub const OBSERVATION: Duration = Duration::from_hours(1);
/// Maximum difference between a witness and the clock that it supports.
pub const AGREEMENT: Duration = Duration::from_mins(1);
/// Validity of an operator's confirmation of the clock.
pub const CONFIRMATION_VALIDITY: Duration = Duration::from_mins(15);
/// The date 2024-01-01. No gateway ran earlier, so an earlier time comes from a clock that was not set.
pub const EARLIEST: Timestamp = Timestamp::from_millis(1_704_067_200_000);

/// The clock's state in the store, which all replicas share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredClock {
    /// The latest time that a gateway's clock showed.
    pub at: Timestamp,
    /// Number of steps. A replica that knows another number adopts the time `at`.
    pub steps: i64,
    /// Whether the time was ever confirmed.
    pub is_anchored: bool,
    /// The time before which retention deletes nothing.
    pub retention_after: Timestamp,
    /// The time that an operator confirmed.
    pub confirmed: Option<Timestamp>,
}

impl StoredClock {
    /// Returns the state after a step.
    pub fn stepped(self, step: ClockStep, confirmation: JumpConfirmation) -> Self {
        let retention_after = match confirmation {
            JumpConfirmation::Operator => step.to,
            // A pause in progress keeps its remaining time.
            JumpConfirmation::ShortOutage if self.retention_after > step.from => {
                self.retention_after.plus_millis(step.shift_millis())
            }
            _ => step.to + confirmation.retention_pause(),
        };
        Self {
            at: step.to,
            steps: self.steps + 1,
            is_anchored: confirmation != JumpConfirmation::NewStore,
            retention_after,
            confirmed: None,
        }
    }
}

/// Readings of several clocks at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readings {
    /// The gateway's clock.
    pub own: Timestamp,
    /// The clock that the gateway's clock follows.
    pub reference: Timestamp,
    /// The vendor's clock, read since the latest jump.
    pub vendor: Option<Timestamp>,
    /// The machine's clock, if it is not the reference.
    pub machine: Option<Timestamp>,
    /// The time that an operator confirmed.
    pub confirmed: Option<Timestamp>,
}

/// An unexplained difference between the gateway's clock and another clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// Time on the gateway's clock at which the doubt began.
    pub since: Timestamp,
    /// Time by which the other clock is ahead of the gateway's clock, in milliseconds; negative if the other clock is behind.
    pub difference_millis: i64,
}

impl Doubt {
    /// Whether the differences of the two doubts are at least [`TOLERANCE`] apart.
    pub fn differs_from(&self, other: &Self) -> bool {
        is_jump(self.difference_millis.saturating_sub(other.difference_millis))
    }
}

/// The reason to accept a jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JumpConfirmation {
    /// The vendor's clock agrees with the reference.
    Vendor,
    /// An operator confirmed the time.
    Operator,
    /// The jump stayed the same for [`OBSERVATION`].
    Observation,
    /// No gateway ran for at most [`OUTAGE`].
    ShortOutage,
    /// The store is new, and its time was never confirmed.
    NewStore,
}

impl JumpConfirmation {
    /// Returns the name of the confirmation in log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vendor => "vendor",
            Self::Operator => "operator",
            Self::Observation => "observation",
            Self::ShortOutage => "short_outage",
            Self::NewStore => "new_store",
        }
    }

    /// Returns how long retention is paused after a step. The pause is longest after [`Observation`](Self::Observation), because
    /// no witness and no operator confirmed that step.
    pub const fn retention_pause(self) -> Duration {
        match self {
            Self::Operator | Self::ShortOutage => Duration::ZERO,
            Self::Vendor | Self::NewStore => Duration::from_hours(1),
            Self::Observation => Duration::from_hours(24),
        }
    }
}

/// The result of a comparison of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockVerdict {
    /// The clocks agree. The gateway's clock follows the reference gradually.
    Agreement,
    /// The gateway's clock ignores the reference.
    Doubt(Doubt),
    /// The gateway's clock takes the time of the reference.
    Step(ClockStep, JumpConfirmation),
}

/// Compares the clocks of a process by the [rule](self).
#[derive(Debug, Clone)]
pub struct ClockGuard {
    is_anchored: bool,
    /// Whether the next comparison is the first one after a start.
    is_first: bool,
    doubt: Option<Doubt>,
    /// Time on the gateway's clock since which no witness has contradicted the jump. This time is never before the start of
    /// the process.
    observed_from: Timestamp,
}

impl ClockGuard {
    /// Creates the guard from the state in the store, if there is one. Returns the guard and the time at which the
    /// gateway's clock starts.
    pub fn start(stored: Option<StoredClock>, reference: Timestamp) -> (Self, Timestamp) {
        let own = match stored {
            // The stored time is a little older than the end of the previous run.
            Some(stored) if is_jump(reference.millis_after(stored.at)) => stored.at.max(EARLIEST),
            Some(stored) => stored.at.max(reference),
            None => reference.max(EARLIEST),
        };
        let is_anchored = stored.is_some_and(|stored| stored.is_anchored);
        (Self { is_anchored, is_first: true, doubt: None, observed_from: own }, own)
    }

    /// Whether the gateway's clock was ever confirmed.
    pub const fn is_anchored(&self) -> bool {
        self.is_anchored
    }

    /// Ends the doubt after the gateway's clock was set to `own`.
    pub const fn reset(&mut self, own: Timestamp, is_anchored: bool) {
        (self.doubt, self.observed_from, self.is_anchored) = (None, own, is_anchored);
    }

    /// Whether these readings begin or change a doubt. Earlier readings of the vendor's clock are then outdated.
    pub fn is_new_jump(&self, own: Timestamp, reference: Timestamp) -> bool {
        let difference = reference.millis_after(own);
        let known = self.doubt.map_or(0, |doubt| doubt.difference_millis);
        is_jump(difference) && is_jump(difference.saturating_sub(known))
    }

    /// Compares the clocks. After a [`ClockVerdict::Step`], the caller must carry out the step and call
    /// [`reset`](Self::reset).
    pub fn observe(&mut self, readings: &Readings) -> ClockVerdict {
        let Readings { own, reference, vendor, machine, confirmed } = *readings;
        let is_first = std::mem::take(&mut self.is_first);
        let difference = reference.millis_after(own);
        if !is_jump(difference) {
            return self.agree(own, [vendor, machine]);
        }
        if self.is_new_jump(own, reference) {
            self.observed_from = own;
        }
        let since = self.doubt.map_or(own, |doubt| doubt.since);
        let doubt = Doubt { since, difference_millis: difference };
        self.doubt = Some(doubt);
        if reference < EARLIEST {
            return ClockVerdict::Doubt(doubt);
        }
        let supports_own =
            |witness: Option<Timestamp>| witness.is_some_and(|witness| supports(witness, own, reference));
        let is_contradicted = supports_own(vendor) || supports_own(machine);
        if is_contradicted {
            self.observed_from = own;
        }
        let confirmation = if confirmed.is_some_and(|at| is_within(at, reference, CONFIRMATION_VALIDITY)) {
            JumpConfirmation::Operator
        } else if is_contradicted {
            return ClockVerdict::Doubt(doubt);
        } else if !self.is_anchored {
            JumpConfirmation::NewStore
        } else if vendor.is_some_and(|vendor| supports(vendor, reference, own)) {
            JumpConfirmation::Vendor
        } else if is_first && difference > 0 && reference.since(own) <= OUTAGE {
            JumpConfirmation::ShortOutage
        } else if own.since(self.observed_from) >= OBSERVATION {
            JumpConfirmation::Observation
        } else {
            return ClockVerdict::Doubt(doubt);
        };
        let since = self.is_anchored.then_some(since);
        ClockVerdict::Step(ClockStep { since, from: own, to: reference }, confirmation)
    }

    /// Ends the doubt, and anchors the gateway's clock if the clock is confirmed. Before the clock is anchored, a witness that
    /// disagrees causes a doubt.
    fn agree(&mut self, own: Timestamp, witnesses: [Option<Timestamp>; 2]) -> ClockVerdict {
        if self.doubt.take().is_some() && self.is_anchored {
            self.observed_from = own;
        }
        let mut witnesses = witnesses.into_iter().flatten();
        let disagreeing = witnesses.clone().find(|witness| !is_within(*witness, own, AGREEMENT));
        self.is_anchored = self.is_anchored
            || own.since(self.observed_from) >= OBSERVATION
            || disagreeing.is_none() && witnesses.next().is_some();
        match disagreeing {
            Some(witness) if !self.is_anchored => {
                let difference_millis = witness.millis_after(own);
                ClockVerdict::Doubt(Doubt { since: self.observed_from, difference_millis })
            }
            _ => ClockVerdict::Agreement,
        }
    }
}

fn is_jump(difference_millis: i64) -> bool {
    Duration::from_millis(difference_millis.unsigned_abs()) >= TOLERANCE
}

fn is_within(one: Timestamp, other: Timestamp, difference: Duration) -> bool {
    one.since(other).max(other.since(one)) <= difference
}

/// Whether a witness supports `clock` against `other`.
fn supports(witness: Timestamp, clock: Timestamp, other: Timestamp) -> bool {
    let distance = |clock: Timestamp| witness.since(clock).max(clock.since(witness));
    distance(clock) <= AGREEMENT && distance(clock) < distance(other)
}
