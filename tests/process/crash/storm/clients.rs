//! The clients of a storm.

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::calls::Call;
use super::client::{ClientContext, RequestCounts};
use super::fleet::Addresses;
use super::plan::Moment;
use crate::crash::ledger::Ledger;
use crate::stage::Stage;

const WORKERS: u64 = 4;
/// Counts at the beginning of a wave of calls.
pub(super) struct Baseline {
    acknowledged: usize,
    vendor_requests: usize,
    callbacks: usize,
}

pub(super) struct Clients {
    context: Arc<ClientContext>,
    seed: u64,
    submitters: JoinSet<()>,
    workers: JoinSet<()>,
}

impl Clients {
    pub(super) fn start(stage: &Arc<Stage>, addresses: Addresses, seed: u64) -> Self {
        let context = ClientContext::new(stage, addresses);
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            workers.spawn(context.clone().work(worker, StdRng::seed_from_u64(seed ^ worker)));
        }
        Self { context, seed, submitters: JoinSet::new(), workers }
    }

    pub(super) fn counts(&self) -> watch::Receiver<RequestCounts> {
        self.context.counts.subscribe()
    }

    pub(super) fn baseline(&self) -> Baseline {
        Baseline {
            acknowledged: self.context.counts.borrow().acknowledged,
            vendor_requests: self.context.stage.vendor.calls().len(),
            callbacks: self.context.stage.receiver.received().len(),
        }
    }

    pub(super) fn begin_wave(&mut self, calls: &[Call]) {
        for call in calls {
            self.context.ledger.lock().unwrap().sent(&call.id);
            for _ in 0..=usize::from(call.twice) {
                self.seed = self.seed.wrapping_add(WORKERS);
                let random = StdRng::seed_from_u64(self.seed);
                self.submitters.spawn(self.context.clone().submit(call.clone(), random));
            }
        }
    }

    pub(super) async fn until(&self, moment: &Moment, begin: Baseline) {
        let stage = &self.context.stage;
        match moment {
            Moment::Acknowledgements(count) => {
                let mut counts = self.context.counts.subscribe();
                counts.wait_for(|counts| counts.acknowledged >= begin.acknowledged + count).await.unwrap();
            }
            Moment::VendorRequests(count) => {
                stage.vendor.wait_for(|all| all.len() >= begin.vendor_requests + count).await;
            }
            Moment::Callbacks(count) => {
                stage.receiver.wait_for(|all| all.len() >= begin.callbacks + count).await;
            }
        }
    }

    /// Waits until every call is acknowledged, then stops the clients.
    pub(super) async fn finish(mut self) -> (Ledger, RequestCounts) {
        while let Some(submitted) = self.submitters.join_next().await {
            submitted.unwrap();
        }
        self.context.over.cancel();
        while let Some(read) = self.workers.join_next().await {
            read.unwrap();
        }
        let ledger = std::mem::take(&mut *self.context.ledger.lock().unwrap());
        (ledger, *self.context.counts.borrow())
    }
}
