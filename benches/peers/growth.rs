//! Durations with 1,000, 100,000 and 1,000,000 analyses and deliveries in the store, one request at a time.
//!
//! Each request is sent to the gateways of all three stores in turn, so that changes of the machine's speed affect all of them. The
//! environment variable `LARGEST` sets the size of the largest store, for a quick run.

mod operations;

use std::time::{Duration, Instant};

use alovoice_gateway::domain::clock::{Clock, SystemClock, Timestamp};
use alovoice_gateway::sandbox::stand_in::Ready;
use jsonwebtoken::Algorithm;
use tokio::runtime::Runtime;

use crate::filled::{EXPIRED, Filled};
use crate::gateway::{self, Gateway, Options};
use crate::postgres::server::Server;
use crate::receiver::Receiver;
use crate::report::{Report, grouped};
use crate::signer::Signer;

use operations::{Operation, operations};

/// Requests of each operation to each store.
const ROUNDS: usize = 200;
/// Starts of the gateway on each store.
const STARTS: usize = 10;
/// The largest ratio between the largest and the smallest store, and the largest p99 in milliseconds.
const TARGET: (f64, f64) = (1.2, 50.0);

const SETTINGS: [(&str, &str); 3] = [
    ("GATEWAY_CACHE__MAX_BYTES", "0"),
    ("GATEWAY_VENDOR__POLLING__FIRST_AFTER", "0s"),
    ("GATEWAY_VENDOR__POLLING__MIN_INTERVAL", "100ms"),
];

pub(crate) fn measure_sqlite(report: &mut Report, runtime: &Runtime) {
    runtime.block_on(measure(report, None));
}

pub(crate) fn measure_postgres(report: &mut Report, runtime: &Runtime) {
    runtime.block_on(async {
        let server = gateway::durable_postgres().await;
        measure(report, Some(&server)).await;
    });
}

async fn measure(report: &mut Report, server: Option<&Server>) {
    let signer = Signer::new(Algorithm::HS256);
    let options =
        Options { signer: &signer, postgres: None, processing: Ready::AfterPolls(0), settings: &SETTINGS };
    let largest =
        std::env::var("LARGEST").map_or(1_000_000, |text| text.parse().expect("LARGEST is a number"));
    assert!(largest >= 10_000, "LARGEST is at least 10000");
    let sizes: [i64; 3] = [1_000, largest / 10, largest];
    let mut stores = Vec::new();
    for finished in sizes {
        stores.push(Filled::create(finished, server, options).await);
    }
    let mut rows = Vec::new();
    let mut gateways = Vec::new();
    for store in &stores {
        gateways.push(start(store, options).await);
    }
    let mut retention = Vec::new();
    for (store, gateway) in stores.iter().zip(&gateways) {
        retention.push(retention_of(store, gateway).await);
    }
    let receiver = Receiver::start();
    for (name, operation) in operations(receiver.port) {
        rows.push(row(&name, &mut requests(&operation, &stores, &gateways).await));
    }
    for transaction in ["claim_work", "claim_deliveries"] {
        let mut means = Vec::new();
        for gateway in &gateways {
            means.push(vec![mean(gateway, transaction).await]);
        }
        rows.push(row(&format!("transaction `{transaction}`, mean"), &mut means));
    }
    let retained = format!("retention of {} expired calls, all transactions", grouped(EXPIRED as f64));
    rows.push(row(&retained, &mut retention));
    let now = SystemClock.now().as_millis();
    assert!(
        !stores.iter().any(|store| store.calls.are_unfinished_due(now)),
        "the measurement took so long that the gateways poll the unfinished calls"
    );
    drop(gateways);
    let mut starts = vec![Vec::new(); stores.len()];
    for _ in 0..STARTS {
        for (store, times) in stores.iter().zip(&mut starts) {
            let began = Instant::now();
            let _gateway = start(store, options).await;
            times.push(began.elapsed());
        }
    }
    rows.push(row("start to ready", &mut starts));
    let engine = if server.is_some() { "PostgreSQL" } else { "SQLite" };
    let sizes = sizes.map(|size| format!("{} calls: p50, p99 (ms)", grouped(size as f64)));
    let head =
        ["operation", &sizes[0], &sizes[1], &sizes[2], "ratio of p50, target 1.2", "p99 at most 50 ms"];
    report.table(&format!("Growth of the store, {engine}"), &head, &rows);
}

