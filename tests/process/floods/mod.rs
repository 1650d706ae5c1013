//! Floods: endless or huge bodies, heads, connections and responses. The gateway answers clearly, its memory stays within the bounds
//! stated here, and other callers are served.
//!
//! Slow clients pause between two bytes. No assertion depends on time.

mod bodies;
mod connections;
mod flood_server;
mod heads;
mod raw_connection;
mod receivers;
mod renderings;
mod unread;
mod vendors;

use std::fs;

use crate::gateway::{Serving, within};
use crate::stage::{SCOPES, Stage};

pub(crate) const MIB: u64 = 1 << 20;
/// Default bound of the memory that a flood may add at its peak.
const MAX_GROWTH: u64 = 64 * MIB;

/// A gateway under flood, with its memory before the flood.
struct Flooded {
    stage: Stage,
    gateway: Serving,
    before: u64,
}

impl Flooded {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let mut stage = Stage::set_up().await;
        for (key, value) in settings {
            stage.set(key, value);
        }
        Self::on(stage).await
    }

    /// Serves one request before it measures the memory, so that one-time allocations do not count.
    async fn on(stage: Stage) -> Self {
        let gateway = stage.serve().await;
        assert_eq!(stage.get(&gateway, "known-0", "").await.status(), 200);
        let before = resident(&gateway);
        Self { stage, gateway, before }
    }

    /// Growth of the memory at its peak.
    fn peak(&self) -> u64 {
        memory(self.gateway.process.id(), "VmHWM").unwrap().saturating_sub(self.before)
    }

    /// Checks that the gateway answers another request, and that its memory has grown by at most `room`.
    async fn check_healthy_within(&self, room: u64) {
        assert_eq!(self.stage.get(&self.gateway, "known-1", "").await.status(), 200);
        let peak = self.peak();
        eprintln!("peak: {} KiB over {} KiB", peak / 1024, self.before / 1024);
        assert!(peak <= room, "memory grew by {} MiB", peak / MIB);
    }

    async fn check_healthy(&self) {
        self.check_healthy_within(MAX_GROWTH).await;
    }

    /// The head of a request of a tenant.
    fn request(&self, tenant: &str, request: &str, headers: &str) -> Vec<u8> {
        let token = self.stage.token_of(tenant, &format!("{SCOPES} audio:read"));
        format!("{request} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{headers}\r\n")
            .into_bytes()
    }

    /// The value of a metric. `series` is its name with labels, without the prefix.
    async fn metric(&self, series: &str) -> Option<f64> {
        let prefix = format!("alovoice_gateway_{series} ");
        let page = self.stage.metrics(&self.gateway).await;
        page.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok())
    }

    /// Waits until a metric has at least this value.
    async fn until_metric(&self, series: &str, least: f64) {
        within(series, async { while self.metric(series).await.unwrap_or(0.0) < least {} }).await;
    }
}

/// The memory of the gateway now.
fn resident(gateway: &Serving) -> u64 {
    memory(gateway.process.id(), "VmRSS").unwrap()
}

/// A value of `/proc/PID/status`, in bytes. `None` if the process has ended.
pub(crate) fn memory(process: u32, what: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    Some(line.trim_matches([':', '\t', ' ']).trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024)
}
