//! Announcements of changes between replicas: `LISTEN` and `NOTIFY` on one channel.
//!
//! Commits that contain a `NOTIFY` wait for each other, including their fsync. So only a change that may make a cached value
//! of another replica stale is announced in its transaction, which is rare. Changes that only wake tasks are announced after
//! the commit, many in one statement; if such an announcement is lost, the next step of the worker's loop finds the work.
//!
//! While the listening connection answers, a change is missed for at most [`STALENESS`]. While it does not answer,
//! [`Currency`] is false, and caches ask the store.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{Pool, Transaction};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::{Client, Notification};
use tokio_util::sync::CancellationToken;

use super::super::changes::Changes;
use super::super::{Change, Queue};
use super::connect::{Connector, PATIENCE, Session};
use super::copies;
use super::fault::Fault;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};

/// The longest time that a change by another replica may be missed.
const STALENESS: Duration = Duration::from_secs(5);
/// The interval of the heartbeat on the listening connection.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The time limit of a heartbeat.
const HEARTBEAT_PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(500);
/// The pause before a failed announcement is repeated.
const MISSED_PAUSE: Duration = Duration::from_secs(1);
/// The most notices in one statement, and in the queue.
const BATCH: usize = 512;

const NOTIFY: &str = "SELECT pg_notify($1, notice) FROM unnest($2::text[]) AS notice";
const TIME: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

impl Changes {
    /// Adds the announcements that must not be missed to the transaction.
    pub(super) async fn announce_within(
        &self,
        transaction: &Transaction<'_>,
        address: &Address,
    ) -> Result<(), Fault> {
        if !self.invalidating().is_empty() {
            let notify = transaction.prepare_cached(NOTIFY).await?;
            let notices: Vec<_> = self.invalidating().iter().map(|change| address.notice(change)).collect();
            transaction.execute(&notify, &[&address.channel, &notices]).await?;
        }
        Ok(())
    }
}

/// The channel of notices, and the sender.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// The name of the channel, one per schema.
    pub(super) channel: String,
    /// The id of this replica, which ignores its own notices.
    pub(super) origin: String,
}

impl Address {
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

