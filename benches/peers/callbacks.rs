//! Deliveries of stored events to one receiver, against a loop that sends the same bodies with the same concurrency; and the time from
//! the submission of many calls to the last callback, against the same requests of such loops.

use std::io::Write;
use std::time::{Duration, Instant};

use alovoice_gateway::sandbox::stand_in::Ready;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::bare;
use crate::gateway::{self, Gateway, Options};
use crate::load::Measured;
use crate::process::cpu_time;
use crate::receiver::Receiver;
use crate::report::{Report, Side};
use crate::signer::Signer;

/// Calls whose events a replay sends.
const REPLAYED: usize = 4_000;
/// Calls of the pipeline.
const CALLS: usize = 10_000;
/// Attempts in flight to one receiver (`MAX_CONCURRENCY_PER_RECEIVER` of the gateway), and of one tenant.
const PER_RECEIVER: usize = 8;
const PER_TENANT: usize = 32;
/// Time that the vendor needs for an analysis.
const PROCESSING: Duration = Duration::from_secs(1);
/// The first poll comes after the time that the vendor needs.
const POLLING: [(&str, &str); 2] =
    [("GATEWAY_VENDOR__POLLING__FIRST_AFTER", "1s"), ("GATEWAY_VENDOR__POLLING__MIN_INTERVAL", "250ms")];

pub(crate) fn measure(report: &mut Report, runtime: &Runtime) {
    let signer = Signer::new(Algorithm::HS256);
    let start = |url| start(runtime, &signer, url, Ready::AfterPolls(0));
    replays(report, runtime, &start(None), false);
    let server = runtime.block_on(gateway::durable_postgres());
    let database = runtime.block_on(server.fresh_database());
    replays(report, runtime, &start(Some(database.url())), true);
    report.comparisons("Callbacks");
}

pub(crate) fn measure_pipeline_on_sqlite(report: &mut Report, runtime: &Runtime) {
    for receivers in [1, 1_000] {
        pipeline(report, runtime, None, receivers);
    }
}

pub(crate) fn measure_pipeline_on_postgres(report: &mut Report, runtime: &Runtime) {
    let server = runtime.block_on(gateway::durable_postgres());
    for receivers in [1, 1_000] {
        let database = runtime.block_on(server.fresh_database());
        pipeline(report, runtime, Some(database.url()), receivers);
    }
}

const fn engine(is_postgres: bool) -> &'static str {
    if is_postgres { ", PostgreSQL" } else { ", SQLite" }
}

fn start(runtime: &Runtime, signer: &Signer, postgres: Option<&str>, processing: Ready) -> Gateway {
    runtime.block_on(gateway::start(Options { signer, postgres, processing, settings: &POLLING }))
}

/// Replays stored events to one receiver.
fn replays(report: &mut Report, runtime: &Runtime, gateway: &Gateway, is_postgres: bool) {
    let receiver = Receiver::start();
    let url = format!("http://127.0.0.1:{}/hook", receiver.port);
    let webhook =
        runtime.block_on(gateway.post("webhooks", &json!({"url": url, "events": ["analysis.completed"]})));
    let id = webhook["id"].as_str().expect("the id of a webhook");
    runtime.block_on(gateway.submit(REPLAYED, |_| None));
    receiver.wait_for(REPLAYED);
    let body = sample(runtime, gateway);
    let replay = || {
        wait_for_outcomes(runtime, gateway, id);
        let before = receiver.count();
        let (began, cpu) = (Instant::now(), cpu_time(gateway.process.id()));
        runtime.block_on(
            gateway.post(&format!("webhooks/{id}/replay"), &json!({"since": "2020-01-01T00:00:00Z"})),
        );
        receiver.wait_for(before + REPLAYED);
        let count = REPLAYED as f64;
        let cpu = (cpu_time(gateway.process.id()) - cpu) / count * 1e6;
        Measured { cpu: Some(cpu), ..Measured::rate(count / began.elapsed().as_secs_f64()) }
    };
    report.compare(
        "callbacks to one receiver",
        Side(engine(is_postgres), Box::new(replay)),
        vec![(
            Side(
                "a reqwest loop with the same bodies, 8 at a time",
                Box::new(|| bare::posts(&url, body.path(), REPLAYED, PER_RECEIVER)),
            ),
            0.6,
        )],
    );
}

