//! Floods: bodies, heads, connections and answers without measure. Whatever comes, the answer is clear, the memory stays
//! within a bound that is stated here, and others are served.
//!
//! A client that drips needs a pause between its bytes; no assertion looks at a clock.

mod bodies;
mod connections;
mod heads;
mod receivers;
mod torrent;
mod vendors;
mod wire;

use std::fs;

use crate::gateway::Serving;
use crate::stage::Stage;

const MIB: u64 = 1 << 20;
/// What a flood may add to the memory at its peak, unless a test says otherwise.
const ROOM: u64 = 64 * MIB;

/// A gateway under flood, and what it took of memory before.
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

    /// Serves one request first, so that what every process needs is not counted.
    async fn on(stage: Stage) -> Self {
        let gateway = stage.serve().await;
        assert_eq!(stage.get(&gateway, "known-0", "").await.status(), 200);
        let before = memory(&gateway, "VmRSS");
        Self { stage, gateway, before }
    }

    /// What the memory grew by at its peak.
    fn peak(&self) -> u64 {
        memory(&self.gateway, "VmHWM").saturating_sub(self.before)
    }

    /// Others are served, and the memory has stayed within the room.
    async fn is_well_within(&self, room: u64) {
        assert_eq!(self.stage.get(&self.gateway, "known-1", "").await.status(), 200);
        let peak = self.peak();
        eprintln!("peak: {} KiB over {} KiB", peak / 1024, self.before / 1024);
        assert!(peak <= room, "{} MiB more than before", peak / MIB);
    }

    async fn is_well(&self) {
        self.is_well_within(ROOM).await;
    }
}

/// A line of the process's status, in bytes.
fn memory(gateway: &Serving, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim_matches([':', '\t', ' ']).trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}
