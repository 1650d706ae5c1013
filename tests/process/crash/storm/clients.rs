//! The clients of a storm, from its first call to its last promise.

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::calls::Call;
use super::fleet::Addresses;
use super::office::{Ends, Office};
use super::plan::Moment;
use crate::crash::ledger::Ledger;
use crate::stage::Stage;

const WORKERS: u64 = 4;
/// What has been counted when a wave begins.
pub(super) struct Mark {
    promised: usize,
    vendor_requests: usize,
    callbacks: usize,
}

pub(super) struct Crowd {
    office: Arc<Office>,
    seed: u64,
    submitters: JoinSet<()>,
    workers: JoinSet<()>,
}

impl Crowd {
    pub(super) fn gather(stage: &Arc<Stage>, addresses: Addresses, seed: u64) -> Self {
        let office = Office::open(stage, addresses);
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            workers.spawn(office.clone().work(worker, StdRng::seed_from_u64(seed ^ worker)));
        }
        Self { office, seed, submitters: JoinSet::new(), workers }
    }

    pub(super) fn ends(&self) -> watch::Receiver<Ends> {
        self.office.ends.subscribe()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            promised: self.office.ends.borrow().promised,
            vendor_requests: self.office.stage.vendor.calls().len(),
            callbacks: self.office.stage.receiver.received().len(),
        }
    }

    pub(super) fn begin_wave(&mut self, calls: &[Call]) {
        for call in calls {
            self.office.ledger.lock().unwrap().sent(&call.id);
            for _ in 0..=usize::from(call.twice) {
                self.seed = self.seed.wrapping_add(WORKERS);
                let random = StdRng::seed_from_u64(self.seed);
                self.submitters.spawn(self.office.clone().submit(call.clone(), random));
            }
        }
    }

    pub(super) async fn until(&self, moment: &Moment, begin: Mark) {
        let stage = &self.office.stage;
        match moment {
            Moment::Promises(count) => {
                let mut ends = self.office.ends.subscribe();
                ends.wait_for(|ends| ends.promised >= begin.promised + count).await.unwrap();
            }
            Moment::VendorRequests(count) => {
                stage.vendor.wait_for(|all| all.len() >= begin.vendor_requests + count).await;
            }
            Moment::Callbacks(count) => {
                stage.receiver.wait_for(|all| all.len() >= begin.callbacks + count).await;
            }
        }
    }

    /// Waits until everything is promised, then sends everybody home.
    pub(super) async fn disperse(mut self) -> (Ledger, Ends) {
        while let Some(submitted) = self.submitters.join_next().await {
            submitted.unwrap();
        }
        self.office.over.cancel();
        while let Some(read) = self.workers.join_next().await {
            read.unwrap();
        }
        let ledger = std::mem::take(&mut *self.office.ledger.lock().unwrap());
        (ledger, *self.office.ends.borrow())
    }
}
