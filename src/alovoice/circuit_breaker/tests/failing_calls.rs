//! Tests that a failing call is distinguished from a failing vendor.

use super::*;

#[test]
fn a_call_that_fails_again_does_not_count_while_others_are_answered() {
    let mut fixture = Fixture::closed();
    fixture.record_all(&[VendorHealth::Answering]);
    for _ in 0..100 {
        fixture.record(DOWN, true, fixture.now);
        fixture.record(busy(30), true, fixture.now);
        fixture.record(REFUSED, true, fixture.now);
    }
    assert_eq!((fixture.limit(), fixture.pause()), (MAX_CONCURRENCY, None));
    // Without an answer for a minute, the vendor may be down.
    fixture.advance(60);
    for _ in 0..FAILURES_TO_OPEN {
        assert_eq!(fixture.pause(), None);
        fixture.record(DOWN, true, fixture.now);
    }
    assert_eq!(fixture.pause(), Some(5));
}

#[test]
fn one_retry_after_pauses_only_its_call_if_the_vendor_has_just_answered() {
    let pause_after = |health, seconds| {
        let mut fixture = Fixture::closed();
        fixture.record_all(&[VendorHealth::Answering]);
        fixture.advance(seconds);
        fixture.record_all(&[health]);
        fixture.pause()
    };
    assert_eq!((pause_after(busy(30), 59), pause_after(busy(30), 60)), (None, Some(30)));
    assert_eq!(pause_after(throttled(30), 0), Some(30));
}

#[test]
fn a_refused_token_has_short_pauses_while_the_token_was_just_accepted() {
    let mut fixture = Fixture::closed();
    fixture.record_all(&[VendorHealth::Answering]);
    fixture.record_all(&[REFUSED; FAILURES_TO_OPEN as usize]);
    assert_eq!(fixture.pauses(REFUSED, 3), [10, 20, 40]);
    assert_eq!(fixture.pauses(REFUSED, 3), [80, 160, 300], "a minute later the token seems to be revoked");
}

#[test]
fn a_call_that_has_not_failed_probes_after_each_minimum_interval() {
    let mut fixture = Fixture::open();
    fixture.pauses(DOWN, 4);
    for _ in 0..3 {
        assert_eq!((fixture.limit(), fixture.breaker.failed_limit(fixture.now)), (0, 0));
        fixture.advance(5);
        assert_eq!((fixture.limit(), fixture.breaker.failed_limit(fixture.now)), (1, 0));
        fixture.record_all(&[DOWN]);
    }
    fixture.advance(60);
    assert_eq!((fixture.limit(), fixture.breaker.failed_limit(fixture.now)), (1, 1));
    fixture.record_all(&[busy(30)]);
    fixture.advance(29);
    assert_eq!(fixture.limit(), 0, "Retry-After holds for every call");
}

#[test]
fn calls_that_fail_get_a_lower_limit_until_they_succeed() {
    let mut fixture = Fixture::closed();
    let failed_limit = |fixture: &Fixture| fixture.breaker.failed_limit(fixture.now);
    let limits = [VendorHealth::Unusable, DOWN, DOWN, DOWN].map(|health| {
        fixture.record(health, true, fixture.now);
        failed_limit(&fixture)
    });
    assert_eq!(limits, [16, 8, 4, 4]);
    fixture.record(VendorHealth::Answering, false, fixture.now);
    assert_eq!(failed_limit(&fixture), 4, "the success of another call does not count");
    let limits = [(); 4].map(|()| {
        fixture.record(VendorHealth::Answering, true, fixture.now);
        failed_limit(&fixture)
    });
    assert_eq!(limits, [8, 16, 32, 32]);
    fixture.record(DOWN, true, fixture.now);
    fixture.advance(600);
    assert_eq!(failed_limit(&fixture), 16);
    fixture.advance(1);
    assert_eq!(failed_limit(&fixture), MAX_CONCURRENCY, "the failures are long ago");
    assert_eq!(fixture.limit(), MAX_CONCURRENCY);
}
