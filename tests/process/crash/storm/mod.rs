//! Storms: hundreds of calls in flight, a faulty vendor, faulty receivers, and at random moments all that can happen to
//! the processes, to their store, to the way to it and to their clocks, often two things at once.
//!
//! A run is a seed, and the plan that comes of it is printed: `STORM_SEED=1 cargo test --test process storm` plays it
//! again, as far as the machine's timing allows. `STORM_RUNS=20` makes so many runs on each engine. `STORM_LOGS=folder`
//! keeps what the processes logged.

mod calls;
mod clocks;
mod crowd;
mod fault;
mod fleet;
mod office;
mod plan;
mod tally;
mod weather;

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;

use self::crowd::Crowd;
use self::fault::Engine;
use self::fleet::Fleet;
use self::plan::Plan;
use self::tally::Tally;
use self::weather::Weather;
use crate::gateway::within;
use crate::postgres::server::{Options, Server};
use crate::stage::Stage;

/// In a run of all tests, on each engine.
const RUNS: u64 = 1;

/// The work of one request, and the lease of that: `2 × timeout + 2 s`.
const TIMEOUT: &str = "500ms";
const LEASE: std::time::Duration = std::time::Duration::from_secs(3);

fn runs() -> u64 {
    std::env::var("STORM_RUNS").map_or(RUNS, |runs| runs.parse().unwrap())
}

fn prepared(mut stage: Stage) -> Arc<Stage> {
    for key in ["VENDOR__REQUEST_TIMEOUT", "CALLBACKS__TIMEOUT"] {
        stage.set(key, TIMEOUT);
    }
    // Receivers that are down for a while must not use them up.
    stage.set("CALLBACKS__RETRY_SCHEDULE", &[["100ms"; 16], ["1s"; 16]].concat().join(","));
    Arc::new(stage)
}

/// Three replicas on a server of their own, which is stopped and killed too.
#[tokio::test]
async fn postgres() {
    let mut server = Server::start(Options::default()).await;
    let first = super::random::seed("STORM_SEED");
    for seed in (0..runs()).map(|run| first.wrapping_add(run)) {
        let stage = prepared(Stage::on(server.fresh_database().await).await);
        let fleet = Fleet::on_server(&stage, &server).await;
        let (tally, after) = run(seed, Engine::Postgres, &stage, fleet, Some(server)).await;
        println!("{tally}");
        server = after.unwrap();
    }
}

/// One process, whose store is a file.
#[tokio::test]
async fn sqlite() {
    let first = super::random::seed("STORM_SEED");
    for seed in (0..runs()).map(|run| first.wrapping_add(run)) {
        let stage = prepared(Stage::set_up().await);
        let fleet = Fleet::on_file(&stage).await;
        let (tally, _) = run(seed, Engine::Sqlite, &stage, fleet, None).await;
        println!("{tally}");
    }
}

/// One storm, and the calm after it.
async fn run(
    seed: u64,
    engine: Engine,
    stage: &Arc<Stage>,
    fleet: Fleet,
    server: Option<Server>,
) -> (Tally, Option<Server>) {
    let plan = Plan::make(engine, &mut StdRng::seed_from_u64(seed), fleet.has_clocks());
    println!("STORM_SEED={seed} on {engine:?}\n{plan}");
    let mut crowd = Crowd::gather(stage, fleet.addresses(), seed);
    let mut weather = Weather::new(stage, fleet, server, crowd.ends());
    for blow in &plan.blows {
        let begin = crowd.mark();
        crowd.begin_wave(&blow.calls);
        within("the moment", crowd.until(&blow.moment, begin)).await;
        within("the end of a fault", weather.strike(blow)).await;
    }
    let ledger = within("an answer to every submission", crowd.disperse()).await;
    let (fleet, server) = weather.clear();
    (Tally::settle(seed, &plan, &ledger, stage, fleet).await, server)
}
