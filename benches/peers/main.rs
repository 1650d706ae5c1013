//! Comparison with peers in one run: `cargo bench --bench peers`.
//!
//! The server under test has one core, and the load (`wrk`) has the other core. Runs alternate, so that changes of the machine's
//! speed affect both sides, and medians are compared. Needs Linux, two cores, `taskset` and `wrk`.

#![expect(clippy::print_stdout, reason = "a table is what this prints")]

mod bare;
mod gateway;
mod inserts;
mod load;

use std::process::ExitCode;

use load::{Load, median};

/// Number of runs of each side.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.as_slice() {
        [_, mode, port, body] if mode == "bare" => bare::serve(port, body),
        _ => compare(),
    }
}

#[tokio::main]
async fn compare() -> ExitCode {
    println!(
        "| what | peer | gateway (req/s) | peer (req/s) | ratio | target |\n| --- | --- | --- | --- | --- | --- |"
    );
    cached_get(gateway::QUIET, "cached `get_analysis`, HS256").await;
    cached_get("info", "the same with the audit log").await;
    submit().await;
    ExitCode::SUCCESS
}

/// Compares a finished analysis from the cache, with a valid HS256 token, with a handler that returns the same bytes.
async fn cached_get(filter: &str, what: &str) {
    let gateway = gateway::start(filter).await;
    let url = format!("{}v1/analyses/known-1", gateway.api);
    let body = gateway.get(&url).await;
    let bare = bare::start(&body);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(Load::get(&url, Some(&gateway.token)).run());
        theirs.push(Load::get(&bare.url, None).run());
    }
    row(what, "bare actix-web handler, same bytes", &mut ours, &mut theirs, 0.8);
}

/// Compares durable submissions over 32 connections with plain inserts of the same row, 32 per commit.
async fn submit() {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let gateway = gateway::start(gateway::QUIET).await;
        ours.push(Load::submit(&format!("{}v1/analyses", gateway.api), &gateway.token).run());
        theirs.push(inserts::run());
    }
    row(
        "durable `submit_analysis`, 32 connections",
        "bare inserts, 32 to a commit",
        &mut ours,
        &mut theirs,
        0.5,
    );
}

fn row(what: &str, peer: &str, ours: &mut [f64], theirs: &mut [f64], target: f64) {
    let (ours, theirs) = (median(ours), median(theirs));
    println!("| {what} | {peer} | {ours:.0} | {theirs:.0} | {:.2} | {target} |", ours / theirs);
}
