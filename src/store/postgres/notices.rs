//! How replicas hear of each other's changes: `LISTEN` and `NOTIFY` on one channel.
//!
//! Commits with a `NOTIFY` in them wait for each other, their syncs included. So only what another replica may hold
//! in its cache is told within the transaction, which is rare; what merely wakes somebody is told after it, many at
//! once, and at worst comes with the next step of a worker's loop.
//!
//! While the connection that listens answers, nothing is missed for longer than [`STALENESS`]; while it does not,
//! [`Currency`] says so, and caches ask the store first.

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
use super::connect::{PATIENCE, Session, Way};
use super::copies;
use super::fault::Fault;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};

/// How long a change by another replica may go unnoticed.
const STALENESS: Duration = Duration::from_secs(5);
/// Between two questions whether the listening connection still answers.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long it may take to answer.
const HEARTBEAT_PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(500);
/// Before the others are told again of what they could not be told.
const UNTOLD_PAUSE: Duration = Duration::from_secs(1);
/// The most notices in one statement, and in waiting.
const BATCH: usize = 512;

const NOTIFY: &str = "SELECT pg_notify($1, notice) FROM unnest($2::text[]) AS notice";
const TIME: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

impl Changes {
    /// Adds the notices that must not be missed to the transaction.
    pub(super) async fn tell_within(
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

/// Where notices go, and who sends them.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// One for each schema.
    pub(super) channel: String,
    /// This replica; it knows of its own changes without being told.
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

    /// What another replica said. What cannot be read was said by a later version: then everything may have changed.
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

/// Until when it is certain that nothing was missed.
#[derive(Debug)]
pub(super) struct Currency {
    base: Instant,
    /// Milliseconds after `base`.
    until: AtomicU64,
}

impl Currency {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), until: AtomicU64::new(0) }
    }

    pub(super) fn holds(&self) -> bool {
        self.elapsed(Instant::now()) < self.until.load(Ordering::Relaxed)
    }

    /// The connection answered what was asked at `asked`.
    fn extend(&self, asked: Instant) {
        self.until.store(self.elapsed(asked + STALENESS), Ordering::Relaxed);
    }

    fn elapsed(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.base).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Tells this process and the others what was committed.
pub(super) struct Teller {
    listeners: broadcast::Sender<Change>,
    waking: mpsc::Sender<Change>,
    /// Set when something could not be told; then the others are told that everything may have changed.
    untold: Arc<AtomicBool>,
}

impl Teller {
    pub(super) fn start(
        pool: Pool,
        address: Address,
        listeners: broadcast::Sender<Change>,
        stop: CancellationToken,
    ) -> Self {
        let (waking, waiting) = mpsc::channel(BATCH);
        let untold = Arc::<AtomicBool>::default();
        let missed = untold.clone();
        let passing = async move { pass_on(&pool, &address, waiting, &missed).await };
        tokio::spawn(async move { stop.run_until_cancelled(passing).await });
        Self { listeners, waking, untold }
    }

