//! Whether the vendor is worth asking for a tenant: a circuit breaker.
//!
//! ```text
//!          faults in a row, or one that says until when            the pause is over
//! closed ────────────────────────────────────────────────► open ─────────────────────► half-open
//!    ▲                                                       ▲                             │  │
//!    │                                                       └──────── the probe fails ────┘  │
//!    └───────────────────────────── the vendor answers: slowly at first ──────────────────────┘
//! ```
//!
//! Pure: the time and the jitter are passed in.

use std::time::Duration;

use crate::domain::analysis::FaultCode;
use crate::domain::clock::Timestamp;
use crate::domain::lifecycle::{Fault, PollOutcome, SubmitOutcome};
use crate::domain::polling::PollingPolicy;

/// Faults in a row that open it.
const FAULTS_TO_OPEN: u32 = 5;
/// The longest pause between two probes. It may be longer if the vendor says so itself, and while it refuses the token,
/// which only the operator can mend.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What a request tells of the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It answers this tenant. What it says may be of no use.
    Answer,
    /// It does not.
    Fault {
        /// Whether it is there, but refuses the tenant's token.
        refused: bool,
        /// Its `Retry-After`.
        retry_after: Option<Duration>,
    },
}

/// One tenant's.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Its shortest and longest interval bound the pauses.
    policy: PollingPolicy,
    /// Requests at once when all is well.
    full: usize,
    state: State,
    /// Pauses since all was last well: each may be longer than the one before.
    openings: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// After an outage fewer than all are allowed at first, lest all that has become due meanwhile comes at once.
    Closed { allowed: usize, faults: u32 },
    /// Until then nothing is allowed, and afterwards one request at a time: half-open.
    Open { since: Timestamp, until: Timestamp },
}

impl Breaker {
    pub(super) const fn new(full: usize, policy: PollingPolicy) -> Self {
        Self { policy, full, state: State::Closed { allowed: full, faults: 0 }, openings: 0 }
    }

    /// How many requests may be under way now.
    pub(super) fn allowance(&self, now: Timestamp) -> usize {
        match self.state {
            State::Closed { allowed, .. } => allowed,
            State::Open { .. } if self.opens_at(now).is_some() => 0,
            State::Open { .. } => self.full.min(1),
        }
    }

    /// When the next request is allowed, if none is now.
    pub(super) fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state {
            // A clock that was set back must not make the pause longer.
            State::Open { since, until } if since <= now && now < until => Some(until),
            State::Open { .. } | State::Closed { .. } => None,
        }
    }

    /// Whether the vendor is taken to be there.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Takes in what a request that began at `began` has told by `now`; `jitter` is 0 to 1.
    pub(super) fn hear(&mut self, sign: Sign, began: Timestamp, now: Timestamp, jitter: f64) {
        match (self.state, sign) {
            (State::Closed { allowed, .. }, Sign::Answer) => self.close(allowed),
            (State::Open { .. }, Sign::Answer) => self.close(1),
            (State::Closed { allowed, faults }, Sign::Fault { refused, retry_after }) => {
                let faults = faults.saturating_add(1);
                self.state = State::Closed { allowed, faults };
                if faults >= FAULTS_TO_OPEN || retry_after.is_some_and(|pause| !pause.is_zero()) {
                    self.open(refused, retry_after, now, jitter);
                }
            }
            // Of the time before: nothing new.
            (State::Open { since, .. }, Sign::Fault { .. }) if began < since => {}
            (State::Open { .. }, Sign::Fault { refused, retry_after }) => {
                self.open(refused, retry_after, now, jitter);
            }
        }
    }

    /// After an answer, when so many were allowed.
    fn close(&mut self, allowed: usize) {
        let allowed = allowed.saturating_mul(2).min(self.full);
        self.state = State::Closed { allowed, faults: 0 };
        if allowed == self.full {
            self.openings = 0;
        }
    }

    fn open(&mut self, refused: bool, retry_after: Option<Duration>, now: Timestamp, jitter: f64) {
        self.openings = self.openings.saturating_add(1);
        let longest = if refused { Duration::MAX } else { MAX_PAUSE.max(self.policy.min_interval) };
        let pause = self.policy.backoff(self.openings, jitter).min(longest);
        let floor = retry_after.unwrap_or_default().min(PollingPolicy::MAX_RETRY_AFTER);
        self.state = State::Open { since: now, until: now + pause.max(floor) };
    }
}

