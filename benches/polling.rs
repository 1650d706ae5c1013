//! Number of polls and delay of results, in virtual time: `cargo bench --bench polling`.
//!
//! Compares the gateway's polling policy, with its learned pace, with a poll every three seconds, on the same calls. Each of four
//! tenants has ten thousand calls, which arrive at random over two days. Processing times are log-normal around three minutes, and a
//! request takes 200 ms. The results include the first calls, for which no pace is learned yet. The same seeds give the same table.

#![expect(clippy::print_stdout, reason = "the benchmark prints a table")]
#![expect(clippy::unwrap_used, reason = "the names are valid constants")]

// The simulation is shared with the tests and uses this path.
use alovoice_gateway::domain;

#[path = "../src/domain/pace/simulation.rs"]
mod simulation;

use std::time::Duration;

use domain::polling::PollingPolicy;
use simulation::{SeededRandom, SimulatedOutcome, Simulation, quantile};

const CALLS: usize = 10_000;
const APART: Duration = Duration::from_secs(17);
const MEDIAN: Duration = Duration::from_secs(180);
const LATENCY: Duration = Duration::from_millis(200);
/// One seed for each tenant.
const SEEDS: [u64; 4] = [1, 2, 3, 4];

fn main() {
    println!("| σ | polling | polls: median | mean | mean with the settle poll | delay: p50 | p90 | p99 |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for sigma in [0.25, 0.35, 0.5] {
        let tenants = SEEDS.map(|seed| SeededRandom::seeded(seed).calls(CALLS, APART, MEDIAN, sigma));
        let fixed = fixed_policy(Duration::from_secs(3));
        for (name, policy, learns) in
            [("learned", PollingPolicy::default(), true), ("every 3 s", fixed, false)]
        {
            let simulate = |calls| Simulation::new(policy.clone(), LATENCY, learns).run(calls);
            let outcomes: Vec<SimulatedOutcome> = tenants.iter().flat_map(|calls| simulate(calls)).collect();
            row(sigma, name, &outcomes);
        }
    }
}

/// A policy with a fixed interval and without a learned pace.
fn fixed_policy(interval: Duration) -> PollingPolicy {
    PollingPolicy {
        first_after: interval,
        min_interval: interval,
        max_interval: interval,
        growth: 0.0,
        ..PollingPolicy::default()
    }
}

fn row(sigma: f64, name: &str, outcomes: &[SimulatedOutcome]) {
    let polls = |share| quantile(outcomes.iter().map(|outcome| f64::from(outcome.polls)), share);
    let delay = |share| 100.0 * quantile(outcomes.iter().map(|outcome| outcome.delay), share);
    let sum: f64 = outcomes.iter().map(|outcome| f64::from(outcome.polls)).sum();
    let mean = sum / outcomes.len() as f64;
    println!(
        "| {sigma} | {name} | {} | {mean:.2} | {:.2} | {:.1} % | {:.1} % | {:.1} % |",
        polls(0.5),
        mean + 1.0,
        delay(0.5),
        delay(0.9),
        delay(0.99)
    );
}