    /// After the commit.
    pub(super) fn tell(&self, changes: Changes) {
        let mut told = HashSet::new();
        let (invalidating, waking) = changes.into_parts();
        for change in invalidating {
            // Without listeners there is nothing to do.
            let _ = self.listeners.send(change);
        }
        for change in waking {
            if told.insert(change.clone()) {
                let _ = self.listeners.send(change.clone());
                if self.waking.try_send(change).is_err() {
                    self.untold.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Tells the others, whatever has gathered meanwhile at once.
async fn pass_on(pool: &Pool, address: &Address, mut waiting: mpsc::Receiver<Change>, untold: &AtomicBool) {
    let mut changes = Vec::with_capacity(BATCH);
    loop {
        // What could not be told is told by itself, if nothing else comes.
        let patience = if untold.load(Ordering::Relaxed) { UNTOLD_PAUSE } else { Duration::MAX };
        if timeout(patience, waiting.recv_many(&mut changes, BATCH)).await == Ok(0) {
            return;
        }
        let mut distinct: HashSet<Change> = changes.drain(..).collect();
        if untold.swap(false, Ordering::Relaxed) {
            distinct = HashSet::from([Change::Everything]);
        }
        let notices: Vec<String> = distinct.iter().map(|change| address.notice(change)).collect();
        if let Err(fault) = notify(pool, address, &notices).await {
            tracing::warn!(?fault, "other replicas cannot be told of changes");
            untold.store(true, Ordering::Relaxed);
        }
    }
}

/// Tells the others before this returns, for when there may be no later.
pub(super) async fn tell_now(
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

/// A connection's task, which ends with its user.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection that listens.
pub(super) struct Ears {
    client: Client,
    hearing: mpsc::UnboundedReceiver<Notification>,
    _driving: AbortOnDrop,
}

/// Listens to the others.
pub(super) struct Listener {
    pub(super) way: Way,
    pub(super) address: Address,
    pub(super) listeners: broadcast::Sender<Change>,
    pub(super) currency: Arc<Currency>,
    /// Hears the server's time now and then.
    pub(super) told_time: Box<dyn Fn(Timestamp) + Send + Sync>,
}

impl Listener {
    /// Listens until `stop`, through any number of connections, of which `ears` are the first.
    pub(super) async fn run(self, ears: Ears, stop: CancellationToken) {
        let mut first = Some(ears);
        let listening = async {
            loop {
                if let Err(fault) = self.listen(first.take()).await {
                    tracing::warn!(?fault, "other replicas cannot be heard");
                }
                sleep(PAUSE).await;
            }
        };
        stop.run_until_cancelled(listening).await;
    }

    /// A connection that hears from now on.
    pub(super) async fn connect(&self) -> Result<Ears, Fault> {
        let (heard, hearing) = mpsc::unbounded_channel();
        let connect = timeout(HEARTBEAT_PATIENCE * 2, self.way.listen(heard));
        let (client, driving) = connect.await.map_err(|_| Fault::TimedOut)??;
        let ears = Ears { client, hearing, _driving: AbortOnDrop(driving) };
        let listen = format!("LISTEN \"{}\"", self.address.channel.replace('"', "\"\""));
        let listening = timeout(HEARTBEAT_PATIENCE, ears.client.batch_execute(&listen));
        listening.await.map_err(|_| Fault::TimedOut)??;
        let working = timeout(HEARTBEAT_PATIENCE * 2, copies::keep_out(&ears.client));
        working.await.map_err(|_| Fault::TimedOut)??;
        Ok(ears)
    }

    /// Listens until the connection is lost.
    async fn listen(&self, ears: Option<Ears>) -> Result<(), Fault> {
        let mut ears = match ears {
            Some(ears) => ears,
            None => {
                let ears = self.connect().await?;
                // What was said meanwhile is not known.
                let _ = self.listeners.send(Change::Everything);
                ears
            }
        };
        loop {
            self.beat(&ears).await?;
            let beat = sleep(HEARTBEAT);
            tokio::pin!(beat);
            loop {
                tokio::select! {
                    () = &mut beat => break,
                    notification = ears.hearing.recv() => match notification {
                        Some(notification) => self.pass_on(notification.payload()),
                        // The connection is gone; the next question says so.
                        None => break,
                    },
                }
            }
        }
    }

    /// Asks whether the connection still answers, and for the time.
    pub(super) async fn beat(&self, ears: &Ears) -> Result<(), Fault> {
        let asked = Instant::now();
        let time = timeout(HEARTBEAT_PATIENCE, ears.client.query_one(TIME, &[]));
        let time: i64 = time.await.map_err(|_| Fault::TimedOut)??.try_get(0)?;
        let took = asked.elapsed();
        if took > HEARTBEAT_PATIENCE {
            // There it is, and yet too late: this process was stopped. Whoever went by it would be late as well, and
            // take leases for its own that others have taken over.
            return Err(Fault::TimedOut);
        }
        (self.told_time)(Timestamp::from_millis(time) + took / 2);
        self.currency.extend(asked);
        Ok(())
    }

    fn pass_on(&self, notice: &str) {
        if let Some(change) = self.address.read(notice) {
            let _ = self.listeners.send(change);
        }
    }
}