impl From<&SubmitOutcome> for Sign {
    fn from(outcome: &SubmitOutcome) -> Self {
        match outcome {
            SubmitOutcome::Accepted | SubmitOutcome::Rejected(_) => Self::Answer,
            SubmitOutcome::NotTaken(fault) | SubmitOutcome::Unknown(fault) => fault.into(),
        }
    }
}

impl From<&PollOutcome> for Sign {
    fn from(outcome: &PollOutcome) -> Self {
        match outcome {
            PollOutcome::Ready(_)
            | PollOutcome::Empty(_)
            | PollOutcome::NotReady { .. }
            | PollOutcome::Unchanged
            | PollOutcome::NotFound
            | PollOutcome::Rejected(_) => Self::Answer,
            PollOutcome::Fault(fault) => fault.into(),
        }
    }
}

impl From<&Fault> for Sign {
    fn from(fault: &Fault) -> Self {
        let refused = match fault.code {
            // What cannot be read is an answer all the same.
            FaultCode::CallNotFound | FaultCode::AnswerUnreadable => return Self::Answer,
            FaultCode::TokenRefused => true,
            FaultCode::VendorUnreachable
            | FaultCode::VendorTimeout
            | FaultCode::VendorError
            | FaultCode::VendorThrottled => false,
        };
        Self::Fault { refused, retry_after: fault.retry_after }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_716_207_617_000); // 2024-05-20T12:20:17Z
    const FULL: usize = 32;
    const DOWN: Sign = Sign::Fault { refused: false, retry_after: None };
    const REFUSED: Sign = Sign::Fault { refused: true, retry_after: None };

    fn busy(seconds: u64) -> Sign {
        Sign::Fault { refused: false, retry_after: Some(Duration::from_secs(seconds)) }
    }

    fn policy() -> PollingPolicy {
        let seconds = Duration::from_secs;
        PollingPolicy {
            first_after: seconds(10),
            min_interval: seconds(5),
            max_interval: seconds(300),
            growth: 0.1,
            deadline: seconds(86_400),
            not_found_grace: seconds(600),
            empty_grace: seconds(600),
            settle_after: seconds(120),
        }
    }

    /// A breaker and a clock set by hand.
    struct Story {
        breaker: Breaker,
        now: Timestamp,
    }

    impl Story {
        fn begin() -> Self {
            Self { breaker: Breaker::new(FULL, policy()), now: START }
        }

        /// Open for the first time.
        fn open() -> Self {
            let mut story = Self::begin();
            story.hear_all(&[DOWN; FAULTS_TO_OPEN as usize]);
            story
        }

        /// Requests that begin and end now, with the longest pauses.
        fn hear_all(&mut self, signs: &[Sign]) {
            for sign in signs {
                self.breaker.hear(*sign, self.now, self.now, 1.0);
            }
        }

        fn advance(&mut self, seconds: u64) {
            self.now = self.now + Duration::from_secs(seconds);
        }

        fn allowance(&self) -> usize {
            self.breaker.allowance(self.now)
        }

        /// Seconds until something is allowed.
        fn pause(&self) -> Option<u64> {
            self.breaker.opens_at(self.now).map(|until| until.since(self.now).as_secs())
        }

        /// Seconds of the pause after each of so many probes that fail the moment they are allowed.
        fn pauses(&mut self, sign: Sign, probes: usize) -> Vec<u64> {
            let probe = |_| {
                self.advance(self.pause().unwrap());
                self.hear_all(&[sign]);
                self.pause().unwrap()
            };
            (0..probes).map(probe).collect()
        }
    }

    #[test]
    fn faults_in_a_row_open_it() {
        let mut story = Story::begin();
        story.hear_all(&[DOWN, DOWN, DOWN, DOWN, Sign::Answer, DOWN, DOWN, DOWN, DOWN]);
        assert_eq!((story.allowance(), story.pause()), (FULL, None));
        story.hear_all(&[DOWN]);
        assert_eq!((story.allowance(), story.pause()), (0, Some(5)));
    }

    #[test]
    fn a_vendor_that_says_until_when_is_left_alone_until_then() {
        let pause = |seconds| {
            let mut story = Story::begin();
            story.hear_all(&[busy(seconds)]);
            story.pause()
        };
        assert_eq!([pause(0), pause(77), pause(u64::MAX)], [None, Some(77), Some(3600)]);
    }

