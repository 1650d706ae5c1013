//! The replicas, each in a place of its own: a way to the store, a clock, and one process after the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tokio::sync::watch;
use url::Url;

use super::clocks::SteppedClock;
use crate::gateway::{Serving, within};
use crate::postgres::link::{Link, Passage};
use crate::postgres::server::Server;
use crate::stage::{BINARY, Stage};
use crate::store::Store;

const REPLICAS: usize = 3;

/// Where there is somebody to ask.
pub(super) type Addresses = watch::Receiver<BTreeMap<usize, Url>>;

/// A process that was started in a place, and what it took of memory then, in KiB.
pub(super) struct Replica {
    pub(super) serving: Serving,
    pub(super) memory: u64,
}

struct Place {
    link: Option<Link>,
    clock: Option<SteppedClock>,
    replica: Option<Replica>,
}

pub(super) struct Fleet {
    stage: Arc<Stage>,
    places: Vec<Place>,
    addresses: watch::Sender<BTreeMap<usize, Url>>,
    /// What the processes logged that have ended.
    logs: Vec<Vec<String>>,
    /// Processes that ended instead of serving.
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
        let clock = |place| SteppedClock::find(stage.home.path().join(format!("clock-{place}")));
        let place = |(place, link)| Place { link, clock: clock(place), replica: None };
        let places: Vec<_> = links.into_iter().enumerate().map(place).collect();
        let addresses = watch::Sender::new(BTreeMap::new());
        let mut fleet = Self { stage: stage.clone(), places, addresses, logs: Vec::new(), failed_starts: 0 };
        if !fleet.has_clocks() {
            println!("no clock is stepped: there is no libfaketime (tests/tools installs it)");
        }
        for place in 0..fleet.places.len() {
            fleet.fill(place).await;
        }
        fleet
    }

    pub(super) fn has_clocks(&self) -> bool {
        self.places.iter().all(|place| place.clock.is_some())
    }

    pub(super) fn addresses(&self) -> Addresses {
        self.addresses.subscribe()
    }

    /// Sets what a link lets through; all of them without a place.
    pub(super) fn set_links(&self, only: Option<usize>, passage: Passage) {
        let chosen = |place: &usize| only.is_none_or(|only| only == *place);
        for (_, place) in self.places.iter().enumerate().filter(|(place, _)| chosen(place)) {
            place.link.as_ref().unwrap().set(passage);
        }
    }

    pub(super) fn set_clock(&self, place: usize, seconds: i64) {
        self.places[place].clock.as_ref().unwrap().set(seconds);
    }

    pub(super) fn replica(&self, place: usize) -> &Replica {
        self.places[place].replica.as_ref().unwrap()
    }

    /// A process for an empty place. As its supervisor would, it tries again if the process ends.
    pub(super) async fn fill(&mut self, place: usize) {
        let starting = async {
            loop {
                let command = self.command(place);
                match Serving::start_or_end(command, &self.stage.client).await {
                    Ok(serving) => break serving,
                    Err(log) => {
                        let why = log.join("\n");
                        assert!(why.contains("store:"), "a process does not start:\n{why}");
                        self.logs.push(log);
                    }
                }
                self.failed_starts += 1;
            }
        };
        let serving = within("a process that serves", starting).await;
        let api = serving.api.clone();
        let memory = memory(&serving);
        self.places[place].replica = Some(Replica { serving, memory });
        self.addresses.send_modify(|addresses| drop(addresses.insert(place, api)));
    }

    /// Under a shell that lets writes beyond a limit fail, where they would kill the process.
    fn command(&self, place: usize) -> Command {
        let mut command = self.stage.program(Path::new("sh"));
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "serve", BINARY, "serve"]);
        let Place { link, clock, .. } = &self.places[place];
        if let (Store::Database(database), Some(link)) = (&self.stage.store, link) {
            command.env("GATEWAY_STORE__URL", database.url_through(link));
        }
        if let Some(clock) = clock {
            clock.wind(&mut command);
        }
        command
    }

    /// `kill -9`. Clients learn of it by themselves, and then are told.
    pub(super) fn kill(&mut self, place: usize) {
        let replica = self.places[place].replica.take().unwrap();
        replica.serving.kill();
        self.note_end(place, &replica.serving);
    }

    /// SIGTERM, and its exit code.
    pub(super) async fn terminate(&mut self, place: usize) -> Option<i32> {
        let replica = self.places[place].replica.take().unwrap();
        replica.serving.process.terminate();
        let code = replica.serving.process.ended().await;
        self.note_end(place, &replica.serving);
        code
    }

    fn note_end(&mut self, place: usize, serving: &Serving) {
        self.addresses.send_modify(|addresses| drop(addresses.remove(&place)));
        self.logs.push(serving.process.stderr.so_far());
    }

    /// Everything is over.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.places.iter().filter_map(|place| place.replica.as_ref())
    }

    /// How often something was logged.
    pub(super) fn logged(&self, text: &str) -> usize {
        let living = self.replicas().map(|replica| replica.serving.process.stderr.so_far());
        let logs = self.logs.iter().cloned().chain(living);
        logs.map(|log| log.iter().filter(|line| line.contains(text)).count()).sum()
    }

    /// Stops what still runs, which must end well.
    pub(super) async fn stop(&mut self) {
        for place in 0..self.places.len() {
            assert_eq!(self.terminate(place).await, Some(0));
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

/// What the process takes of memory, in KiB; nothing where the system does not tell in `/proc`.
pub(super) fn memory(serving: &Serving) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", serving.process.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap())
}
