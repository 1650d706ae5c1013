//! Duration of a claim of due work with a thousand and with a million rows in the store: `cargo bench --bench claims`.
//!
//! Each engine is compared with itself in one run. A claim takes 16 rows of each of two tenants. In the last rows of the table, one
//! tenant has 100,000 due rows. The benchmark finds PostgreSQL like the tests do. Both engines sync every commit.

#![expect(clippy::print_stdout, reason = "the benchmark prints a table")]
#![expect(clippy::unwrap_used, reason = "a benchmark may fail at any line")]

mod engine;
mod fill;
#[expect(dead_code, reason = "each binary uses only a part of it")]
#[path = "../../tests/postgres/mod.rs"]
mod postgres;

use std::time::{Duration, Instant};

use alovoice_gateway::domain::claim_order::ClaimOrder;
use alovoice_gateway::domain::ids::TenantId;
use alovoice_gateway::store::{DeliverySlots, Queue, WorkSlots};

use engine::Engine;

/// Number of claims of each kind.
const ROUNDS: usize = 40;
const TENANTS: [&str; 2] = ["acme", "globex"];
const CLAIMS_PER_TENANT: usize = 16;
/// Due rows of a tenant, enough for all rounds.
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

/// Median durations of a claim, in milliseconds.
struct Costs {
    analyses: f64,
    deliveries: f64,
}

/// Measures claims with `at_rest` finished rows and `flood` due rows of the second tenant.
async fn measure(engine: Engine, at_rest: usize, flood: usize) -> Costs {
    let body = match engine {
        Engine::Sqlite => "X'7b7d'",
        Engine::Postgres => r"'\x7b7d'",
    };
    let opened = engine.open(&fill::sql(body, at_rest, DUE, flood)).await;
    let store = &*opened.store;
    let (mut analyses, mut deliveries) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let slots = TENANTS
            .map(|name| WorkSlots {
                tenant: tenant(name),
                free: CLAIMS_PER_TENANT,
                most: usize::MAX,
                order: ClaimOrder::OldestFirst,
            })
            .to_vec();
        let claims = store.claim_work_across_tenants(Queue::Polls, slots, LEASE).await.unwrap();
        analyses.push(began.elapsed());
        assert_eq!(claims.claimed.len(), 2 * CLAIMS_PER_TENANT);

        let began = Instant::now();
        let claims = store.claim_deliveries_across_tenants(slots_for_deliveries(), LEASE).await.unwrap();
        deliveries.push(began.elapsed());
        assert_eq!(claims.claimed.len(), 2 * CLAIMS_PER_TENANT);
        // Not measured. Without it, the next claim would find no free slots.
        for claimed in claims.claimed {
            store.finish_attempt(claimed.lease, fill::delivered()).await.unwrap();
        }
    }
    Costs { analyses: median(&mut analyses), deliveries: median(&mut deliveries) }
}

fn slots_for_deliveries() -> DeliverySlots {
    DeliverySlots {
        tenants: TENANTS.map(tenant).to_vec(),
        total: 2 * CLAIMS_PER_TENANT,
        bytes: usize::MAX,
        per_tenant: CLAIMS_PER_TENANT,
        per_receiver: CLAIMS_PER_TENANT,
        ..DeliverySlots::default()
    }
}

fn median(values: &mut [Duration]) -> f64 {
    values.sort();
    values[values.len() / 2].as_secs_f64() * 1000.0
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}
