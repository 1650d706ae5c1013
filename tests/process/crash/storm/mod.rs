//! Storms: hundreds of calls in flight, a faulty vendor and faulty receivers. At random moments, faults hit the processes, their store,
//! the connection to it and their clocks, often two at once.
//!
//! The seed determines the plan, and a run prints both. `STORM_SEED=1 cargo test --test process storm` repeats a run, as far as the
//! timing of the machine allows. `STORM_RUNS=20` makes 20 runs on each engine. `STORM_CLOCK=1` steps a clock at every step of the plan. `STORM_LOGS=folder` keeps the logs of the processes.

mod calls;
mod client;
mod clients;
mod fault;
mod fleet;
mod injector;
mod plan;
mod tally;

use std::net::Ipv4Addr;
use std::sync::Arc;

use alovoice_gateway::sandbox::receiver::{Receiver, ReceiverOptions};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::clients::Clients;
use self::fault::Engine;
use self::fleet::Fleet;
use self::injector::FaultInjector;
use self::plan::Plan;
use self::tally::Tally;
use crate::gateway::within;
use crate::postgres::server::{Options, Server};
use crate::stage::Stage;

/// Default number of runs on each engine.
const RUNS: u64 = 1;

/// Timeout of vendor requests and callbacks. The lease is `2 × timeout + 2 s`.
const TIMEOUT: &str = "500ms";
const LEASE: std::time::Duration = std::time::Duration::from_secs(3);

fn runs() -> u64 {
    std::env::var("STORM_RUNS").map_or(RUNS, |runs| runs.parse().unwrap())
}

async fn prepared(mut stage: Stage) -> Arc<Stage> {
    // All addresses of loopback reach the receiver.
    let address = (Ipv4Addr::UNSPECIFIED, 0).into();
    stage.receiver = Receiver::start(ReceiverOptions { address, ..Default::default() }).await.unwrap();
    for key in ["VENDOR__REQUEST_TIMEOUT", "CALLBACKS__TIMEOUT"] {
        stage.set(key, TIMEOUT);
    }
    // Receivers that are down for a while, or slow on a busy machine, must not exhaust the schedule.
    stage.set("CALLBACKS__RETRY_SCHEDULE", &[["100ms"; 16], ["10s"; 16]].concat().join(","));
    Arc::new(stage)
}

/// Three replicas on their own PostgreSQL server, which is stopped and killed too.
#[tokio::test]
async fn postgres() {
    let mut server = Server::start(Options { stepped_clock: true, ..Options::default() }).await;
    let first = super::random::seed("STORM_SEED");
    for seed in (0..runs()).map(|run| first.wrapping_add(run)) {
        let stage = prepared(Stage::on(server.fresh_database().await).await).await;
        let fleet = Fleet::on_server(&stage, &server).await;
        let (tally, after) = run(seed, Engine::Postgres, &stage, fleet, Some(server)).await;
        println!("{tally}");
        server = after.unwrap();
    }
}

/// One process with a SQLite store.
#[tokio::test]
async fn sqlite() {
    let first = super::random::seed("STORM_SEED");
    for seed in (0..runs()).map(|run| first.wrapping_add(run)) {
        let stage = prepared(Stage::set_up().await).await;
        let fleet = Fleet::on_file(&stage).await;
        let (tally, _) = run(seed, Engine::Sqlite, &stage, fleet, None).await;
        println!("{tally}");
    }
}

/// Runs one storm and checks the result.
async fn run(
    seed: u64,
    engine: Engine,
    stage: &Arc<Stage>,
    fleet: Fleet,
    server: Option<Server>,
) -> (Tally, Option<Server>) {
    let plan = Plan::make(engine, &mut StdRng::seed_from_u64(seed), fleet.has_clocks());
    println!("STORM_SEED={seed} on {engine:?}\n{plan}");
    let mut clients = Clients::start(stage, fleet.addresses(), seed);
    let mut injector = FaultInjector::new(stage, fleet, server, clients.counts());
    for step in &plan.steps {
        let begin = clients.baseline();
        clients.begin_wave(&step.calls);
        within("the moment of a fault", clients.until(&step.moment, begin)).await;
        within("the end of a fault", injector.run(step)).await;
    }
    let ledger = within("an acknowledgement of every submission", clients.finish()).await;
    let (fleet, server) = injector.into_parts();
    (Tally::settle(seed, &plan, &ledger, stage, fleet).await, server)
}
