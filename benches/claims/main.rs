//! What a claim of due work costs with a thousand rows in the store and with a million: `cargo bench --bench claims`.
//!
//! Each engine is compared with itself, in one run. A claim takes 16 of each of two tenants; in the last rows one of them
//! has 100,000 due. PostgreSQL is found as the tests find it, and syncs every commit, as SQLite does.

#![expect(clippy::print_stdout, reason = "a table is what this prints")]
#![expect(clippy::unwrap_used, reason = "a benchmark may fail at any line")]

mod engine;
mod fill;
#[expect(dead_code, reason = "each of the binaries that share it uses a part")]
#[path = "../../tests/postgres/mod.rs"]
mod postgres;

use std::time::{Duration, Instant};

use alovoice_gateway::domain::ids::TenantId;
use alovoice_gateway::store::{DeliverySlots, Queue};

use engine::Engine;

/// Claims of each kind.
const ROUNDS: usize = 40;
const TENANTS: [&str; 2] = ["acme", "globex"];
const OF_EACH: usize = 16;
/// What a tenant has due: enough for all rounds.
const DUE: usize = 1_000;
const LEASE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() {
    println!("| engine | claim of 32 | 1,000 at rest (ms) | 1,000,000 at rest (ms) | ratio | target |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let small = measure(engine, 1_000, DUE).await;
        let large = measure(engine, 1_000_000, DUE).await;
        row(engine, "analyses", small.analyses, large.analyses);
        row(engine, "deliveries", small.deliveries, large.deliveries);
        let flooded = measure(engine, 1_000_000, 100_000).await;
        row(engine, "analyses, 100,000 due of one tenant", small.analyses, flooded.analyses);
        row(engine, "deliveries, 100,000 due of one tenant", small.deliveries, flooded.deliveries);
    }
}

fn row(engine: Engine, kind: &str, small: f64, large: f64) {
    println!("| {engine:?} | {kind} | {small:.2} | {large:.2} | {:.2} | 1.2 |", large / small);
}

/// Medians, in milliseconds.
struct Costs {
    analyses: f64,
    deliveries: f64,
}

/// With so many rows at rest, and so many due of one of the two tenants.
async fn measure(engine: Engine, at_rest: usize, flood: usize) -> Costs {
    let opened = engine.open(at_rest, DUE, flood).await;
    let store = &*opened.store;
    let (mut analyses, mut deliveries) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let slots = TENANTS.map(|name| (tenant(name), OF_EACH)).to_vec();
        let claims = store.claim_work_across_tenants(Queue::Polls, slots, LEASE).await.unwrap();
        analyses.push(began.elapsed());
        assert_eq!(claims.claimed.len(), 2 * OF_EACH);

        let began = Instant::now();
        let claims = store.claim_deliveries_across_tenants(slots_for_deliveries(), LEASE).await.unwrap();
        deliveries.push(began.elapsed());
        assert_eq!(claims.claimed.len(), 2 * OF_EACH);
        // Outside of the measurement: else the next claim finds no room.
        for claimed in claims.claimed {
            store.finish_attempt(claimed.lease, fill::delivered()).await.unwrap();
        }
    }
    Costs { analyses: median(&mut analyses), deliveries: median(&mut deliveries) }
}

fn slots_for_deliveries() -> DeliverySlots {
    DeliverySlots {
        tenants: TENANTS.map(tenant).to_vec(),
        total: 2 * OF_EACH,
        bytes: usize::MAX,
        per_tenant: OF_EACH,
        per_receiver: OF_EACH,
    }
}

fn median(values: &mut [Duration]) -> f64 {
    values.sort();
    values[values.len() / 2].as_secs_f64() * 1000.0
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}
