//! Tests with a clock and jitter set by hand.

mod failing_calls;

use proptest::prelude::*;

use super::*;

const START: Timestamp = Timestamp::from_millis(1_716_207_617_000); // 2024-05-20T12:20:17Z
const MAX_CONCURRENCY: usize = 32;
const DOWN: VendorHealth =
    VendorHealth::Failing { token_refused: false, is_throttled: false, retry_after: None };
const REFUSED: VendorHealth =
    VendorHealth::Failing { token_refused: true, is_throttled: false, retry_after: None };

fn busy(seconds: u64) -> VendorHealth {
    let retry_after = Some(Duration::from_secs(seconds));
    VendorHealth::Failing { token_refused: false, is_throttled: false, retry_after }
}

fn throttled(seconds: u64) -> VendorHealth {
    let retry_after = Some(Duration::from_secs(seconds));
    VendorHealth::Failing { token_refused: false, is_throttled: true, retry_after }
}

/// A circuit breaker and a clock set by hand.
struct Fixture {
    breaker: CircuitBreaker,
    now: Timestamp,
}

impl Fixture {
    fn closed() -> Self {
        Self { breaker: CircuitBreaker::new(MAX_CONCURRENCY, PollingPolicy::default()), now: START }
    }

    /// Creates a circuit that opened for the first time.
    fn open() -> Self {
        let mut fixture = Self::closed();
        fixture.record_all(&[DOWN; FAILURES_TO_OPEN as usize]);
        fixture
    }

    /// Records requests that begin and end now, with the largest jitter.
    fn record_all(&mut self, healths: &[VendorHealth]) {
        for health in healths {
            self.record(*health, false, self.now);
        }
    }

    /// Records a request that ends now, with the largest jitter.
    fn record(&mut self, health: VendorHealth, failed_before: bool, began: Timestamp) {
        self.breaker.record(EndedRequest { health, failed_before, began }, self.now, 1.0);
    }

