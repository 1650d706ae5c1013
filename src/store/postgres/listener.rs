//! The connection that receives the notices of the other replicas.
//!
//! A heartbeat every [`HEARTBEAT`] reads the server's time over the connection. All replicas set their clocks to this time.
//!
//! A working connection does not prove that notices arrive: a pooler may accept `LISTEN` and give the session to another client.
//! So every [`HEARTBEAT`] this replica also sends itself a notice, the echo, over another connection. PostgreSQL delivers notices
//! in the order of their commits. So an echo that arrives proves that all earlier notices have arrived. While echoes arrive, this
//! replica learns of each change within [`STALENESS`]. Without echoes, [`Freshness::is_fresh`] is false, and reads ask the store
//! before they use the cache.
//!
//! If echoes are missing, the listener opens another connection. After a reconnect, the listener announces that anything may have
//! changed.
//!
//! The connection also holds a shared lock that prevents `store copy` from writing to the database of a running
//! gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::Pool;
use futures_util::future;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::{Client, Notification};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::super::Change;
use super::connect::{Connector, Session};
use super::copy_record;
use super::fault::Fault;
use super::notices::{NoticeChannel, NotificationEcho};
use crate::domain::clock::Timestamp;

/// Maximum delay until this replica learns of a change by another replica, while the echoes of this replica arrive.
const STALENESS: Duration = Duration::from_secs(5);
/// Interval of the heartbeat on the listening connection.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Number of missing echoes after which the listener reconnects.
const MAX_MISSING: u64 = 3;
/// The pause between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

const TIME: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// Time until which cached values are fresh. This is [`STALENESS`] after the moment at which this replica sent the last echo that
/// arrived.
#[derive(Debug)]
pub(super) struct Freshness {
    base: Instant,
    /// The time of expiry in milliseconds after `base`.
    until: AtomicU64,
}

impl Freshness {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), until: AtomicU64::new(0) }
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.now() < self.until.load(Ordering::Relaxed)
    }

    /// Returns the current time in milliseconds since `base`.
    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Records that all notices until `time` have arrived. `time` is in milliseconds after `base`.
    fn extend(&self, time: u64) {
        let staleness = u64::try_from(STALENESS.as_millis()).unwrap_or(u64::MAX);
        self.until.fetch_max(time.saturating_add(staleness), Ordering::Relaxed);
    }
}

/// A connection that receives notices.
pub(super) struct Subscription {
    client: Client,
    notifications: mpsc::UnboundedReceiver<Notification>,
    /// Number of echoes that this replica had sent when the connection began to listen. Only later echoes are certain
    /// to arrive.
    sent_before: u64,
    /// The number of the last echo that arrived.
    heard: Option<u64>,
    _driving: AbortOnDropHandle<()>,
}

/// Receives the notices of the other replicas.
pub(super) struct Listener {
    pub(super) connector: Connector,
    /// The pool whose connections send the echoes. The notices of this replica are sent over the same pool.
    pub(super) pool: Pool,
    pub(super) channel: NoticeChannel,
    pub(super) listeners: broadcast::Sender<Change>,
    pub(super) freshness: Arc<Freshness>,
    /// Function that is called with the server's time after each heartbeat.
    pub(super) on_server_time: Box<dyn Fn(Timestamp) + Send + Sync>,
    pub(super) echoes: Echoes,
}

