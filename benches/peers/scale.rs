//! One, two and three replicas on one PostgreSQL server: throughput, and what a call costs the gateway and the server.
//!
//! All replicas share the first core; the server shares the second core with the load, the vendor and the receiver. So throughput does
//! not grow with replicas here, and the CPU time of each call is the result.

mod server_load;

use std::time::Instant;

use alovoice_gateway::sandbox::stand_in::Ready;
use futures_util::{StreamExt, stream};
use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::gateway::{self, Gateway, Options};
use crate::load::{CONNECTIONS, Load};
use crate::postgres::database::Database;
use crate::postgres::server::Server;
use crate::receiver::Receiver;
use crate::report::{Report, grouped};
use crate::signer::Signer;
use crate::submits::pgbench;

use server_load::{ServerLoad, Work};

/// Calls from submission to callback.
const CALLS: usize = 5_000;
/// The first poll finds the result.
const POLLING: [(&str, &str); 2] =
    [("GATEWAY_VENDOR__POLLING__FIRST_AFTER", "1s"), ("GATEWAY_VENDOR__POLLING__MIN_INTERVAL", "250ms")];

pub(crate) fn measure(report: &mut Report, runtime: &Runtime) {
    let signer = Signer::new(Algorithm::HS256);
    let server = runtime.block_on(gateway::durable_postgres());
    let mut columns = Vec::new();
    for replicas in 1..=3 {
        let (rate, mut column) = submissions(runtime, &server, &signer, replicas);
        let (whole_rate, whole, connections) = calls(runtime, &server, &signer, replicas);
        column.insert(0, grouped(rate));
        column.push(grouped(whole_rate));
        column.extend(whole);
        column.push(connections);
        columns.push(column);
    }
    let of_work = |what: &str| Work::NAMES.map(|name| format!("{name} per {what}"));
    let mut names = vec!["submissions per second".to_owned()];
    names.extend(of_work("submission"));
    names.push("calls from submission to callback, per second".to_owned());
    names.extend(of_work("call"));
    names.push("connections to PostgreSQL".to_owned());
    let cell = |row: usize| columns.iter().map(move |column: &Vec<String>| column[row].clone());
    let mut rows: Vec<Vec<String>> = names
        .into_iter()
        .enumerate()
        .map(|(row, name)| std::iter::once(name).chain(cell(row)).collect())
        .collect();
    for (name, script) in [
        ("commits of one row per second, 32 clients (pgbench)", "INSERT INTO notes DEFAULT VALUES;\n"),
        (
            "the same with a NOTIFY in each commit",
            "BEGIN;\nINSERT INTO notes DEFAULT VALUES;\nSELECT pg_notify('notes', :client_id::text);\nCOMMIT;\n",
        ),
    ] {
        let database = runtime.block_on(server.fresh_database());
        runtime.block_on(execute(
            &database,
            "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT now())",
        ));
        rows.push(vec![
            name.to_owned(),
            grouped(pgbench(&server, database.url(), script).rate),
            "–".to_owned(),
            "–".to_owned(),
        ]);
    }
    report.table(
        "Replicas on one PostgreSQL server",
        &["what", "1 replica", "2 replicas", "3 replicas"],
        &rows,
    );
}

async fn execute(database: &Database, sql: &str) {
    database.connect().await.batch_execute(sql).await.expect("PostgreSQL runs the statement");
}

/// Starts replicas on one database. All of them use the vendor of the first replica.
async fn start(database: &Database, signer: &Signer, processing: Ready, replicas: usize) -> Vec<Gateway> {
    let mut gateways: Vec<Gateway> = Vec::new();
    for _ in 0..replicas {
        let vendor = gateways.first().map(|first| first.vendor.base_url().to_string());
        let vendor = vendor.as_deref().map(|url| ("GATEWAY_VENDOR__BASE_URL", url));
        let settings: Vec<_> = POLLING.into_iter().chain(vendor).collect();
        let postgres = Some(database.url());
        let gateway = gateway::start(Options { signer, postgres, processing, settings: &settings }).await;
        gateway.wait_until_ready().await;
        gateways.push(gateway);
    }
    gateways
}

/// Submits calls to all replicas for a few seconds, while the vendor answers nothing. Returns the rate, and the work per submission.
fn submissions(runtime: &Runtime, server: &Server, signer: &Signer, replicas: usize) -> (f64, Vec<String>) {
    let database = runtime.block_on(server.fresh_database());
    let gateways = runtime.block_on(start(&database, signer, Ready::AfterPolls(2), replicas));
    gateways[0].vendor.set_held(true);
    let load = runtime.block_on(ServerLoad::start(&database));
    let connections = CONNECTIONS / u32::try_from(replicas).expect("a small number");
    let loads =
        gateways.iter().map(|gateway| Load::submit(&gateway.url("analyses"), &gateway.token, connections));
    let before = runtime.block_on(load.work(&gateways));
    let threads: Vec<_> = loads.map(|load| std::thread::spawn(move || load.run().rate)).collect();
    let rate = threads.into_iter().map(|thread| thread.join().expect("wrk")).sum();
    let after = runtime.block_on(load.work(&gateways));
    (rate, after.since(&before).each(after.analyses - before.analyses))
}

/// Submits calls with callbacks, and waits for the last callback. Returns the rate, the work per call and the number of connections.
fn calls(runtime: &Runtime, server: &Server, signer: &Signer, replicas: usize) -> (f64, Vec<String>, String) {
    let database = runtime.block_on(server.fresh_database());
    let processing = Ready::AfterDuration(std::time::Duration::from_secs(1));
    let gateways = runtime.block_on(start(&database, signer, processing, replicas));
    let receiver = Receiver::start();
    let callback = json!({"url": format!("http://127.0.0.1:{}/hook", receiver.port)});
    let load = runtime.block_on(ServerLoad::start(&database));
    let before = runtime.block_on(load.work(&gateways));
    let began = Instant::now();
    let submit = |number: usize| {
        let body = json!({"call_id": format!("1795374000.{number}"), "callback": &callback});
        let gateway = &gateways[number % gateways.len()];
        async move { gateway.post("analyses", &body).await }
    };
    runtime.block_on(
        stream::iter(0..CALLS).map(submit).buffer_unordered(CONNECTIONS as usize).for_each(async |_| ()),
    );
    receiver.wait_for(CALLS);
    let rate = CALLS as f64 / began.elapsed().as_secs_f64();
    let after = runtime.block_on(load.work(&gateways));
    let connections = grouped(after.connections);
    (rate, after.since(&before).each(CALLS as f64), connections)
}
