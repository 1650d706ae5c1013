//! Playing the faults of a plan on the fleet, its server and its peers.

use std::process::Command;
use std::sync::Arc;

use alovoice_gateway::domain::clock::{Clock, SystemClock};
use tokio::sync::watch;

use super::LEASE;
use super::fault::Fault;
use super::fleet::Fleet;
use super::office::Ends;
use super::plan::Blow;
use crate::postgres::link::Passage;
use crate::postgres::server::Server;
use crate::stage::Stage;

pub(super) struct Weather {
    stage: Arc<Stage>,
    fleet: Fleet,
    server: Option<Server>,
    ends: watch::Receiver<Ends>,
}

impl Weather {
    pub(super) fn new(
        stage: &Arc<Stage>,
        fleet: Fleet,
        server: Option<Server>,
        ends: watch::Receiver<Ends>,
    ) -> Self {
        Self { stage: stage.clone(), fleet, server, ends }
    }

    /// Everything is as it was before.
    pub(super) fn clear(self) -> (Fleet, Option<Server>) {
        (self.fleet, self.server)
    }

    /// Begins the faults of a blow, waits, and ends them.
    pub(super) async fn strike(&mut self, blow: &Blow) {
        let began = SystemClock.now();
        for (fault, _) in &blow.faults {
            self.begin(*fault).await;
        }
        let is_alone = blow.faults.len() == 1;
        // With nobody there, clients wait and no request ends.
        if self.fleet.replicas().next().is_some() {
            self.hold(blow).await;
        }
        // The store's first: without it no process can start.
        let (of_store, others): (Vec<_>, Vec<_>) =
            blow.faults.iter().map(|(fault, _)| *fault).partition(|fault| fault.is_of_store());
        for fault in of_store.into_iter().chain(others) {
            self.end(fault, is_alone).await;
        }
        println!("  {:?}: over after {:?}", blow.faults, SystemClock.now().since(began));
    }

    /// As long as the faster of the faults needs.
    async fn hold(&self, blow: &Blow) {
        let is_full = blow.faults.iter().any(|(fault, _)| *fault == Fault::DiskFull);
        let count = if is_full { Ends::refused } else { Ends::all };
        let ends = blow.faults.iter().map(|(_, ends)| ends).min().unwrap();
        let mut now = self.ends.clone();
        let before = count(&now.borrow());
        now.wait_for(|now| count(now) >= before + ends).await.unwrap();
    }

    async fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(place) => self.fleet.kill(place),
            Fault::Replace(place) => self.fleet.replica(place).serving.process.terminate(),
            Fault::Pause(place) => self.fleet.replica(place).serving.process.signal("STOP"),
            Fault::Clock(place, step) => self.fleet.set_clock(place, step),
            Fault::Link(place, passage) => self.fleet.set_links(Some(place), passage),
            Fault::Links(passage) => self.fleet.set_links(None, passage),
            Fault::Server(how) => self.server.as_mut().unwrap().stop(how).await,
            Fault::DiskFull => self.limit_files(&largest_file(&self.stage).to_string()),
            Fault::VendorHeld => self.stage.vendor.set_held(true),
            Fault::ReceiversDown => self.stage.receiver.set_down(true),
        }
    }

    async fn end(&mut self, fault: Fault, is_alone: bool) {
        match fault {
            Fault::Kill(place) => self.fleet.fill(place).await,
            Fault::Replace(place) => {
                let code = self.fleet.terminate(place).await;
                // With something else wrong as well it may have to leave work behind.
                assert!(code == Some(0) || !is_alone && code == Some(1), "{code:?} after SIGTERM");
                self.fleet.fill(place).await;
            }
            Fault::Pause(place) => {
                // No wait for something: to be gone for so long is the fault.
                tokio::time::sleep(LEASE).await;
                self.fleet.replica(place).serving.process.signal("CONT");
            }
            Fault::Clock(place, _) => self.fleet.set_clock(place, 0),
            Fault::Link(place, _) => self.fleet.set_links(Some(place), Passage::Open),
            Fault::Links(_) => self.fleet.set_links(None, Passage::Open),
            Fault::Server(_) => self.server.as_mut().unwrap().start_again().await,
            Fault::DiskFull => self.limit_files("unlimited"),
            Fault::VendorHeld => self.stage.vendor.set_held(false),
            Fault::ReceiversDown => self.stage.receiver.set_down(false),
        }
    }

    /// Limits the size of files that the processes may write.
    fn limit_files(&self, bytes: &str) {
        for replica in self.fleet.replicas() {
            let id = replica.serving.process.id().to_string();
            let limit = format!("--fsize={bytes}:unlimited");
            assert!(Command::new("prlimit").args(["--pid", &id, &limit]).status().unwrap().success());
        }
    }
}

/// Of the store's files: what is full then has room for what is there already.
fn largest_file(stage: &Stage) -> u64 {
    let log = stage.file().with_extension("db-wal");
    [stage.file(), &log].iter().filter_map(|path| Some(path.metadata().ok()?.len())).min().unwrap()
}
