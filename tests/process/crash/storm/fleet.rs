//! The replicas of a storm. Each slot has a connection to the store, a clock, and one process at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tokio::sync::watch;
use url::Url;

use crate::gateway::{Serving, within};
use crate::postgres::link::{Link, Passage};
use crate::postgres::server::Server;
use crate::postgres::stepped_clock::SteppedClock;
use crate::stage::{BINARY, Stage};
use crate::store::Store;

const REPLICAS: usize = 3;
/// Timeout of callbacks after the storm.
const PATIENT_TIMEOUT: &str = "2s";

/// Addresses of the running replicas, by slot.
pub(super) type Addresses = watch::Receiver<BTreeMap<usize, Url>>;

/// A running process, and its memory after the start, in KiB.
pub(super) struct Replica {
    pub(super) serving: Serving,
    pub(super) memory: u64,
}

struct Slot {
    link: Option<Link>,
    clock: Option<SteppedClock>,
    replica: Option<Replica>,
}

pub(super) struct Fleet {
    stage: Arc<Stage>,
    slots: Vec<Slot>,
    addresses: watch::Sender<BTreeMap<usize, Url>>,
    /// Logs of the processes that have ended.
    logs: Vec<Vec<String>>,
    /// Whether new processes wait longer for receivers.
    is_patient: bool,
    /// Number of processes that ended before they were ready.
    pub(super) failed_starts: usize,
}

impl Fleet {
    pub(super) async fn on_server(stage: &Arc<Stage>, server: &Server) -> Self {
        let mut links = Vec::new();
        for _ in 0..REPLICAS {
            links.push(Some(Link::to(server.port(), Passage::Open).await));
        }
        Self::start_all(stage, links).await
    }

    pub(super) async fn on_file(stage: &Arc<Stage>) -> Self {
        Self::start_all(stage, vec![None]).await
    }

    async fn start_all(stage: &Arc<Stage>, links: Vec<Option<Link>>) -> Self {
        let clock = |slot| SteppedClock::find(stage.home.path().join(format!("clock-{slot}")));
        let slot = |(slot, link)| Slot { link, clock: clock(slot), replica: None };
        let slots: Vec<_> = links.into_iter().enumerate().map(slot).collect();
        let addresses = watch::Sender::new(BTreeMap::new());
        let (logs, is_patient, failed_starts) = (Vec::new(), false, 0);
        let mut fleet = Self { stage: stage.clone(), slots, addresses, logs, is_patient, failed_starts };
        if !fleet.has_clocks() {
            println!("clock steps are skipped: libfaketime is missing (tests/tools installs it)");
        }
        for slot in 0..fleet.slots.len() {
            fleet.fill(slot).await;
        }
        // Until an answer of the vendor has confirmed the clock, the times of a new store follow every jump, unlike those in events.
        let serving = &fleet.replica(0).serving;
        let is_confirmed = |line: &str| line.contains("clock confirmed for the first time");
        let log = &serving.process.stderr;
        tokio::select! {
            // A late answer confirms no clock, so the vendor is asked until an answer comes in time.
            () = ask_for_ever(stage, serving) => {}
            _ = log.line("a confirmed clock", is_confirmed) => {}
        }
        fleet
    }

    pub(super) fn has_clocks(&self) -> bool {
        self.slots.iter().all(|slot| slot.clock.is_some())
    }

    pub(super) fn addresses(&self) -> Addresses {
        self.addresses.subscribe()
    }

    /// Sets the passage of one link, or of all links if `only` is `None`.
    pub(super) fn set_links(&self, only: Option<usize>, passage: Passage) {
        let chosen = |slot: &usize| only.is_none_or(|only| only == *slot);
        for (_, slot) in self.slots.iter().enumerate().filter(|(slot, _)| chosen(slot)) {
            slot.link.as_ref().unwrap().set(passage);
        }
    }

    pub(super) fn set_clock(&self, slot: usize, seconds: i64) {
        self.slots[slot].clock.as_ref().unwrap().set(seconds);
    }

    pub(super) fn replica(&self, slot: usize) -> &Replica {
        self.slots[slot].replica.as_ref().unwrap()
    }

