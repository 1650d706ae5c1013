//! Announcements of changes between replicas: `LISTEN` and `NOTIFY` on one channel per schema.
//!
//! A notice is one line of text: the id of the sending replica, the kind of the change and, for some kinds, the tenant and the
//! call. A replica ignores its own notices, because it announces its own changes to its tasks directly. A notice of an unknown
//! kind comes from a later version of the program and means that anything may have changed. An echo is a notice that a replica
//! sends to itself, to prove that notices arrive. The other replicas ignore the echo.
//!
//! Commits that contain a `NOTIFY` wait for each other, including their fsync. So a transaction announces only changes that may
//! make a cached value of another replica stale. Such changes are rare. Changes that only wake tasks are announced after the
//! commit, many in one statement. If such an announcement is lost, the next step of the worker's loop finds the work.
//!
//! [`listener`](super::listener) receives the notices.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Pool, Transaction};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::super::changes::Changes;
use super::super::{Change, Queue};
use super::connect::Session;
use super::fault::Fault;
use crate::domain::ids::{CallId, TenantId};

/// The pause after an announcement. The changes of this pause are announced together.
const PAUSE: Duration = Duration::from_millis(10);
/// The pause before a failed announcement is repeated.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Maximum number of notices in one statement, and in the queue.
const BATCH: usize = 512;

const NOTIFY: &str = "SELECT pg_notify($1, notice) FROM unnest($2::text[]) AS notice";

/// The channel of notices, and the id of this replica.
#[derive(Debug, Clone)]
pub(super) struct NoticeChannel {
    /// The name of the channel, one per schema.
    pub(super) name: String,
    /// The id of this replica, which ignores its own notices.
    pub(super) origin: String,
}

/// An echo: a notice that a replica sends to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotificationEcho {
    /// Number of the echo. Each further echo of a replica has a higher number.
    pub(super) number: u64,
    /// Time when the echo was sent, on the clock of [`Freshness`](super::listener::Freshness).
    pub(super) sent_at: u64,
}

impl NoticeChannel {
    /// Announces the changes that may make a cached value stale. The announcements are sent with the commit of the transaction.
    pub(super) async fn announce_within(
        &self,
        transaction: &Transaction<'_>,
        changes: &Changes,
    ) -> Result<(), Fault> {
        if !changes.invalidating().is_empty() {
            let notify = transaction.prepare_cached(NOTIFY).await?;
            let notices: Vec<_> = changes.invalidating().iter().map(|change| self.notice(change)).collect();
            transaction.execute(&notify, &[&self.name, &notices]).await?;
        }
        Ok(())
    }

    /// Announces changes and waits until the database has accepted the announcement. A process that is about to stop uses this
    /// function.
    pub(super) async fn announce_now(&self, session: Session, changes: &[Change]) -> Result<(), Fault> {
        let notices: Vec<String> = changes.iter().map(|change| self.notice(change)).collect();
        self.send(session, &notices).await
    }

    /// Sends an echo to this replica.
    pub(super) async fn send_echo(&self, session: Session, echo: NotificationEcho) -> Result<(), Fault> {
        let notice = format!("{} echo {} {}", self.origin, echo.number, echo.sent_at);
        self.send(session, &[notice]).await
    }

    async fn send(&self, mut session: Session, notices: &[String]) -> Result<(), Fault> {
        let client = session.client()?;
        let notify = client.prepare_cached(NOTIFY).await?;
        client.execute(&notify, &[&self.name, &notices]).await?;
        Ok(())
    }

    fn notice(&self, change: &Change) -> String {
        let origin = &self.origin;
        match change {
            Change::Analysis(tenant, call_id) => format!("{origin} analysis {tenant} {call_id}"),
            Change::Event(tenant) => format!("{origin} event {tenant}"),
            Change::Work(Queue::Submits) => format!("{origin} submits"),
            Change::Work(Queue::Polls) => format!("{origin} polls"),
            Change::Delivery => format!("{origin} delivery"),
            Change::Replay => format!("{origin} replay"),
            Change::Everything => format!("{origin} everything"),
        }
    }

    /// Reads an echo of this replica. Returns `None` for any other notice.
    pub(super) fn read_echo(&self, notice: &str) -> Option<NotificationEcho> {
        let (number, sent_at) = notice.strip_prefix(&self.origin)?.strip_prefix(" echo ")?.split_once(' ')?;
        Some(NotificationEcho { number: number.parse().ok()?, sent_at: sent_at.parse().ok()? })
    }