    /// Reads a notice; `None` for an own one. A notice of an unknown kind comes from a later version: anything may have
    /// changed.
    fn read(&self, notice: &str) -> Option<Change> {
        let mut words = notice.split(' ');
        if words.next() == Some(&self.origin) {
            return None;
        }
        Some(match (words.next(), words.next(), words.next()) {
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

/// The time up to which no change was missed.
#[derive(Debug)]
pub(super) struct Currency {
    base: Instant,
    /// In milliseconds after `base`.
    until: AtomicU64,
}

impl Currency {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), until: AtomicU64::new(0) }
    }

    pub(super) fn holds(&self) -> bool {
        self.elapsed(Instant::now()) < self.until.load(Ordering::Relaxed)
    }

    /// Notes that the connection answered a heartbeat that was sent at `asked`.
    fn extend(&self, asked: Instant) {
        self.until.store(self.elapsed(asked + STALENESS), Ordering::Relaxed);
    }

    fn elapsed(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.base).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Announces committed changes to this process and to the other replicas.
pub(super) struct Announcer {
    listeners: broadcast::Sender<Change>,
    waking: mpsc::Sender<Change>,
    /// Set when an announcement failed. The other replicas are then told that anything may have changed.
    missed: Arc<AtomicBool>,
}

impl Announcer {
    pub(super) fn start(
        pool: Pool,
        address: Address,
        listeners: broadcast::Sender<Change>,
        stop: CancellationToken,
    ) -> Self {
        let (waking, waiting) = mpsc::channel(BATCH);
        let missed = Arc::<AtomicBool>::default();
        let in_task = missed.clone();
        let passing = async move { pass_on(&pool, &address, waiting, &in_task).await };
        tokio::spawn(async move { stop.run_until_cancelled(passing).await });
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

/// Announces queued changes to the other replicas, all that are queued in one statement.
async fn pass_on(pool: &Pool, address: &Address, mut waiting: mpsc::Receiver<Change>, missed: &AtomicBool) {
    let mut changes = Vec::with_capacity(BATCH);
    loop {
        // A failed announcement is repeated after a pause even if no other change comes.
        let patience = if missed.load(Ordering::Relaxed) { MISSED_PAUSE } else { Duration::MAX };
        if timeout(patience, waiting.recv_many(&mut changes, BATCH)).await == Ok(0) {
            return;
        }
        let mut distinct: HashSet<Change> = changes.drain(..).collect();
        if missed.swap(false, Ordering::Relaxed) {
            distinct = HashSet::from([Change::Everything]);
        }
        let notices: Vec<String> = distinct.iter().map(|change| address.notice(change)).collect();
        if let Err(fault) = notify(pool, address, &notices).await {
            tracing::warn!(?fault, "failed to announce changes to other replicas");
            missed.store(true, Ordering::Relaxed);
        }
    }
}

/// Announces changes before this returns, for a process that is about to stop.
pub(super) async fn announce_now(
    mut session: Session,
    address: &Address,
    changes: &[Change],
) -> Result<(), Fault> {
    let client = session.client()?;
    let notify = client.prepare_cached(NOTIFY).await?;
    let notices: Vec<String> = changes.iter().map(|change| address.notice(change)).collect();
    client.execute(&notify, &[&address.channel, &notices]).await?;
    Ok(())
}

async fn notify(pool: &Pool, address: &Address, notices: &[String]) -> Result<(), Fault> {
    let deadline = Instant::now() + PATIENCE;
    let work = async {
        let mut session = Session::take(pool, deadline).await?;
        let client = session.client()?;
        let notify = client.prepare_cached(NOTIFY).await?;
        client.execute(&notify, &[&address.channel, &notices]).await?;
        Ok(())
    };
    timeout_at(deadline, work).await.unwrap_or(Err(Fault::TimedOut))
}

/// The task of a connection; it ends when this is dropped.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection that receives notices.
pub(super) struct Subscription {
    client: Client,
    notifications: mpsc::UnboundedReceiver<Notification>,
    _driving: AbortOnDrop,
}

/// Receives the notices of the other replicas.
pub(super) struct Listener {
    pub(super) connector: Connector,
    pub(super) address: Address,
    pub(super) listeners: broadcast::Sender<Change>,
    pub(super) currency: Arc<Currency>,
    /// Called with the server's time after each heartbeat.
    pub(super) on_server_time: Box<dyn Fn(Timestamp) + Send + Sync>,
}

impl Listener {
    /// Listens until `stop`, and connects again after a failure. `subscription` is the first connection.
    pub(super) async fn run(self, subscription: Subscription, stop: CancellationToken) {
        let mut first = Some(subscription);
        let listening = async {
            loop {
                if let Err(fault) = self.listen(first.take()).await {
                    tracing::warn!(?fault, "failed to listen to other replicas");
                }
                sleep(PAUSE).await;
            }
        };
        stop.run_until_cancelled(listening).await;
    }

    /// Opens a connection that receives notices from now on.
    pub(super) async fn connect(&self) -> Result<Subscription, Fault> {
        let (heard, notifications) = mpsc::unbounded_channel();
        let connect = timeout(HEARTBEAT_PATIENCE * 2, self.connector.listen(heard));
        let (client, driving) = connect.await.map_err(|_| Fault::TimedOut)??;
        let subscription = Subscription { client, notifications, _driving: AbortOnDrop(driving) };
        let listen = format!("LISTEN \"{}\"", self.address.channel.replace('"', "\"\""));
        let listening = timeout(HEARTBEAT_PATIENCE, subscription.client.batch_execute(&listen));
        listening.await.map_err(|_| Fault::TimedOut)??;
        let working = timeout(HEARTBEAT_PATIENCE * 2, copies::keep_out(&subscription.client));
        working.await.map_err(|_| Fault::TimedOut)??;
        Ok(subscription)
    }

    /// Listens until the connection is lost.
    async fn listen(&self, subscription: Option<Subscription>) -> Result<(), Fault> {
        let mut subscription = match subscription {
            Some(subscription) => subscription,
            None => {
                let subscription = self.connect().await?;
                // Notices may have been missed.
                let _ = self.listeners.send(Change::Everything);
                subscription
            }
        };
        loop {
            self.beat(&subscription).await?;
            let beat = sleep(HEARTBEAT);
            tokio::pin!(beat);
            loop {
                tokio::select! {
                    () = &mut beat => break,
                    notification = subscription.notifications.recv() => match notification {
                        Some(notification) => self.pass_on(notification.payload()),
                        // The connection is closed; the next heartbeat fails.
                        None => break,
                    },
                }
            }
        }
    }

    /// Asks the server for its time, which also proves that the connection answers.
    pub(super) async fn beat(&self, subscription: &Subscription) -> Result<(), Fault> {
        let asked = Instant::now();
        let time = timeout(HEARTBEAT_PATIENCE, subscription.client.query_one(TIME, &[]));
        let time: i64 = time.await.map_err(|_| Fault::TimedOut)??.try_get(0)?;
        let took = asked.elapsed();
        if took > HEARTBEAT_PATIENCE {
            // The process was suspended, so the answer is outdated. A clock set by it would be late, and this process would
            // use leases that other replicas have already taken over.
            return Err(Fault::TimedOut);
        }
        (self.on_server_time)(Timestamp::from_millis(time) + took / 2);
        self.currency.extend(asked);
        Ok(())
    }

    fn pass_on(&self, notice: &str) {
        if let Some(change) = self.address.read(notice) {
            let _ = self.listeners.send(change);
        }
    }
}
