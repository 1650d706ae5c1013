//! A soak: one hostile tenant does everything that could hurt nine normal tenants, for half an hour (`tests/soak/run`).
//!
//! The gateway has its default settings, except for addresses, secrets and the permission to call receivers on loopback. The run
//! fails if an acknowledged call of a normal tenant is lost or doubled, or if the memory exceeds the documented bound. The table
//! shows how long the operations of the normal tenants take before and during the attack.

#![expect(clippy::print_stdout, reason = "a soak prints its tables")]

mod attacks;
mod caller;
mod hostile;
mod outcome;
mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::domain::clock::{Clock, SystemClock};
use alovoice_gateway::sandbox::stand_in::{FixedAnswer, Operation, Ready, VendorOptions, VendorStandIn};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::caller::Caller;
use self::hostile::Hostile;
use self::report::{Report, Timeline};
use crate::fill::Calls;
use crate::gateway::Serving;
use crate::postgres::server::{Options, Server};
use crate::stage::{BINARY, CALLBACK_SECRET, Stage, id};

const HOSTILE: &str = "hostile";
const NORMAL: usize = 9;
/// Number of finished calls that the hostile tenant can search.
const SEARCHABLE: i64 = 100_000;
/// Time that the vendor needs for a call. It does not depend on the polls, so the duration from submission to completion does not grow
/// with the first poll that the gateway learns.
const PROCESSING: Duration = Duration::from_secs(2);
/// Size of the recording that the hostile tenant requests.
const RECORDING_BYTES: usize = 8 << 20;
/// Settings of other tests that a soak does not use.
const UNUSED_SETTINGS: [&str; 9] = [
    "VENDOR__REQUEST_TIMEOUT",
    "VENDOR__POLLING__FIRST_AFTER",
    "VENDOR__POLLING__MIN_INTERVAL",
    "VENDOR__POLLING__MAX_INTERVAL",
    "CALLBACKS__TIMEOUT",
    "CALLBACKS__RETRY_SCHEDULE",
    "RATE_LIMIT__REQUESTS_PER_SECOND",
    "RATE_LIMIT__BURST",
    "TENANTS__ACME__VENDOR_TOKEN_FILE",
];

/// A running gateway with its environment.
struct Soak {
    stage: Stage,
    gateway: Serving,
    report: Report,
    /// Cancelled when the normal tenants submit no more calls.
    over: CancellationToken,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half an hour; run by tests/soak/run"]
async fn one_hostile_tenant_does_not_hurt_nine_others() {
    let minutes = std::env::var("SOAK_MINUTES").map_or(30.0, |minutes| minutes.parse().unwrap());
    let attack = Duration::from_secs_f64(60.0 * minutes);
    let (soak, _server) = set_up().await;
    let timeline = Timeline::watch(&soak);

    let mut callers = JoinSet::new();
    for number in 0..NORMAL {
        callers.spawn(Caller::new(&soak, format!("normal-{number}")).run());
    }
    sleep((attack / 10).max(Duration::from_secs(15))).await;
    soak.report.begin_attack();
    let hostile = Hostile::start(&soak).await;
    sleep(attack).await;
    let attempts = hostile.stop().await;
    soak.over.cancel();
    let callers = callers.join_all().await;

    let faults = outcome::check(&soak, &callers).await;
    println!("{}\n{attempts}\n{timeline}", soak.report);
    println!("Logged errors: {:?}", logged_errors(&soak.gateway));
    let faults: Vec<String> = faults.into_iter().chain(timeline.fault(&soak.gateway)).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Returns how often the gateway logged each error.
fn logged_errors(gateway: &Serving) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in gateway.process.stderr.so_far() {
        let record: Value = serde_json::from_str(&line).unwrap_or_default();
        if record["level"] == "ERROR" {
            *counts.entry(record["message"].to_string()).or_default() += 1;
        }
    }
    counts
}

/// Starts the gateway with the calls that the hostile tenant can search. The server must live as long as the gateway.
async fn set_up() -> (Arc<Soak>, Option<Server>) {
    let is_sqlite = std::env::var("TEST_STORE").as_deref() != Ok("postgres");
    let (mut stage, server) = if is_sqlite {
        (Stage::set_up().await, None)
    } else {
        let server = Server::start(Options { fsync: true, ..Options::default() }).await;
        (Stage::on(server.fresh_database().await).await, Some(server))
    };
    for key in UNUSED_SETTINGS {
        stage.unset(key);
    }
    stage.unset("TENANTS__ACME__CALLBACK_SECRET_FILE");
    // The audit log has a line for each request, and the test keeps all lines.
    stage.set("LOG__FILTER", "info,audit=off");
    let tenants: Vec<String> =
        (0..NORMAL).map(|number| format!("normal-{number}")).chain([HOSTILE.to_owned()]).collect();
    let tokens = tenants.iter().map(|tenant| format!("{}-of-{tenant}", VendorOptions::TOKEN));
    for (tenant, token) in tenants.iter().zip(tokens.clone()) {
        let key = tenant.to_uppercase();
        stage.set_file(&format!("TENANTS__{key}__VENDOR_TOKEN_FILE"), &token);
        stage.set_file(&format!("TENANTS__{key}__CALLBACK_SECRET_FILE"), CALLBACK_SECRET);
    }
    let processing = Ready::AfterDuration(PROCESSING);
    let vendor = VendorOptions { tokens: tokens.collect(), processing, ..VendorOptions::default() };
    stage.vendor = VendorStandIn::start(vendor).await.unwrap();
    let base_url = stage.vendor.base_url();
    stage.set("VENDOR__BASE_URL", base_url.as_str());
    // The stand-in would compute its recording again for each request, on the cores that the gateway needs.
    let body = vec![0; RECORDING_BYTES].into();
    let recording = FixedAnswer { status: 200, content_type: "audio/wav", headers: Vec::new(), body };
    stage.vendor.set_answer(Operation::Stereo, id("known-0"), recording);
    let start = async || {
        let gateway = std::env::var("SOAK_GATEWAY").unwrap_or_else(|_| BINARY.to_owned());
        let mut command = stage.program(Path::new(&gateway));
        command.arg("serve");
        Serving::start(command, &stage.client).await
    };
    // The first start creates the tables.
    start().await.stop().await;
    let newest = SystemClock.now().as_millis();
    let calls = Calls { tenant: HOSTILE, finished: SEARCHABLE, unfinished: 0, newest };
    stage.store.execute(&calls.sql(is_sqlite)).await;
    let gateway = start().await;
    let soak = Soak { stage, gateway, report: Report::default(), over: CancellationToken::new() };
    (Arc::new(soak), server)
}
