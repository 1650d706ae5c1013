//! Background workers: submit calls, poll results, deliver callbacks, replay events, delete expired data, and reload keys and
//! secrets. Other workers resume work after a vendor token has changed, compare the clocks, and index analyses of earlier
//! versions.
//!
//! # Protocol
//!
//! A piece of work is a row in the store and never only in memory. Replicas share the store, and each replica runs every worker.
//! Each piece of work goes through these phases:
//!
//! 1. **Claim.** One transaction selects rows that are due, as many as the process has room for, and gives each row a *lease*:
//!    the time at which the claim expires, and a *fencing token* that no earlier claim of the row had. Until the lease expires,
//!    no replica claims the row again.
//! 2. **Request.** The HTTP request runs in a separate task. No transaction is open during the request. A request does not start
//!    if its deadline lies after the end of the lease.
//! 3. **Outcome.** One transaction checks the fencing token and writes the outcome, including the time at which the row is due
//!    again. If another replica claimed the row in the meantime, the write fails with [`StoreError::LeaseLost`] and the outcome
//!    is discarded. While the store is unavailable, the write is repeated until the lease ends ([`OutcomeWriter`]).
//! 4. **Retry.** If the process dies, or the store is unavailable until the lease ends, nothing is written. The lease expires,
//!    and any replica claims the row again. A callback is therefore delivered at least once. A call whose submission has an
//!    unknown outcome is looked up at the vendor before it is submitted again ([`domain::lifecycle`](crate::domain::lifecycle)).
//!
//! # The loop
//!
//! A worker is a step, [`Worker::run_once`], that claims due work, starts it and returns a [`Report`]. [`run`] repeats the step: at
//! once if the step reports more work, otherwise when the next row is due, when a [`Wake`] signals new work or a free slot, or after
//! 30 seconds. A claim takes the due work for which there are free slots; the end of each piece of work signals its free slot. After
//! a step that failed, the pause is one second. A drain stops the loop. Started work then runs to its end or to the end of the grace
//! period. After that, the leases of unfinished work are released.

mod attempt_slots;
mod attribute_indexer;
mod clock_keeper;
mod deliverer;
mod delivery_requests;
mod outcome_writer;
mod refresher;
mod replayer;
mod retention;
mod token_watcher;
mod vendor_worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::attribute_indexer::AttributeIndexer;
pub use self::clock_keeper::{ClockKeeper, Clocks, RemoteClock};
pub use self::deliverer::Deliverer;
pub use self::outcome_writer::OutcomeWriter;
pub use self::refresher::{KeyRefresher, SecretRefresher};
pub use self::replayer::Replayer;
pub use self::retention::Retention;
pub use self::token_watcher::TokenWatcher;
pub use self::vendor_worker::VendorWorker;
use crate::alovoice::VendorPermits;
use crate::domain::clock::{Clock, Timestamp};
use crate::store::{Change, Queue, StoreError};

/// The longest pause between two steps. This limit bounds the delay after a clock was set back or a signal was lost.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The pause after a step in which the store failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// Returns the length of a lease for work that sends one request with this deadline. The length is twice the deadline
/// plus two seconds, which leaves time for the claim before the request and the write after it. If a replica dies,
/// its work waits for the end of the lease.
fn lease_for(timeout: Duration) -> Duration {
    timeout * 2 + Duration::from_secs(2)
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Whether more work may be due now that no signal and no `next_due` announces.
    pub has_more: bool,
    /// Time at which the next piece of work is due; `None` if no such time is known.
    pub next_due: Option<Timestamp>,
}

/// One kind of background work.
#[async_trait]
pub trait Worker: Send + Sync {
    /// Returns the worker's name in logs.
    fn name(&self) -> &'static str;

    /// Takes one step: claims work that is due and starts it on `tasks`, without waiting for its end.
    ///
    /// # Errors
    /// Returns an error if the store fails. No work is lost, because the next step tries again.
    async fn run_once(self: Arc<Self>, tasks: &TaskTracker) -> Result<Report, StoreError>;
}

/// Wakes the loop of a worker. Several signals before the next step count as one.
#[derive(Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Makes the loop take a step now.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Repeats the steps of a worker until `stop` is cancelled. Started work continues on `tasks`.
pub async fn run(
    worker: Arc<dyn Worker>,
    wake: Wake,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let pause = match Arc::clone(&worker).run_once(&tasks).await {
            Ok(report) if report.has_more => continue,
            Ok(report) => report.next_due.map_or(MAX_PAUSE, |due| due.since(clock.now()).min(MAX_PAUSE)),
            Err(error) => {
                tracing::error!(worker = worker.name(), %error, "worker step failed");
                PAUSE_AFTER_ERROR
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            // Whether the pause elapsed or a signal ended it, the next step follows.
            _ = tokio::time::timeout(pause, wake.0.notified()) => {}
        }
    }
}

/// The signals that wake workers before their next work is due. [`Wakes::follow`] sends all signals except the signal of the
/// token watcher.
#[derive(Clone, Default)]
pub struct Wakes {
    /// Wakes the submitter.
    pub submitter: Wake,
    /// Wakes the poller.
    pub poller: Wake,
    /// Wakes the deliverer.
    pub deliverer: Wake,
    /// Wakes the replayer.
    pub replayer: Wake,
    /// Wakes the token watcher. The secret refresher sends this signal.
    pub token_watcher: Wake,
    /// Wakes the clock keeper.
    pub clock_keeper: Wake,
}

impl Wakes {
    /// Wakes a worker when the store commits work for it. Also wakes the submitter and the poller when a vendor permit is
    /// released. Ends when `stop` is cancelled.
    pub async fn follow(
        self,
        mut changes: Receiver<Change>,
        permits: Arc<VendorPermits>,
        stop: CancellationToken,
    ) {
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = permits.released() => {
                    self.submitter.wake();
                    self.poller.wake();
                    continue;
                }
                () = stop.cancelled() => return,
            };
            match change {
                Ok(Change::Work(Queue::Submits)) => self.submitter.wake(),
                Ok(Change::Work(Queue::Polls)) => self.poller.wake(),
                Ok(Change::Delivery) => self.deliverer.wake(),
                Ok(Change::Replay) => self.replayer.wake(),
                Ok(Change::Analysis(..) | Change::Event(_)) => {}
                Ok(Change::Everything) | Err(RecvError::Lagged(_)) => {
                    self.submitter.wake();
                    self.poller.wake();
                    self.deliverer.wake();
                    self.replayer.wake();
                    // Another replica may have stepped the clock.
                    self.clock_keeper.wake();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}