    fn advance(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    fn limit(&self) -> usize {
        self.breaker.limit(self.now)
    }

    /// Returns the number of seconds until a request is allowed.
    fn pause(&self) -> Option<u64> {
        self.breaker.open_until(self.now).map(|until| until.since(self.now).as_secs())
    }

    /// Runs probes that fail immediately. Returns the pause after each probe, in seconds.
    fn pauses(&mut self, health: VendorHealth, probes: usize) -> Vec<u64> {
        let probe = |_| {
            self.advance(self.pause().unwrap());
            self.record_all(&[health]);
            self.pause().unwrap()
        };
        (0..probes).map(probe).collect()
    }
}

#[test]
fn consecutive_failures_open_the_circuit() {
    let mut fixture = Fixture::closed();
    fixture.record_all(&[DOWN, DOWN, DOWN, DOWN, VendorHealth::Answering, DOWN, DOWN, DOWN, DOWN]);
    assert_eq!((fixture.limit(), fixture.pause()), (MAX_CONCURRENCY, None));
    fixture.record_all(&[DOWN]);
    assert_eq!((fixture.limit(), fixture.pause()), (0, Some(5)));
}

#[test]
fn retry_after_opens_the_circuit_for_that_time() {
    let pause = |seconds| {
        let mut fixture = Fixture::closed();
        fixture.record_all(&[busy(seconds)]);
        fixture.pause()
    };
    assert_eq!([pause(0), pause(77), pause(u64::MAX)], [None, Some(77), Some(3600)]);
}

#[test]
fn after_the_pause_one_request_at_a_time_is_allowed() {
    let mut fixture = Fixture::open();
    fixture.advance(4);
    assert_eq!(fixture.limit(), 0);
    fixture.advance(1);
    assert_eq!((fixture.limit(), fixture.pause()), (1, None));
}

#[test]
fn each_failed_probe_doubles_the_pause_up_to_a_minute() {
    assert_eq!(Fixture::open().pauses(DOWN, 6), [10, 20, 40, 60, 60, 60]);
}

#[test]
fn a_refused_token_keeps_the_circuit_open_for_longer() {
    assert_eq!(Fixture::open().pauses(REFUSED, 7), [10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn pauses_have_jitter() {
    let mut fixture = Fixture::open();
    fixture.pauses(DOWN, 3);
    fixture.advance(40);
    let ended = EndedRequest { health: DOWN, failed_before: false, began: fixture.now };
    fixture.breaker.record(ended, fixture.now, 0.5);
    assert_eq!(fixture.pause(), Some(40));
}

#[test]
fn an_answer_closes_the_circuit_and_each_further_answer_doubles_the_limit() {
    let mut fixture = Fixture::open();
    fixture.advance(5);
    let allowed = [(); 6].map(|()| {
        fixture.record_all(&[VendorHealth::Answering]);
        fixture.limit()
    });
    assert_eq!(allowed, [2, 4, 8, 16, 32, 32]);
}

#[test]
fn pauses_start_short_again_only_after_the_full_limit_was_allowed() {
    let opened_again_after = |answers| {
        let mut fixture = Fixture::open();
        fixture.pauses(DOWN, 2);
        fixture.advance(20);
        fixture.record_all(&vec![VendorHealth::Answering; answers]);
        fixture.record_all(&[DOWN; FAILURES_TO_OPEN as usize]);
        fixture.pause()
    };
    assert_eq!((opened_again_after(1), opened_again_after(5)), (Some(40), Some(5)));
}

#[test]
fn failures_of_requests_from_before_the_circuit_opened_are_ignored() {
    let mut fixture = Fixture::open();
    fixture.advance(5);
    let before = START;
    fixture.record(DOWN, false, before);
    assert_eq!((fixture.limit(), fixture.pause()), (1, None));
    fixture.record(VendorHealth::Answering, false, before);
    assert_eq!(fixture.limit(), 2);
}

#[test]
fn a_probe_at_once_ends_the_pause_and_forgets_earlier_failures() {
    let mut fixture = Fixture::open();
    fixture.pauses(REFUSED, 6);
    let before = fixture.now;
    fixture.advance(1);
    fixture.breaker.probe_at_once(fixture.now);
    assert_eq!((fixture.limit(), fixture.pause()), (1, None));
    fixture.record(REFUSED, false, before);
    assert_eq!((fixture.limit(), fixture.pause()), (1, None));
    fixture.advance(1);
    fixture.record_all(&[REFUSED]);
    assert_eq!(fixture.pause(), Some(5));
}

#[test]
fn a_clock_that_was_set_back_ends_the_pause() {
    let mut fixture = Fixture::open();
    fixture.now = Timestamp::from_millis(START.as_millis() - 86_400_000);
    assert_eq!((fixture.limit(), fixture.pause()), (1, None));
}

#[test]
fn an_answer_that_cannot_be_used_closes_the_circuit() {
    let mut fixture = Fixture::open();
    fixture.advance(5);
    fixture.record_all(&[VendorHealth::Unusable]);
    assert_eq!((fixture.limit(), fixture.pause()), (2, None));
}

#[test]
fn an_answer_about_a_call_is_not_a_failure() {
    let health = |code| VendorHealth::from(&VendorFault { code, detail: String::new(), retry_after: None });
    assert_eq!(health(FaultCode::CallNotFound), VendorHealth::Answering);
    assert_eq!(health(FaultCode::AnswerUnreadable), VendorHealth::Unusable);
    assert_eq!(health(FaultCode::TokenRefused), REFUSED);
    for code in [FaultCode::VendorUnreachable, FaultCode::VendorTimeout, FaultCode::VendorError] {
        assert_eq!(health(code), DOWN);
    }
    let throttled = VendorHealth::Failing { token_refused: false, is_throttled: true, retry_after: None };
    assert_eq!(health(FaultCode::VendorThrottled), throttled);
    assert_eq!(VendorHealth::from(&PollOutcome::NotFound(None)), VendorHealth::Answering);
    assert_eq!(
        VendorHealth::from(&SubmitOutcome::Rejected("the vendor answered 400".to_owned())),
        VendorHealth::Answering
    );
}

fn healths() -> impl Strategy<Value = VendorHealth> {
    prop_oneof![
        Just(VendorHealth::Answering),
        Just(VendorHealth::Unusable),
        (any::<bool>(), any::<bool>(), prop::option::of(any::<Duration>())).prop_map(
            |(token_refused, is_throttled, retry_after)| VendorHealth::Failing {
                token_refused,
                is_throttled,
                retry_after
            }
        ),
    ]
}

proptest! {
    #[test]
    fn the_limit_is_never_exceeded_and_the_circuit_never_stays_open_forever(
        max_concurrency in 1..1024_usize,
        steps in prop::collection::vec(
            (healths(), any::<bool>(), any::<i64>(), 0..10_000_000_u64, 0.0..1.0_f64),
            0..100
        ),
    ) {
        let mut breaker = CircuitBreaker::new(max_concurrency, PollingPolicy::default());
        let mut now = START;
        for (health, failed_before, began, passed, jitter) in steps {
            now = now + Duration::from_millis(passed);
            let began = Timestamp::from_millis(began);
            breaker.record(EndedRequest { health, failed_before, began }, now, jitter);
            let later = now + PollingPolicy::MAX_RETRY_AFTER;
            for (limit, later_limit) in [
                (breaker.limit(now), breaker.limit(later)),
                (breaker.failed_limit(now), breaker.failed_limit(later)),
            ] {
                prop_assert!(limit <= max_concurrency && later_limit >= 1);
            }
        }
    }
}