    /// Reads a notice. Returns `None` for a notice of this replica, and for an echo of another replica.
    pub(super) fn read(&self, notice: &str) -> Option<Change> {
        let mut words = notice.split(' ');
        if words.next() == Some(&self.origin) {
            return None;
        }
        Some(match (words.next(), words.next(), words.next()) {
            (Some("echo"), Some(_), Some(_)) => return None,
            (Some("analysis"), Some(tenant), Some(call_id)) => {
                match (TenantId::parse(tenant), CallId::parse(call_id)) {
                    (Ok(tenant), Ok(call_id)) => Change::Analysis(tenant, call_id),
                    _ => Change::Everything,
                }
            }
            (Some("event"), Some(tenant), None) => {
                TenantId::parse(tenant).map_or(Change::Everything, Change::Event)
            }
            (Some("submits"), None, None) => Change::Work(Queue::Submits),
            (Some("polls"), None, None) => Change::Work(Queue::Polls),
            (Some("delivery"), None, None) => Change::Delivery,
            (Some("replay"), None, None) => Change::Replay,
            _ => Change::Everything,
        })
    }
}

/// Announces committed changes to this process and to the other replicas.
pub(super) struct Announcer {
    listeners: broadcast::Sender<Change>,
    waking: mpsc::Sender<Change>,
    /// Whether the last announcement failed or found the queue full. The next announcement then tells the other replicas
    /// that anything may have changed.
    missed: Arc<AtomicBool>,
}

impl Announcer {
    pub(super) fn start(
        pool: Pool,
        channel: NoticeChannel,
        listeners: broadcast::Sender<Change>,
        operation_timeout: Duration,
        stop: CancellationToken,
    ) -> Self {
        let (waking, waiting) = mpsc::channel(BATCH);
        let missed = Arc::<AtomicBool>::default();
        let in_task = missed.clone();
        let announcing =
            async move { announce_queued(&pool, &channel, operation_timeout, waiting, &in_task).await };
        tokio::spawn(async move { stop.run_until_cancelled(announcing).await });
        Self { listeners, waking, missed }
    }

    /// Announces the changes of a committed transaction.
    pub(super) fn announce(&self, changes: Changes) {
        let mut announced = HashSet::new();
        let (invalidating, waking) = changes.into_parts();
        for change in invalidating {
            // Without listeners there is nothing to do.
            let _ = self.listeners.send(change);
        }
        for change in waking {
            if announced.insert(change.clone()) {
                let _ = self.listeners.send(change.clone());
                if self.waking.try_send(change).is_err() {
                    self.missed.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Announces queued changes to the other replicas, many in one statement, until the queue is closed. If `missed` is true, an
/// announcement was lost, and the next announcement says that anything may have changed.
async fn announce_queued(
    pool: &Pool,
    channel: &NoticeChannel,
    operation_timeout: Duration,
    mut waiting: mpsc::Receiver<Change>,
    missed: &AtomicBool,
) {
    let mut changes = Vec::with_capacity(BATCH);
    loop {
        // A failed announcement is repeated after a pause, even if no other change follows.
        let pause = if missed.load(Ordering::Relaxed) { RETRY_PAUSE } else { Duration::MAX };
        if timeout(pause, waiting.recv_many(&mut changes, BATCH)).await == Ok(0) {
            return;
        }
        let mut distinct: HashSet<Change> = changes.drain(..).collect();
        if missed.swap(false, Ordering::Relaxed) {
            distinct = HashSet::from([Change::Everything]);
        }
        let notices: Vec<String> = distinct.iter().map(|change| channel.notice(change)).collect();
        if let Err(fault) = send_queued(pool, channel, operation_timeout, &notices).await {
            tracing::warn!(?fault, "failed to announce changes to other replicas");
            missed.store(true, Ordering::Relaxed);
        }
        sleep(PAUSE).await;
    }
}

async fn send_queued(
    pool: &Pool,
    channel: &NoticeChannel,
    operation_timeout: Duration,
    notices: &[String],
) -> Result<(), Fault> {
    let deadline = Instant::now() + operation_timeout;
    let send = async { channel.send(Session::take(pool, deadline).await?, notices).await };
    timeout_at(deadline, send).await.unwrap_or(Err(Fault::TimedOut))
}