/// Starts a gateway on a filled store, and waits until it is ready.
async fn start(store: &Filled, options: Options<'_>) -> Gateway {
    let url = store.url();
    let settings = [&SETTINGS[..], &[("GATEWAY_STORE__URL", url.as_str())]].concat();
    let gateway = gateway::start(Options { settings: &settings, ..options }).await;
    gateway.wait_until_ready().await;
    gateway
}

/// Waits until the gateway has deleted the expired calls. Returns the duration of the transactions.
async fn retention_of(store: &Filled, gateway: &Gateway) -> Vec<Duration> {
    let (name, began) = (|end| transaction_sample("delete_expired", end), Instant::now());
    let oldest = Timestamp::from_millis(store.calls.submitted_at(EXPIRED));
    let path = format!("analyses?limit=1&submitted_before={oldest}");
    let mut before = -1.0;
    loop {
        let is_deleted = gateway.get(&path).await.contains("\"analyses\":[]");
        let after = gateway.metric(&name("count")).await;
        if is_deleted && after == before {
            return vec![Duration::from_secs_f64(gateway.metric(&name("sum")).await)];
        }
        assert!(began.elapsed() < Duration::from_secs(120), "the expired calls are not deleted");
        before = after;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Returns the mean duration of a transaction.
async fn mean(gateway: &Gateway, transaction: &str) -> Duration {
    let sum = gateway.metric(&transaction_sample(transaction, "sum")).await;
    Duration::from_secs_f64(sum / gateway.metric(&transaction_sample(transaction, "count")).await)
}

fn transaction_sample(transaction: &str, end: &str) -> String {
    format!(
        "alovoice_gateway_store_transaction_duration_seconds_{end}{{outcome=\"ok\",transaction=\"{transaction}\""
    )
}

/// Sends the requests of an operation. Returns the durations for each store.
async fn requests(operation: &Operation, stores: &[Filled], gateways: &[Gateway]) -> Vec<Vec<Duration>> {
    let mut times = vec![Vec::new(); stores.len()];
    // The first request of an operation fills caches.
    for round in 0..=ROUNDS {
        for ((store, gateway), times) in stores.iter().zip(gateways).zip(&mut times) {
            let request = operation(gateway, &store.calls, round);
            let began = Instant::now();
            gateway::text(request).await;
            if round > 0 {
                times.push(began.elapsed());
            }
        }
    }
    times
}

fn row(name: &str, times: &mut [Vec<Duration>]) -> Vec<String> {
    let milliseconds = |time: &Duration| time.as_secs_f64() * 1e3;
    let quantiles: Vec<(f64, f64)> = times
        .iter_mut()
        .map(|times| {
            times.sort();
            (milliseconds(&times[times.len() / 2]), milliseconds(&times[times.len() * 99 / 100]))
        })
        .collect();
    let mut row = vec![name.to_owned()];
    row.extend(quantiles.iter().map(|(p50, p99)| format!("{p50:.2}, {p99:.2}")));
    let (small, large) = (quantiles[0], quantiles[quantiles.len() - 1]);
    let ratio = large.0 / small.0;
    row.push(format!("{ratio:.2}{}", if ratio > TARGET.0 { " (grows)" } else { "" }));
    row.push(if large.1 > TARGET.1 { "no" } else { "yes" }.to_owned());
    eprintln!("| {} |", row.join(" | "));
    row
}
