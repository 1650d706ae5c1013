//! Connections to the servers: the pool, the time limits, and failover between several servers.

use std::fmt;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    Connect, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use secrecy::zeroize::Zeroizing;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::{AsyncMessage, Client, Config, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::fault::{ConnectError, Fault};
use super::parameters::{DatabaseServer, Parameters};
use crate::config::PostgresUrl;
use crate::domain::clock::{Entropy, SystemEntropy};
use crate::domain::secrets::check_visible;
use crate::secrets::trimmed;

/// Returns the statements that set up a session. The statements set time limits and turn off JIT, which costs more than it saves
/// on short statements. Commits wait for the disk, even if the server's default differs.
fn session(operation_timeout: Duration) -> String {
    let (limits, idle) = (time_limits("SET", operation_timeout), (operation_timeout * 3 / 2).as_millis());
    format!(
        "{limits}; SET jit = off; SET idle_in_transaction_session_timeout = {idle}; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
}

/// Returns the statements that limit statements and waits for locks. `set` is `SET` or `SET LOCAL`. The server gives up before the
/// client, which waits for `operation_timeout`.
pub(super) fn time_limits(set: &str, operation_timeout: Duration) -> String {
    let [statement, lock] = [operation_timeout * 4 / 5, operation_timeout / 2].map(|limit| limit.as_millis());
    format!("{set} statement_timeout = {statement}; {set} lock_timeout = {lock}")
}

/// Opens connections to the first server that can be written to.
#[derive(Clone)]
pub(super) struct Connector {
    base: Config,
    servers: Arc<[DatabaseServer]>,
    /// The index of the server to try first. This is the server that accepted the last connection. If a server has failed, this
    /// is the next server.
    first: Arc<AtomicUsize>,
    tls: MakeRustlsConnect,
    password_file: Option<PathBuf>,
    /// The statements that set up a session. Empty if a pooler shares the sessions among its clients.
    session: Arc<str>,
    operation_timeout: Duration,
}

impl Connector {
    /// Parses the connection URL. The error is a message for the operator.
    pub(super) fn new(
        url: &PostgresUrl,
        password_file: Option<&Path>,
        operation_timeout: Duration,
    ) -> Result<Self, String> {
        let Parameters { base, servers, is_balanced, tls } = Parameters::parse(url)?;
        let first = if is_balanced { SystemEntropy.fraction() * servers.len() as f64 } else { 0.0 };
        Ok(Self {
            base,
            servers: servers.into(),
            first: Arc::new(AtomicUsize::new(first as usize)),
            tls: tls.connector()?,
            password_file: password_file.map(Path::to_owned),
            session: session(operation_timeout).into(),
            operation_timeout,
        })
    }

    /// Returns a connector that does not set up sessions, for a pooler that gives each transaction another session.
    pub(super) fn without_sessions(self) -> Self {
        Self { session: "".into(), ..self }
    }

    /// Returns the TLS settings of connections.
    pub(super) fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }

    /// Creates a pool, which opens connections on demand.
    pub(super) fn pool(&self, max_connections: usize) -> Result<Pool, String> {
        let fast = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(self.base.clone(), self.clone(), fast);
        Pool::builder(manager)
            .max_size(max_connections)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(self.connect_timeout()),
                create: Some(self.patience()),
                recycle: Some(self.connect_timeout()),
            })
            .build()
            .map_err(|error| error.to_string())
    }

    /// Returns the time limit of one operation.
    pub(super) const fn operation_timeout(&self) -> Duration {
        self.operation_timeout
    }

    /// Returns the time limit of the wait for a free connection. The same limit applies to connecting to one server.
    fn connect_timeout(&self) -> Duration {
        self.operation_timeout / 2
    }

    /// Returns the time limit for opening a connection: enough to try each server once, but at most the time limit of one
    /// operation.
    pub(super) fn patience(&self) -> Duration {
        let servers = u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        self.connect_timeout().saturating_mul(servers).min(self.operation_timeout)
    }

    /// Opens a connection, whose notifications are sent to `notifications`. Tries each server once.
    pub(super) async fn connect(
        &self,
        notifications: Option<UnboundedSender<Notification>>,
    ) -> Result<(Client, AbortOnDropHandle<()>), ConnectError> {
        let count = self.servers.len();
        let first = self.first.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for index in (first..first + count).map(|index| index % count) {
            let server = &self.servers[index];
            let attempt = timeout(self.connect_timeout(), self.connect_to(server, notifications.clone()));
            let failure = match attempt.await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => Some(error),
                Err(_) => None,
            };
            // The next call begins with the next server, even if the caller cancels this one.
            let next = (index + 1) % count;
            let _ = self.first.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
            failures.push((server.to_string(), failure));
        }
        Err(ConnectError(failures))
    }

    async fn connect_to(
        &self,
        server: &DatabaseServer,
        notifications: Option<UnboundedSender<Notification>>,
    ) -> Result<(Client, AbortOnDropHandle<()>), tokio_postgres::Error> {
        let mut config = server.configure(&self.base);
        self.read_password(&mut config);
        let (client, mut connection) = config.connect(self.tls.clone()).await?;
        let driving = tokio::spawn(async move {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(notification))) => {
                        // If there is no receiver, the connection is about to close.
                        let _ = notifications.as_ref().map(|receiver| receiver.send(notification));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return tracing::warn!(%error, "database connection lost"),
                    None => return,
                }
            }
        });
        let driving = AbortOnDropHandle::new(driving);
        if !self.session.is_empty() {
            client.batch_execute(&self.session).await?;
        }
        Ok((client, driving))
    }

    /// Sets the password to the current content of the password file.
    fn read_password(&self, config: &mut Config) {
        let Some(path) = &self.password_file else { return };
        match password(path) {
            Ok(password) => {
                config.password(password.as_str());
            }
            Err(error) => tracing::error!(error, "failed to read the database password"),
        }
    }
}