/// Waits until the store has the outcomes of all deliveries, because a replay skips pending deliveries.
fn wait_for_outcomes(runtime: &Runtime, gateway: &Gateway, webhook: &str) {
    let path = format!("deliveries?webhook={webhook}&status=pending&limit=1");
    let pending = || -> Value {
        serde_json::from_str(&runtime.block_on(gateway.get(&path))).expect("a list of deliveries")
    };
    while pending()["deliveries"] != json!([]) {}
}

/// Returns a file with an analysis, which has about the size of an event.
fn sample(runtime: &Runtime, gateway: &Gateway) -> tempfile::NamedTempFile {
    let analysis = runtime.block_on(gateway.get("analyses/1795374000.1"));
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(analysis.as_bytes()).expect("a temporary file takes a body");
    file
}

/// Submits calls with callbacks to this number of receivers. If there are several receivers, a tenth of them refuses connections.
fn pipeline(report: &mut Report, runtime: &Runtime, postgres: Option<&str>, receivers: usize) {
    let signer = Signer::new(Algorithm::HS256);
    let gateway = start(runtime, &signer, postgres, Ready::AfterDuration(PROCESSING));
    let receiver = Receiver::start();
    let closed = crate::postgres::cluster::free_port();
    let is_dead = |number: usize| receivers > 1 && number % 10 == 9;
    let callback = |number: usize| {
        let receiver_number = number % receivers;
        let port = if is_dead(number) { closed } else { receiver.port };
        Some(format!("http://127.0.{}.{}:{port}/hook", receiver_number / 250, receiver_number % 250 + 1))
    };
    let live = (0..CALLS).filter(|number| !is_dead(*number)).count();
    let began = Instant::now();
    runtime.block_on(gateway.submit(CALLS, callback));
    let accepted = began.elapsed();
    receiver.wait_for(live);
    let took = began.elapsed();
    let polls = gateway.vendor.calls().len();
    let body = sample(runtime, &gateway);
    // The vendor's requests have no body; the loop sends one, which costs about as much as the answer that the gateway reads.
    let concurrency = if receivers == 1 { PER_RECEIVER } else { PER_TENANT };
    let url = format!("http://127.0.0.1:{}/hook", receiver.port);
    let vendor = bare::posts(&url, body.path(), polls, PER_TENANT).rate;
    let callbacks = bare::posts(&url, body.path(), live, concurrency).rate;
    let limit = PROCESSING.as_secs_f64() + polls as f64 / vendor + live as f64 / callbacks;
    let title = format!(
        "{} calls from submission to callback, {} receiver{}{}",
        crate::report::grouped(CALLS as f64),
        crate::report::grouped(receivers as f64),
        if receivers == 1 { "" } else { "s" },
        engine(postgres.is_some())
    );
    report.values(
        &title,
        &[
            ("submissions accepted after".to_owned(), format!("{:.2} s", accepted.as_secs_f64()), "–"),
            (
                "last callback to a live receiver after".to_owned(),
                format!("{:.2} s", took.as_secs_f64()),
                "–",
            ),
            ("limit: processing, and loops of the same requests".to_owned(), format!("{limit:.2} s"), "–"),
            ("ratio".to_owned(), format!("{:.2}", took.as_secs_f64() / limit), "1.25"),
            (
                "requests to the vendor per call".to_owned(),
                format!("{:.2}", polls as f64 / CALLS as f64),
                "–",
            ),
        ],
    );
}