    #[test]
    fn after_the_pause_one_at_a_time_is_allowed() {
        let mut story = Story::open();
        story.advance(4);
        assert_eq!(story.allowance(), 0);
        story.advance(1);
        assert_eq!((story.allowance(), story.pause()), (1, None));
    }

    #[test]
    fn every_probe_that_fails_makes_the_pause_longer_up_to_a_minute() {
        assert_eq!(Story::open().pauses(DOWN, 6), [10, 20, 40, 60, 60, 60]);
    }

    #[test]
    fn a_refused_token_is_left_alone_for_longer() {
        assert_eq!(Story::open().pauses(REFUSED, 7), [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn pauses_are_spread() {
        let mut story = Story::open();
        story.pauses(DOWN, 3);
        story.advance(40);
        story.breaker.hear(DOWN, story.now, story.now, 0.5);
        assert_eq!(story.pause(), Some(40));
    }

    #[test]
    fn an_answer_closes_it_and_what_is_allowed_doubles_with_every_further_one() {
        let mut story = Story::open();
        story.advance(5);
        let allowed = [(); 6].map(|()| {
            story.hear_all(&[Sign::Answer]);
            story.allowance()
        });
        assert_eq!(allowed, [2, 4, 8, 16, 32, 32]);
    }

    #[test]
    fn pauses_begin_anew_only_when_all_was_well() {
        let opened_again_after = |answers| {
            let mut story = Story::open();
            story.pauses(DOWN, 2);
            story.advance(20);
            story.hear_all(&vec![Sign::Answer; answers]);
            story.hear_all(&[DOWN; FAULTS_TO_OPEN as usize]);
            story.pause()
        };
        assert_eq!((opened_again_after(1), opened_again_after(5)), (Some(40), Some(5)));
    }

    #[test]
    fn requests_from_before_it_opened_tell_nothing_new_when_they_fail() {
        let mut story = Story::open();
        story.advance(5);
        let before = Timestamp::from_millis(START.as_millis() - 1);
        story.breaker.hear(DOWN, before, story.now, 1.0);
        assert_eq!((story.allowance(), story.pause()), (1, None));
        story.breaker.hear(Sign::Answer, before, story.now, 1.0);
        assert_eq!(story.allowance(), 2);
    }

    #[test]
    fn a_clock_that_was_set_back_ends_the_pause() {
        let mut story = Story::open();
        story.now = Timestamp::from_millis(START.as_millis() - 86_400_000);
        assert_eq!((story.allowance(), story.pause()), (1, None));
    }

    #[test]
    fn what_the_vendor_says_of_a_call_is_an_answer() {
        let sign = |code| Sign::from(&Fault { code, detail: String::new(), retry_after: None });
        assert_eq!(sign(FaultCode::CallNotFound), Sign::Answer);
        assert_eq!(sign(FaultCode::AnswerUnreadable), Sign::Answer);
        assert_eq!(sign(FaultCode::TokenRefused), REFUSED);
        for code in [
            FaultCode::VendorUnreachable,
            FaultCode::VendorTimeout,
            FaultCode::VendorError,
            FaultCode::VendorThrottled,
        ] {
            assert_eq!(sign(code), DOWN);
        }
        assert_eq!(Sign::from(&PollOutcome::NotFound), Sign::Answer);
        assert_eq!(Sign::from(&SubmitOutcome::Rejected(400)), Sign::Answer);
    }

    fn signs() -> impl Strategy<Value = Sign> {
        prop_oneof![
            Just(Sign::Answer),
            (any::<bool>(), prop::option::of(any::<Duration>()))
                .prop_map(|(refused, retry_after)| Sign::Fault { refused, retry_after }),
        ]
    }

    proptest! {
        #[test]
        fn it_never_allows_too_much_and_always_something_in_the_end(
            full in 1..1024_usize,
            plot in prop::collection::vec((signs(), any::<i64>(), 0..10_000_000_u64, 0.0..1.0_f64), 0..100),
        ) {
            let mut breaker = Breaker::new(full, policy());
            let mut now = START;
            for (sign, began, passed, jitter) in plot {
                now = now + Duration::from_millis(passed);
                breaker.hear(sign, Timestamp::from_millis(began), now, jitter);
                prop_assert!(breaker.allowance(now) <= full);
                prop_assert!(breaker.allowance(now + PollingPolicy::MAX_RETRY_AFTER) >= 1);
            }
        }
    }
}