    /// Starts a process in an empty slot. Like a supervisor, it starts another one if the process ends.
    pub(super) async fn fill(&mut self, slot: usize) {
        let starting = async {
            loop {
                let command = self.command(slot);
                match Serving::start_or_end(command, &self.stage.client).await {
                    Ok(serving) => break serving,
                    Err(log) => {
                        let why = log.join("\n");
                        assert!(why.contains("store:"), "a process failed to start:\n{why}");
                        self.logs.push(log);
                    }
                }
                self.failed_starts += 1;
            }
        };
        let serving = within("a process that serves", starting).await;
        let api = serving.api.clone();
        let memory = memory(&serving);
        self.slots[slot].replica = Some(Replica { serving, memory });
        self.addresses.send_modify(|addresses| drop(addresses.insert(slot, api)));
    }

    /// Runs under a shell that ignores SIGXFSZ, so that a write beyond the file size limit fails instead of killing the process.
    fn command(&self, slot: usize) -> Command {
        let mut command = self.stage.program(Path::new("sh"));
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "serve", BINARY, "serve"]);
        let Slot { link, clock, .. } = &self.slots[slot];
        if let (Store::Database(database), Some(link)) = (&self.stage.store, link) {
            command.env("GATEWAY_STORE__URL", database.url_through(link));
        }
        if let Some(clock) = clock {
            clock.apply(&mut command);
        }
        if self.is_patient {
            command.env("GATEWAY_CALLBACKS__TIMEOUT", PATIENT_TIMEOUT);
        }
        command
    }

    /// Sends `kill -9`. Clients may still use the address until it is removed.
    pub(super) fn kill(&mut self, slot: usize) {
        let replica = self.slots[slot].replica.take().unwrap();
        replica.serving.kill();
        self.note_end(slot, &replica.serving);
    }

    /// Sends SIGTERM and returns the exit code.
    pub(super) async fn terminate(&mut self, slot: usize) -> Option<i32> {
        let replica = self.slots[slot].replica.take().unwrap();
        replica.serving.process.terminate();
        let code = replica.serving.process.ended().await;
        self.note_end(slot, &replica.serving);
        code
    }

    fn note_end(&mut self, slot: usize, serving: &Serving) {
        self.addresses.send_modify(|addresses| drop(addresses.remove(&slot)));
        self.logs.push(serving.process.stderr.so_far());
    }

    /// The running replicas.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.slots.iter().filter_map(|slot| slot.replica.as_ref())
    }

    /// Number of log lines that contain the text.
    pub(super) fn logged(&self, text: &str) -> usize {
        let living = self.replicas().map(|replica| replica.serving.process.stderr.so_far());
        let logs = self.logs.iter().cloned().chain(living);
        logs.map(|log| log.iter().filter(|line| line.contains(text)).count()).sum()
    }

    /// Replaces all replicas. The new ones have no receiver paused and wait longer for receivers, so the deliveries that the storm
    /// has left do not wait for pauses, which a busy machine makes minutes long. Submits of unknown outcome do not wait for the
    /// processing times that were learned during the storm.
    pub(super) async fn renew(&mut self) {
        self.is_patient = true;
        let forget = "UPDATE paces SET slowest_ms = 100, samples = 1000";
        self.stage.store.change(forget, 1).await;
        for slot in 0..self.slots.len() {
            assert_eq!(self.terminate(slot).await, Some(0));
            self.fill(slot).await;
        }
    }

    /// Stops all replicas and expects exit code 0.
    pub(super) async fn stop(&mut self) {
        for slot in 0..self.slots.len() {
            assert_eq!(self.terminate(slot).await, Some(0));
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let Some(folder) = std::env::var_os("STORM_LOGS") else { return };
        let living: Vec<_> = self.replicas().map(|replica| replica.serving.process.stderr.so_far()).collect();
        for (number, log) in self.logs.iter().chain(&living).enumerate() {
            let _ = std::fs::write(Path::new(&folder).join(format!("{number}.log")), log.join("\n"));
        }
    }
}

/// Asks the vendor for calls that it does not know.
async fn ask_for_ever(stage: &Stage, serving: &Serving) {
    for call in 0.. {
        stage.get(serving, &format!("never-submitted-{call}"), "").await;
    }
}

/// Resident memory of the process in KiB, or 0 without `/proc`.
pub(super) fn memory(serving: &Serving) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", serving.process.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap())
}
