//! Start-up time, memory and sizes.

use std::fs;
use std::time::{Duration, Instant};

use alovoice_gateway::sandbox::stand_in::Ready;
use jsonwebtoken::Algorithm;
use tokio::runtime::Runtime;

use crate::gateway::{self, Gateway, HELD, Options};
use crate::report::Report;
use crate::signer::Signer;

/// Unfinished analyses in the store.
const UNFINISHED: usize = 100_000;

pub(crate) fn measure(report: &mut Report, runtime: &Runtime) {
    let signer = Signer::new(Algorithm::HS256);
    let began = Instant::now();
    let gateway = runtime.block_on(gateway::start(Options {
        signer: &signer,
        postgres: None,
        processing: Ready::AfterPolls(2),
        settings: &HELD,
    }));
    runtime.block_on(ready(&gateway));
    let started = began.elapsed();
    let idle = resident(&gateway);
    gateway.vendor.set_held(true);
    runtime.block_on(gateway.submit(UNFINISHED, |_| None));
    let full = resident(&gateway);
    let size = fs::metadata(gateway::program()).expect("the program").len();
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    report.values(
        "Resources",
        &[
            ("start to ready, SQLite".to_owned(), format!("{} ms", started.as_millis()), "150 ms"),
            ("memory, idle".to_owned(), mib(idle), "30 MiB"),
            ("memory for 100,000 unfinished analyses".to_owned(), mib(full.saturating_sub(idle)), "50 MiB"),
            ("size of the program".to_owned(), mib(size), "–"),
        ],
    );
}

async fn ready(gateway: &Gateway) {
    while !gateway.is_ready().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Returns the resident memory of the gateway, in bytes.
fn resident(gateway: &Gateway) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{}/status", gateway.process.id())).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the resident memory");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}
