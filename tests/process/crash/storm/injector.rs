//! Injects the faults of a plan into the replicas, PostgreSQL, the vendor and the receivers.

use std::sync::Arc;

use alovoice_gateway::domain::clock::{Clock, SystemClock};
use tokio::sync::watch;

use super::LEASE;
use super::client::RequestCounts;
use super::fault::Fault;
use super::fleet::Fleet;
use super::plan::FaultStep;
use crate::postgres::link::Passage;
use crate::postgres::server::Server;
use crate::stage::Stage;

pub(super) struct FaultInjector {
    stage: Arc<Stage>,
    fleet: Fleet,
    server: Option<Server>,
    counts: watch::Receiver<RequestCounts>,
}

impl FaultInjector {
    pub(super) fn new(
        stage: &Arc<Stage>,
        fleet: Fleet,
        server: Option<Server>,
        counts: watch::Receiver<RequestCounts>,
    ) -> Self {
        Self { stage: stage.clone(), fleet, server, counts }
    }

    /// Returns the replicas and the server.
    pub(super) fn into_parts(self) -> (Fleet, Option<Server>) {
        (self.fleet, self.server)
    }

    /// Begins the faults of a step, waits, and ends them.
    pub(super) async fn run(&mut self, step: &FaultStep) {
        let began = SystemClock.now();
        for (fault, _) in &step.faults {
            self.begin(*fault).await;
        }
        let is_alone = step.faults.len() == 1;
        // Without a running replica, clients wait and no request ends.
        if self.fleet.replicas().next().is_some() {
            self.hold(step).await;
        }
        // Faults of the store end first: no process can start without the store.
        let (of_store, others): (Vec<_>, Vec<_>) =
            step.faults.iter().map(|(fault, _)| *fault).partition(|fault| fault.is_of_store());
        for fault in of_store.into_iter().chain(others) {
            self.end(fault, is_alone).await;
        }
        println!("  {:?}: ended after {:?}", step.faults, SystemClock.now().since(began));
    }

    /// Waits until enough client requests have ended for the shortest fault.
    async fn hold(&self, step: &FaultStep) {
        let is_full = step.faults.iter().any(|(fault, _)| *fault == Fault::DiskFull);
        let count = if is_full { RequestCounts::refused } else { RequestCounts::all };
        let needed = step.faults.iter().map(|(_, needed)| needed).min().unwrap();
        let mut now = self.counts.clone();
        let before = count(&now.borrow());
        now.wait_for(|now| count(now) >= before + needed).await.unwrap();
    }

    async fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(slot) => self.fleet.kill(slot),
            Fault::Replace(slot) => self.fleet.replica(slot).serving.process.terminate(),
            Fault::Pause(slot) => self.fleet.replica(slot).serving.process.pause(),
            Fault::Clock(slot, seconds) => self.fleet.set_clock(slot, seconds),
            Fault::ServerClock(seconds) => self.server.as_ref().unwrap().set_clock(seconds),
            Fault::Link(slot, passage) => self.fleet.set_links(Some(slot), passage),
            Fault::Links(passage) => self.fleet.set_links(None, passage),
            Fault::Server(how) => self.server.as_mut().unwrap().stop(how).await,
            Fault::DiskFull => self.limit_files(&smallest_file(&self.stage).to_string()),
            Fault::VendorHeld => self.stage.vendor.set_held(true),
            Fault::ReceiversDown => self.stage.receiver.set_down(true),
        }
    }

    async fn end(&mut self, fault: Fault, is_alone: bool) {
        match fault {
            Fault::Kill(slot) => self.fleet.fill(slot).await,
            Fault::Replace(slot) => {
                let code = self.fleet.terminate(slot).await;
                // With another fault at the same time, some work may remain unfinished.
                assert!(code == Some(0) || !is_alone && code == Some(1), "{code:?} after SIGTERM");
                self.fleet.fill(slot).await;
            }
            Fault::Pause(slot) => {
                // The pause itself is the fault: it must outlast the lease.
                tokio::time::sleep(LEASE).await;
                self.fleet.replica(slot).serving.process.signal("CONT");
            }
            Fault::Clock(slot, _) => {
                outlast_a_comparison().await;
                self.fleet.set_clock(slot, 0);
            }
            Fault::ServerClock(_) => {
                outlast_a_comparison().await;
                self.server.as_ref().unwrap().set_clock(0);
            }
            Fault::Link(slot, _) => self.fleet.set_links(Some(slot), Passage::Open),
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
            replica.serving.process.limit_files(bytes);
        }
    }
}

/// A gateway compares its clocks every two seconds, so a shorter jump has no effect.
async fn outlast_a_comparison() {
    tokio::time::sleep(LEASE).await;
}

/// Size of the smaller file of the store. With this limit, existing data still fits.
fn smallest_file(stage: &Stage) -> u64 {
    let log = stage.file().with_extension("db-wal");
    [stage.file(), &log].iter().filter_map(|path| Some(path.metadata().ok()?.len())).min().unwrap()
}