/// The echoes of this replica.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    /// Number of echoes that were sent.
    sent: AtomicU64,
    /// Signal to send an echo now.
    wanted: Notify,
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
        let echoing = async {
            loop {
                // Without an echo, cached values stop being fresh. The next echo may succeed.
                if let Err(fault) = self.send_echo().await {
                    tracing::warn!(?fault, "failed to send a test notification");
                }
                let _ = timeout(HEARTBEAT, self.echoes.wanted.notified()).await;
            }
        };
        stop.run_until_cancelled(future::join(listening, echoing)).await;
    }

    /// Returns the time limit of a heartbeat and of an echo.
    fn heartbeat_timeout(&self) -> Duration {
        self.connector.operation_timeout() / 5
    }

    /// Sends an echo over a pooled connection. After a failure, the next echo has the same number.
    async fn send_echo(&self) -> Result<(), Fault> {
        let sent = self.echoes.sent.load(Ordering::Relaxed);
        let echo = NotificationEcho { number: sent + 1, sent_at: self.freshness.now() };
        let deadline = Instant::now() + self.heartbeat_timeout();
        let send = async { self.channel.send_echo(Session::take(&self.pool, deadline).await?, echo).await };
        timeout_at(deadline, send).await.unwrap_or(Err(Fault::TimedOut))?;
        self.echoes.sent.store(echo.number, Ordering::Relaxed);
        Ok(())
    }

    /// Waits for the first echo, which proves that notices arrive, so that the cache can be used from the start.
    pub(super) async fn prove(&self, subscription: &mut Subscription) {
        let prove = async {
            self.send_echo().await?;
            while !self.freshness.is_fresh() {
                let notification = subscription.notifications.recv().await.ok_or(Fault::Undelivered)?;
                self.receive(&mut subscription.heard, notification.payload())?;
            }
            Ok(())
        };
        if let Err(fault) =
            timeout(self.heartbeat_timeout() * 2, prove).await.unwrap_or(Err(Fault::Undelivered))
        {
            tracing::warn!(
                ?fault,
                "test notification did not arrive: changes of other replicas may be seen late"
            );
        }
    }

    /// Opens a connection that receives notices from now on.
    pub(super) async fn connect(&self) -> Result<Subscription, Fault> {
        let (sender, notifications) = mpsc::unbounded_channel();
        let connect = timeout(self.connector.patience(), self.connector.connect(Some(sender)));
        let (client, driving) = connect.await.map_err(|_| Fault::TimedOut)??;
        let mut subscription =
            Subscription { client, notifications, sent_before: 0, heard: None, _driving: driving };
        let listen = format!("LISTEN \"{}\"", self.channel.name.replace('"', "\"\""));
        let listening = timeout(self.heartbeat_timeout(), subscription.client.batch_execute(&listen));
        listening.await.map_err(|_| Fault::TimedOut)??;
        subscription.sent_before = self.echoes.sent.load(Ordering::Relaxed);
        let locking = timeout(self.heartbeat_timeout() * 2, copy_record::lock_shared(&subscription.client));
        locking.await.map_err(|_| Fault::TimedOut)??;
        Ok(subscription)
    }

    /// Listens until the connection is lost, or until echoes are missing.
    async fn listen(&self, subscription: Option<Subscription>) -> Result<(), Fault> {
        let mut subscription = match subscription {
            Some(subscription) => subscription,
            None => {
                let subscription = self.connect().await?;
                // Notices may have been missed before this connection.
                let _ = self.listeners.send(Change::Everything);
                self.echoes.wanted.notify_one();
                subscription
            }
        };
        loop {
            self.beat(&subscription).await?;
            let heard = subscription.heard.unwrap_or(subscription.sent_before);
            if self.echoes.sent.load(Ordering::Relaxed).saturating_sub(heard) >= MAX_MISSING {
                return Err(Fault::Undelivered);
            }
            let beat = sleep(HEARTBEAT);
            tokio::pin!(beat);
            loop {
                tokio::select! {
                    () = &mut beat => break,
                    notification = subscription.notifications.recv() => match notification {
                        Some(notification) => self.receive(&mut subscription.heard, notification.payload())?,
                        // The connection is closed; the next heartbeat fails.
                        None => break,
                    },
                }
            }
        }
    }

    /// Reads the server's time, which also shows that the connection works.
    pub(super) async fn beat(&self, subscription: &Subscription) -> Result<(), Fault> {
        let asked = Instant::now();
        let time = timeout(self.heartbeat_timeout(), subscription.client.query_one(TIME, &[]));
        let time: i64 = time.await.map_err(|_| Fault::TimedOut)??.try_get(0)?;
        let took = asked.elapsed();
        if took > self.heartbeat_timeout() {
            // The process was suspended, so the answer is outdated. A clock that is set by this answer would be late, and this
            // process would use leases that other replicas have already taken over.
            return Err(Fault::TimedOut);
        }
        (self.on_server_time)(Timestamp::from_millis(time) + took / 2);
        Ok(())
    }

    /// Forwards a change, or records an echo. `heard` is the number of the last echo.
    ///
    /// # Errors
    /// [`Fault::Undelivered`] if an echo is missing, because other notices may be missing too.
    fn receive(&self, heard: &mut Option<u64>, notice: &str) -> Result<(), Fault> {
        if let Some(echo) = self.channel.read_echo(notice) {
            if heard.is_some_and(|heard| echo.number > heard + 1) {
                return Err(Fault::Undelivered);
            }
            *heard = Some(echo.number).max(*heard);
            self.freshness.extend(echo.sent_at);
        } else if let Some(change) = self.channel.read(notice) {
            let _ = self.listeners.send(change);
        }
        Ok(())
    }
}
