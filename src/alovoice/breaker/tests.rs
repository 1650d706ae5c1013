//! The breaker with a clock and jitter set by hand.

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
    let before = START;
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
    let sign = |code| Sign::from(&VendorFault { code, detail: String::new(), retry_after: None });
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
