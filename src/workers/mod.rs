//! What goes on without a caller: handing calls over, asking for results, delivering callbacks, keeping keys and
//! secrets fresh.
//!
//! A worker is a step under the one loop in this file. A step claims what is due and has room, starts it, and
//! reports; the loop takes the next step when something became due, a place became free, or the report says when.

mod deliverer;
mod refresher;
mod replayer;
mod retention;
mod vendor_worker;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::deliverer::Deliverer;
pub use self::refresher::{ClockKeeper, KeyRefresher, SecretRefresher};
pub use self::replayer::Replayer;
pub use self::retention::Retention;
pub use self::vendor_worker::VendorWorker;
use crate::alovoice::VendorPermits;
use crate::domain::clock::{Clock, Timestamp};
use crate::store::{Change, Queue, StoreError};

/// The longest pause between two steps: bounds the harm of a clock that was set back, and of a missed signal.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The pause after a step that failed, because the store did.
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);

/// How long a claim lasts whose work may take so long: as long again, and a little, for the claim before it and the write
/// after it. It is also how long the work of a replica that died is delayed.
fn lease_for(timeout: Duration) -> Duration {
    timeout * 2 + Duration::from_secs(2)
}

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Pieces of work that were started.
    pub started: usize,
    /// When there will be more, as far as is known.
    pub next_due: Option<Timestamp>,
}

/// One kind of work.
#[async_trait]
pub trait Worker: Send + Sync {
    /// Its name in logs.
    fn name(&self) -> &'static str;

    /// Starts what is due and has room, on `tasks`; does not wait for it.
    ///
    /// # Errors
    /// If the store fails; nothing is lost then, the next step tries again.
    async fn step(self: Arc<Self>, tasks: &TaskTracker) -> Result<Report, StoreError>;
}

/// Wakes a worker's loop. Signals that come together count as one; none is lost.
#[derive(Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// There is something to do.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// A worker and what wakes it.
pub struct Post {
    /// The worker.
    pub worker: Arc<dyn Worker>,
    /// What wakes it.
    pub wake: Wake,
    /// What its reports go by.
    pub clock: Arc<dyn Clock>,
}

/// Takes steps until `stop`. What was started goes on in `tasks`.
pub async fn run(Post { worker, wake, clock }: Post, tasks: TaskTracker, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let pause = match Arc::clone(&worker).step(&tasks).await {
            Ok(report) if report.started > 0 => continue,
            Ok(report) => report.next_due.map_or(MAX_PAUSE, |due| due.since(clock.now()).min(MAX_PAUSE)),
            Err(error) => {
                tracing::error!(worker = worker.name(), %error, "worker step failed");
                PAUSE_AFTER_FAULT
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            // Elapsed or woken: either way it is time for a step.
            _ = tokio::time::timeout(pause, wake.0.notified()) => {}
        }
    }
}

/// The loops' wakes, and what wakes them.
#[derive(Clone, Default)]
pub struct Wakes {
    /// The submitter's.
    pub submitter: Wake,
    /// The poller's.
    pub poller: Wake,
    /// The deliverer's.
    pub deliverer: Wake,
    /// The replayer's.
    pub replayer: Wake,
}

impl Wakes {
    /// Passes on what the store commits and what places become free, until `stop`.
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
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}
