use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_780_000_000_000); // 2026-05-28
const DAY: i64 = 24 * 3600 * 1000;

fn stored(at: Timestamp) -> StoredClock {
    StoredClock { at, steps: 0, is_anchored: true, retention_after: at, confirmed: None }
}

fn anchored() -> ClockGuard {
    ClockGuard::start(Some(stored(NOW)), NOW).0
}

fn readings(own: Timestamp, reference: Timestamp) -> Readings {
    Readings { own, reference, vendor: None, machine: None, confirmed: None }
}

/// Compares the clocks at `NOW + after`. The reference is ahead by `jump` milliseconds.
fn later(guard: &mut ClockGuard, after: Duration, jump: i64) -> ClockVerdict {
    guard.observe(&readings(NOW + after, (NOW + after).plus_millis(jump)))
}

fn confirmation(verdict: ClockVerdict) -> Option<JumpConfirmation> {
    match verdict {
        ClockVerdict::Step(_, confirmation) => Some(confirmation),
        ClockVerdict::Agreement | ClockVerdict::Doubt(_) => None,
    }
}

#[test]
fn a_jump_that_returns_changes_nothing() {
    for jump in [400 * DAY, 2 * DAY, -2 * DAY, 12_000] {
        let mut guard = anchored();
        assert_eq!(later(&mut guard, Duration::ZERO, 0), ClockVerdict::Agreement);
        let doubt = Doubt { since: NOW + TOLERANCE, difference_millis: jump };
        assert_eq!(later(&mut guard, TOLERANCE, jump), ClockVerdict::Doubt(doubt));
        assert_eq!(later(&mut guard, TOLERANCE * 2, jump), ClockVerdict::Doubt(doubt));
        assert_eq!(later(&mut guard, TOLERANCE * 3, 0), ClockVerdict::Agreement);
    }
}

#[test]
fn a_start_continues_from_the_stored_time() {
    for jump in [400 * DAY, 2 * DAY, -26 * 365 * DAY] {
        let (mut guard, own) = ClockGuard::start(Some(stored(NOW)), NOW.plus_millis(jump));
        assert_eq!(own, NOW);
        assert!(matches!(later(&mut guard, Duration::ZERO, jump), ClockVerdict::Doubt(_)), "{jump}");
    }
    let (mut guard, own) = ClockGuard::start(Some(stored(NOW)), NOW.plus_millis(9_000));
    assert_eq!(own, NOW.plus_millis(9_000));
    assert_eq!(guard.observe(&readings(own, own)), ClockVerdict::Agreement);
}

#[test]
fn a_short_outage_is_plausible_unless_the_machine_contradicts() {
    let start = || ClockGuard::start(Some(stored(NOW)), NOW + OUTAGE).0;
    let step = ClockStep { since: Some(NOW), from: NOW, to: NOW + OUTAGE };
    let verdict = start().observe(&readings(NOW, NOW + OUTAGE));
    assert_eq!(verdict, ClockVerdict::Step(step, JumpConfirmation::ShortOutage));
    let machine = Some(NOW + Duration::from_secs(1));
    let verdict = start().observe(&Readings { machine, ..readings(NOW, NOW + OUTAGE) });
    assert!(matches!(verdict, ClockVerdict::Doubt(_)), "{verdict:?}");
}

#[test]
fn the_vendor_confirms_the_clock_that_it_is_closer_to() {
    for jump in [21 * DAY, -21 * DAY, 30_000, -30_000] {
        let mut guard = anchored();
        later(&mut guard, Duration::ZERO, 0);
        let (own, reference) = (NOW, NOW.plus_millis(jump));
        for (vendor, expected) in [
            (own.plus_millis(2_000), None),
            (NOW.plus_millis(5 * 3600 * 1000), None),
            (reference.plus_millis(-2_000), Some(JumpConfirmation::Vendor)),
        ] {
            let verdict = guard.observe(&Readings { vendor: Some(vendor), ..readings(own, reference) });
            assert_eq!(confirmation(verdict), expected, "{jump} {vendor}");
        }
    }
}

