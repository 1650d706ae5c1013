//! The connection that receives the notices of the other replicas.
//!
//! A heartbeat every [`HEARTBEAT`] proves that the connection works. It also reads the server's time, by which all
//! replicas set their clocks. While heartbeats succeed, this replica learns of each change within [`STALENESS`].
//! While they fail, [`Freshness`] is false, and reads go to the store before the cache. After a reconnect the
//! listener announces that anything may have changed.
//!
//! The connection also holds a shared lock that prevents `store copy` from writing to the database of a running
//! gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Notification};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::super::Change;
use super::connect::Connector;
use super::copy_record;
use super::fault::Fault;
use super::notices::NoticeChannel;
use crate::domain::clock::Timestamp;

/// Maximum time for which this replica may not know of a change by another replica.
const STALENESS: Duration = Duration::from_secs(5);
/// Interval of the heartbeat on the listening connection.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The time limit of a heartbeat.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

const TIME: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// Time up to which this replica knows of all changes.
#[derive(Debug)]
pub(super) struct Freshness {
    base: Instant,
    /// Milliseconds after `base`.
    until: AtomicU64,
}

impl Freshness {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), until: AtomicU64::new(0) }
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.elapsed(Instant::now()) < self.until.load(Ordering::Relaxed)
    }

    /// Records that the connection answered a heartbeat, which was sent at `asked`.
    fn extend(&self, asked: Instant) {
        self.until.store(self.elapsed(asked + STALENESS), Ordering::Relaxed);
    }

    fn elapsed(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.base).as_millis()).unwrap_or(u64::MAX)
    }
}

/// A connection that receives notices.
pub(super) struct Subscription {
    client: Client,
    notifications: mpsc::UnboundedReceiver<Notification>,
    _driving: AbortOnDropHandle<()>,
}

/// Receives the notices of the other replicas.
pub(super) struct Listener {
    pub(super) connector: Connector,
    pub(super) channel: NoticeChannel,
    pub(super) listeners: broadcast::Sender<Change>,
    pub(super) freshness: Arc<Freshness>,
    /// Called with the server's time after each heartbeat.
    pub(super) on_server_time: Box<dyn Fn(Timestamp) + Send + Sync>,
}

impl Listener {
    /// Listens until `stop` is cancelled, and reconnects after a failure. `subscription` is the first connection.
    pub(super) async fn run(self, subscription: Subscription, stop: CancellationToken) {
        let mut first = Some(subscription);
        let listening = async {
            loop {
                if let Err(fault) = self.listen(first.take()).await {
                    tracing::warn!(?fault, "failed to listen to other replicas");
                }
                sleep(RECONNECT_PAUSE).await;
            }
        };
        stop.run_until_cancelled(listening).await;
    }

    /// Opens a connection that receives notices from now on.
    pub(super) async fn connect(&self) -> Result<Subscription, Fault> {
        let (sender, notifications) = mpsc::unbounded_channel();
        let connect = timeout(self.connector.patience(), self.connector.connect(Some(sender)));
        let (client, driving) = connect.await.map_err(|_| Fault::TimedOut)??;
        let subscription = Subscription { client, notifications, _driving: driving };
        let listen = format!("LISTEN \"{}\"", self.channel.name.replace('"', "\"\""));
        let listening = timeout(HEARTBEAT_TIMEOUT, subscription.client.batch_execute(&listen));
        listening.await.map_err(|_| Fault::TimedOut)??;
        let locking = timeout(HEARTBEAT_TIMEOUT * 2, copy_record::lock_shared(&subscription.client));
        locking.await.map_err(|_| Fault::TimedOut)??;
        Ok(subscription)
    }

    /// Listens until the connection is lost.
    async fn listen(&self, subscription: Option<Subscription>) -> Result<(), Fault> {
        let mut subscription = match subscription {
            Some(subscription) => subscription,
            None => {
                let subscription = self.connect().await?;
                // Notices may have been missed before this connection.
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
                        Some(notification) => self.forward(notification.payload()),
                        // The connection is closed; the next heartbeat fails.
                        None => break,
                    },
                }
            }
        }
    }

    /// Reads the server's time, which also proves that the connection works.
    pub(super) async fn beat(&self, subscription: &Subscription) -> Result<(), Fault> {
        let asked = Instant::now();
        let time = timeout(HEARTBEAT_TIMEOUT, subscription.client.query_one(TIME, &[]));
        let time: i64 = time.await.map_err(|_| Fault::TimedOut)??.try_get(0)?;
        let took = asked.elapsed();
        if took > HEARTBEAT_TIMEOUT {
            // The process was suspended, so the answer is outdated. A clock set by it would be late, and this process
            // would use leases that other replicas have already taken over.
            return Err(Fault::TimedOut);
        }
        (self.on_server_time)(Timestamp::from_millis(time) + took / 2);
        self.freshness.extend(asked);
        Ok(())
    }

    fn forward(&self, notice: &str) {
        if let Some(change) = self.channel.read(notice) {
            let _ = self.listeners.send(change);
        }
    }
}
