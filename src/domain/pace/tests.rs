//! Tests of the bounds of the estimate, of changes that it must follow, and of outliers that it must ignore.

use proptest::prelude::*;

use super::simulation::{SeededRandom, SimulatedCall, SimulatedOutcome, Simulation, quantile};
use super::*;

const MEDIAN: Duration = Duration::from_secs(180);
const SPREAD: f64 = 0.35;
const LATENCY: Duration = Duration::from_millis(200);
/// Average time between two calls.
const APART: Duration = Duration::from_secs(20);

fn simulation() -> Simulation {
    Simulation::new(PollingPolicy::default(), LATENCY, true)
}

fn first_poll_after(simulation: &Simulation) -> f64 {
    Pace::first_poll_after(simulation.pace, &PollingPolicy::default()).as_secs_f64()
}

/// Returns the time within which the share [`Pace::QUANTILE`] of the results is ready, in seconds.
fn ideal(chance: &mut SeededRandom, median: Duration) -> f64 {
    quantile((0..100_000).map(|_| chance.takes(median, SPREAD).as_secs_f64()), Pace::QUANTILE)
}

fn polls(outcomes: &[SimulatedOutcome]) -> f64 {
    quantile(outcomes.iter().map(|outcome| f64::from(outcome.polls)), 0.5)
}

fn delay(outcomes: &[SimulatedOutcome]) -> f64 {
    quantile(outcomes.iter().map(|outcome| outcome.delay), 0.9)
}

#[test]
fn five_polls_at_the_median_and_a_tenth_late_at_the_ninth_decile() {
    let mut outcomes = Vec::new();
    for seed in 1..=4 {
        let calls = SeededRandom::seeded(seed).calls(10_000, APART, MEDIAN, SPREAD);
        // This includes the first calls, before the estimate has samples.
        outcomes.extend(simulation().run(&calls));
    }
    let (polls, delay) = (polls(&outcomes), delay(&outcomes));
    assert!(polls <= 5.0, "{polls} polls");
    assert!(delay <= 0.1, "{delay} late");
}

#[test]
fn the_estimate_follows_a_vendor_that_changes() {
    let mut chance = SeededRandom::seeded(5);
    let mut simulation = simulation();
    let mut begin = Duration::ZERO;
    for median in [MEDIAN, MEDIAN * 2, MEDIAN, MEDIAN / 2] {
        let mut calls = chance.calls(1000, APART, median, SPREAD);
        for call in &mut calls {
            call.at += begin;
        }
        begin += APART * 1000;
        simulation.run(&calls);
        let (learned, ideal) = (first_poll_after(&simulation), ideal(&mut chance, median));
        assert!((ideal / 1.2..ideal * 1.2).contains(&learned), "{learned} s, and not {ideal} s");
    }
}

#[test]
fn a_vendor_that_is_always_ready_at_the_first_poll_is_polled_earlier() {
    let calls = SeededRandom::seeded(6).calls(100, APART, Duration::from_secs(3), SPREAD);
    let mut simulation = simulation();
    simulation.run(&calls);
    assert_eq!(first_poll_after(&simulation), PollingPolicy::default().min_interval.as_secs_f64());
}

#[test]
fn a_burst_planned_without_an_estimate_does_not_distort_the_estimate() {
    for seed in 1..=4 {
        let mut chance = SeededRandom::seeded(seed);
        let mut simulation = simulation();
        let ideal = ideal(&mut chance, MEDIAN);
        // The burst repeats every night.
        for night in 0..4 {
            let at = Duration::from_secs(86_400) * night;
            let burst: Vec<SimulatedCall> =
                (0..2000).map(|_| SimulatedCall { at, takes: chance.takes(MEDIAN, SPREAD) }).collect();
            simulation.run(&burst);
            let learned = first_poll_after(&simulation);
            assert!((ideal / 2.0..ideal * 1.5).contains(&learned), "{learned} s, and not {ideal} s");
        }
    }
}

/// Returns the share of processing times of a later day that exceed the estimate.
fn exceeding(estimate: Duration, chance: &mut SeededRandom, median: Duration, spread: f64) -> f64 {
    let exceeding = (0..20_000).filter(|_| chance.takes(median, spread) > estimate).count();
    exceeding as f64 / 20_000.0
}

#[test]
fn one_result_in_a_hundred_takes_longer_than_the_99th_percentile() {
    let policy = PollingPolicy::default();
    assert_eq!(Pace::slowest(None, &policy), policy.first_after * 30);
    for spread in [0.2, SPREAD, 0.6] {
        let mut chance = SeededRandom::seeded(7);
        let mut simulation = simulation();
        simulation.run(&chance.calls(16, APART, MEDIAN, spread));
        let early = exceeding(Pace::slowest(simulation.pace, &policy), &mut chance, MEDIAN, spread);
        assert!(early < 0.1, "{early} after few results with spread {spread}");
        simulation.run(&chance.calls(5000, APART, MEDIAN, spread));
        let late = exceeding(Pace::slowest(simulation.pace, &policy), &mut chance, MEDIAN, spread);
        assert!((0.000_5..0.03).contains(&late), "{late} with spread {spread}");
    }
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![any::<Duration>(), (0..10_000_u64).prop_map(Duration::from_millis)]
}

proptest! {
    #[test]
    fn the_estimate_stays_within_bounds(
        known in prop::option::of((durations(), any::<u32>(), any::<i64>())),
        observations in prop::collection::vec((durations(), any::<bool>(), any::<i64>()), 0..50),
        min_interval in 1..100_000_000_u64, growth in 0.0..10.0_f64,
    ) {
        let min_interval = Duration::from_millis(min_interval);
        let policy = PollingPolicy { min_interval, growth, ..PollingPolicy::default() };
        let at = Timestamp::from_millis;
        let mut pace = known.map(|(first_poll_after, samples, learned_at)| Pace {
            first_poll_after, slowest: first_poll_after, samples, learned_at: at(learned_at),
        });
        for (found_after, at_first_poll, now) in observations {
            let learned = Pace::learn(pace, ProcessingTime { found_after, at_first_poll }, &policy, at(now));
            if let Some(learned) = learned {
                let bounds = min_interval..=Pace::MAX_FIRST_POLL_AFTER.max(min_interval);
                prop_assert!(bounds.contains(&learned.first_poll_after));
                prop_assert!(learned.samples >= pace.map_or(0, |pace| pace.samples));
            }
            pace = learned.or(pace);
            let slowest = learned.map_or(min_interval, |learned| learned.slowest);
            prop_assert!(slowest >= min_interval && slowest <= policy.deadline.max(min_interval));
            let first_poll_after = Pace::first_poll_after(pace, &policy);
            prop_assert!(first_poll_after <= Pace::MAX_FIRST_POLL_AFTER.max(min_interval).max(policy.first_after));
        }
    }
}