#[test]
fn a_jump_that_stays_the_same_is_accepted_after_the_observation() {
    let mut guard = anchored();
    later(&mut guard, Duration::ZERO, 0);
    let second = Duration::from_secs(1);
    later(&mut guard, second, DAY);
    assert_eq!(confirmation(later(&mut guard, OBSERVATION, DAY)), None);
    assert_eq!(confirmation(later(&mut guard, OBSERVATION + second, 2 * DAY)), None, "it jumped again");
    assert_eq!(confirmation(later(&mut guard, OBSERVATION * 2, 2 * DAY)), None);
    let at = NOW + OBSERVATION * 2;
    let contradicted = Readings { machine: Some(at), ..readings(at, at.plus_millis(2 * DAY)) };
    assert_eq!(confirmation(guard.observe(&contradicted)), None);
    assert_eq!(confirmation(later(&mut guard, OBSERVATION * 3 - second, 2 * DAY)), None);
    let ClockVerdict::Step(step, JumpConfirmation::Observation) = later(&mut guard, OBSERVATION * 3, 2 * DAY)
    else {
        panic!("the jump is believed")
    };
    assert_eq!((step.since, step.shift_millis()), (Some(NOW + second), 2 * DAY));
}

#[test]
fn an_operator_confirms_the_time_against_every_witness() {
    let mut guard = anchored();
    let (own, reference) = (NOW, NOW.plus_millis(DAY));
    let confirmed = Some(reference.plus_millis(-60_000));
    let readings = Readings { vendor: Some(own), machine: Some(own), confirmed, ..readings(own, reference) };
    assert_eq!(confirmation(guard.observe(&readings)), Some(JumpConfirmation::Operator));
    let outdated = Some(reference.plus_millis(-3600 * 1000));
    assert_eq!(confirmation(anchored().observe(&Readings { confirmed: outdated, ..readings })), None);
}

#[test]
fn a_new_store_follows_a_jump_at_once_until_a_witness_agrees() {
    let (mut guard, own) = ClockGuard::start(None, NOW);
    assert_eq!((own, guard.is_anchored()), (NOW, false));
    let ClockVerdict::Step(step, JumpConfirmation::NewStore) = later(&mut guard, Duration::ZERO, -400 * DAY)
    else {
        panic!("the jump is followed")
    };
    assert_eq!(step, ClockStep { since: None, from: NOW, to: NOW.plus_millis(-400 * DAY) });

    let (mut guard, _) = ClockGuard::start(None, NOW);
    let vendor = Some(NOW.plus_millis(1_000));
    let verdict = guard.observe(&Readings { vendor, ..readings(NOW, NOW) });
    assert_eq!((verdict, guard.is_anchored()), (ClockVerdict::Agreement, true));
    assert!(matches!(later(&mut guard, Duration::ZERO, DAY), ClockVerdict::Doubt(_)));

    let (mut guard, _) = ClockGuard::start(None, NOW);
    let verdict = guard.observe(&Readings { vendor: Some(NOW.plus_millis(-DAY)), ..readings(NOW, NOW) });
    assert_eq!(verdict, ClockVerdict::Doubt(Doubt { since: NOW, difference_millis: -DAY }));
    later(&mut guard, OBSERVATION, 0);
    assert!(guard.is_anchored());
}

#[test]
fn a_time_before_any_gateway_is_never_accepted() {
    let in_2000 = Timestamp::from_millis(946_684_800_000);
    let (mut guard, own) = ClockGuard::start(None, in_2000);
    assert_eq!(own, EARLIEST);
    for hours in 0..50 {
        let after = Duration::from_hours(hours);
        let readings =
            Readings { vendor: Some(in_2000 + after), ..readings(EARLIEST + after, in_2000 + after) };
        assert!(matches!(guard.observe(&readings), ClockVerdict::Doubt(_)));
    }
    let verdict = guard.observe(&readings(EARLIEST, NOW));
    assert_eq!(confirmation(verdict), Some(JumpConfirmation::NewStore), "the machine has its time again");
}

/// One comparison of a simulation.
#[derive(Debug, Clone)]
struct Moment {
    /// Time since the previous comparison.
    after: Duration,
    /// The error of the reference from now on, in milliseconds; `None` if the error does not change.
    error: Option<i64>,
    /// Whether the vendor has answered since the latest jump.
    has_vendor: bool,
    /// Whether the process is replaced before the comparison.
    restarts: bool,
}

fn moments(longest: u64) -> impl Strategy<Value = Vec<Moment>> {
    let jump = prop_oneof![
        -800 * DAY..800 * DAY,
        -3 * DAY..3 * DAY,
        -120_000_i64..120_000,
        Just(400 * DAY),
        Just(-26 * 365 * DAY)
    ];
    // The gateway's clock follows differences below the tolerance.
    let error = jump.prop_map(|jump| if is_jump(jump) { jump } else { 0 });
    let moment =
        (1..longest, proptest::option::weighted(0.3, error), any::<bool>(), proptest::bool::weighted(0.1));
    let moment = moment.prop_map(|(seconds, error, has_vendor, restarts)| Moment {
        after: Duration::from_secs(seconds),
        error,
        has_vendor,
        restarts,
    });
    proptest::collection::vec(moment, 1..200)
}