/// Reads the password in a file. A byte order mark and the line break at the end are not part of the password. The error is a
/// message for the operator.
pub(super) fn password(path: &Path) -> Result<Zeroizing<String>, String> {
    let content = std::fs::read(path).map(Zeroizing::new);
    let content = content.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let unusable = |reason: &dyn fmt::Display| format!("the password in {} {reason}", path.display());
    let text = std::str::from_utf8(trimmed(&content)).map_err(|_| unusable(&"is not valid UTF-8"))?;
    check_visible(text).map_err(|reason| unusable(&reason))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(unusable(&"is empty")),
        password => Ok(password.to_owned().into()),
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + '_>>
    {
        Box::pin(async {
            let error = match self.connect(None).await {
                Ok((client, driving)) => return Ok((client, driving.detach())),
                Err(error) => error,
            };
            if self.servers.len() > 1 {
                tracing::warn!(%error, "no database server accepts connections");
            }
            match error.0.into_iter().rev().find_map(|(_, error)| error) {
                Some(error) => Err(error),
                // Every server exceeded its time limit. The time limit of the pool ends this wait.
                None => std::future::pending().await,
            }
        })
    }
}

/// A connection that is kept after the end of the session that used it.
pub(super) type ReturnedConnection = Arc<Mutex<Option<Object>>>;

/// A pooled connection for one operation. A connection that exceeds its deadline does not return to the pool: the answer to
/// its last statement may never come, and the next operation would wait for that answer.
pub(super) struct Session {
    object: Option<Object>,
    deadline: Instant,
    /// Receives the connection at the end of this session, if the connection does not return to the pool at once.
    returned: Option<ReturnedConnection>,
}

impl Session {
    /// Takes a connection for an operation that is cancelled at `deadline`.
    pub(super) async fn take(pool: &Pool, deadline: Instant) -> Result<Self, PoolError> {
        Ok(Self { object: Some(pool.get().await?), deadline, returned: None })
    }

    /// Keeps the connection after the end of the session. The connection returns to the pool when the returned value is
    /// dropped.
    pub(super) fn keep_connection(&mut self) -> ReturnedConnection {
        Arc::clone(self.returned.get_or_insert_default())
    }

    pub(super) fn client(&mut self) -> Result<&mut Object, Fault> {
        self.object.as_mut().ok_or(Fault::TimedOut)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(returned) = &self.returned {
            *returned.lock().unwrap_or_else(PoisonError::into_inner) = self.object.take();
        } else if Instant::now() >= self.deadline
            && let Some(object) = self.object.take()
        {
            drop(Object::take(object));
        }
    }
}