/// Runs a gateway with a reference that jumps. Returns the error of the gateway's clock at each comparison, in milliseconds.
fn simulate(moments: &[Moment], vendor_answers: bool) -> Vec<i64> {
    let (mut guard, mut own) = ClockGuard::start(Some(stored(NOW)), NOW);
    assert_eq!(guard.observe(&readings(NOW, NOW)), ClockVerdict::Agreement);
    let (mut time, mut error) = (NOW, 0);
    let mut errors = Vec::new();
    for moment in moments {
        (time, own) = (time + moment.after, own + moment.after);
        error = moment.error.unwrap_or(error);
        let reference = time.plus_millis(error);
        if moment.restarts {
            // The store has the time of the previous comparison, and the outage is short.
            (guard, own) = ClockGuard::start(Some(stored(own)), reference);
        }
        let vendor = (vendor_answers && moment.has_vendor).then_some(time);
        match guard.observe(&Readings { vendor, ..readings(own, reference) }) {
            ClockVerdict::Agreement => own = reference,
            ClockVerdict::Doubt(_) => {}
            ClockVerdict::Step(step, _) => {
                assert_eq!((step.from, step.to), (own, reference));
                own = reference;
                guard.reset(own, true);
            }
        }
        errors.push(own.millis_after(time));
    }
    errors
}

/// Returns the moments before [`OBSERVATION`] has passed.
fn of_the_observation(moments: Vec<Moment>) -> Vec<Moment> {
    let mut sum = Duration::ZERO;
    let is_within = |moment: &Moment| {
        sum += moment.after;
        sum < OBSERVATION
    };
    moments.into_iter().take_while(is_within).collect()
}

proptest! {
    #[test]
    fn no_jump_moves_the_gateways_clock_while_the_vendor_answers(moments in moments(600)) {
        let moment = |moment: Moment| Moment { restarts: false, has_vendor: true, ..moment };
        let errors = simulate(&moments.into_iter().map(moment).collect::<Vec<_>>(), true);
        prop_assert!(errors.iter().all(|error| *error == 0), "{errors:?}");
    }

    #[test]
    fn no_jump_is_accepted_before_the_end_of_the_observation(moments in moments(60)) {
        let moment = |moment: Moment| Moment { restarts: false, ..moment };
        let moments = of_the_observation(moments.into_iter().map(moment).collect());
        let errors = simulate(&moments, false);
        prop_assert!(errors.iter().all(|error| *error == 0), "{errors:?}");
    }

    /// A restart accepts a jump ahead of at most [`OUTAGE`], and the gateway's clock follows differences below the tolerance.
    #[test]
    fn restarts_among_jumps_accept_short_outages_only(moments in moments(60)) {
        let moments = of_the_observation(moments);
        let restarts = u32::try_from(moments.iter().filter(|moment| moment.restarts).count()).unwrap();
        let followed = TOLERANCE * u32::try_from(moments.len()).unwrap() + AGREEMENT;
        let most = (OUTAGE * restarts + followed).as_millis();
        for error in simulate(&moments, true) {
            prop_assert!(u128::from(error.unsigned_abs()) <= most, "{error} {restarts}");
        }
    }

    /// If the gateway's clock is wrong and the vendor's clock is right, the gateway's clock becomes right as soon as the
    /// reference is right.
    #[test]
    fn a_wrong_gateway_clock_is_corrected_with_the_reference(error in -800 * DAY..800 * DAY, after in 1_u64..100_000) {
        prop_assume!(error.unsigned_abs() > 70_000);
        let wrong = NOW.plus_millis(error);
        let (mut guard, own) = ClockGuard::start(Some(stored(wrong)), wrong);
        prop_assert_eq!(guard.observe(&readings(own, wrong)), ClockVerdict::Agreement);
        let (own, right) = (own + Duration::from_secs(after), NOW + Duration::from_secs(after));
        let verdict = guard.observe(&Readings { vendor: Some(right.plus_millis(900)), ..readings(own, right) });
        prop_assert_eq!(confirmation(verdict), Some(JumpConfirmation::Vendor));
    }
}
