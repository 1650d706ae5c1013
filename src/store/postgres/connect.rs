//! Connections to the server: the connection URL, the pool, and the time limits.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::{
    Connect, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use secrecy::zeroize::Zeroizing;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use super::fault::Fault;
use super::tls::TlsMode;
use crate::config::PostgresUrl;

/// Time limit of one operation, from the wait for a connection to the commit.
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for getting a free connection and for opening a new one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection counts as lost if the network does not acknowledge its data within this time.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of every session: time limits; no JIT, which costs more than it saves on short statements; and commits
/// that wait for the disk, even if that is not the server's default.
const SESSION: &str = "SET statement_timeout = '8s'; SET lock_timeout = '5s'; SET jit = off; \
     SET idle_in_transaction_session_timeout = '15s'; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// Opens connections to the server.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    password_file: Option<PathBuf>,
}

impl Connector {
    /// Parses the connection URL. The error is a message about `store.url`.
    pub(super) fn new(url: &PostgresUrl, password_file: Option<&Path>) -> Result<Self, String> {
        let (config, tls) = parse(url)?;
        Ok(Self { config, tls: tls.connector()?, password_file: password_file.map(Path::to_owned) })
    }

    /// Creates a pool, which opens connections on demand.
    pub(super) fn pool(&self, max_connections: usize) -> Result<Pool, String> {
        let fast = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(self.config.clone(), self.clone(), fast);
        Pool::builder(manager)
            .max_size(max_connections)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(CONNECT_TIMEOUT),
                create: Some(CONNECT_TIMEOUT),
                recycle: Some(CONNECT_TIMEOUT),
            })
            .build()
            .map_err(|error| error.to_string())
    }

    /// Opens a connection outside of the pool, whose notifications are sent to `notifications`.
    pub(super) async fn listen(
        &self,
        notifications: UnboundedSender<Notification>,
    ) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let (client, mut connection) = self.config().connect(self.tls.clone()).await?;
        let driving = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    // Without a receiver the connection is about to close.
                    let _ = notifications.send(notification);
                }
            }
        });
        client.batch_execute(SESSION).await?;
        Ok((client, driving))
    }

    /// Returns the configuration with the current content of the password file.
    fn config(&self) -> Config {
        let mut config = self.config.clone();
        if let Some(path) = &self.password_file {
            match std::fs::read_to_string(path).map(Zeroizing::new) {
                Ok(password) => {
                    config.password(password.trim_end_matches(['\r', '\n']));
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "failed to read the database password");
                }
            }
        }
        config
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + '_>>
    {
        Box::pin(async {
            let (client, connection) = self.config().connect(self.tls.clone()).await?;
            let driving = tokio::spawn(drive(connection));
            client.batch_execute(SESSION).await?;
            Ok((client, driving))
        })
    }
}

async fn drive<S, T>(connection: Connection<S, T>)
where
    Connection<S, T>: Future<Output = Result<(), tokio_postgres::Error>>,
{
    if let Err(error) = connection.await {
        tracing::warn!(%error, "database connection lost");
    }
}

fn parse(url: &PostgresUrl) -> Result<(Config, TlsMode), String> {
    let url = url.expose();
    let mut stripped = Url::parse(url).map_err(|error| error.to_string())?;
    let (mut mode, mut roots, mut others) = (None, None, Vec::new());
    for (key, value) in stripped.query_pairs() {
        match &*key {
            "sslmode" => mode = Some(value.into_owned()),
            "sslrootcert" => roots = Some(value.into_owned()),
            _ => others.push((key.into_owned(), value.into_owned())),
        }
    }
    stripped.set_query(None);
    if !others.is_empty() {
        stripped.query_pairs_mut().extend_pairs(&others);
    }
    let tls = TlsMode::parse(mode.as_deref(), roots.as_deref())?;
    // The parser decodes percent-encoding, but does not read a plus in the query as a space.
    let text = match stripped.as_str().split_once('?') {
        Some((before, query)) => format!("{before}?{}", query.replace('+', "%20")),
        None => stripped.to_string(),
    };
    let mut config: Config = text.parse().map_err(|error: tokio_postgres::Error| with_source(&error))?;
    config.ssl_mode(tls.mode);
    if config.get_target_session_attrs() == TargetSessionAttrs::Any {
        // During a failover the name may point to a standby, which refuses writes.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if config.get_application_name().is_none() {
        config.application_name("alovoice-gateway");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_))) {
        config.tcp_user_timeout(NETWORK_TIMEOUT).keepalives_idle(Duration::from_secs(30));
    }
    Ok((config, tls))
}

/// Returns the text of the error with its source, which `Display` omits.
fn with_source(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// A pooled connection for one operation. A connection that exceeds its deadline does not return to the pool: the
/// answer to its last statement may never come, and the next operation would wait for that answer.
pub(super) struct Session {
    object: Option<Object>,
    deadline: Instant,
}

impl Session {
    /// Gets a connection from the pool for an operation that is cancelled at `deadline`.
    pub(super) async fn take(pool: &Pool, deadline: Instant) -> Result<Self, PoolError> {
        Ok(Self { object: Some(pool.get().await?), deadline })
    }

    pub(super) fn client(&mut self) -> Result<&mut Object, Fault> {
        self.object.as_mut().ok_or(Fault::TimedOut)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if Instant::now() >= self.deadline
            && let Some(object) = self.object.take()
        {
            drop(Object::take(object));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    fn read(url: &str) -> Result<(Config, TlsMode), String> {
        parse(&PostgresUrl::from(url.to_owned()))
    }

    #[test]
    fn a_url_is_parsed_with_the_tls_parameters_of_libpq() {
        let (config, tls) =
            read("postgres://gateway:p%40ss@db.internal:6432/calls?sslmode=verify-full&sslrootcert=/ca.pem&options=-csearch_path%3Dx")
                .unwrap();
        assert_eq!(config.get_user(), Some("gateway"));
        assert_eq!(config.get_password(), Some(&b"p@ss"[..]));
        assert_eq!(config.get_dbname(), Some("calls"));
        assert_eq!(config.get_ports(), [6432]);
        assert_eq!(config.get_options(), Some("-csearch_path=x"));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        assert_eq!(tls, TlsMode::parse(Some("verify-full"), Some("/ca.pem")).unwrap());
    }

    #[test]
    fn a_plus_means_a_space_only_in_the_query() {
        let (config, _) = read("postgres://a+b:c+d@db/e+f?application_name=g+h").unwrap();
        assert_eq!(config.get_user(), Some("a+b"));
        assert_eq!(config.get_password(), Some(&b"c+d"[..]));
        assert_eq!(config.get_dbname(), Some("e+f"));
        assert_eq!(config.get_application_name(), Some("g h"));
    }

    #[test]
    fn unknown_parameters_are_rejected() {
        assert!(read("postgres://db/x?sslmode=maybe").unwrap_err().contains("verify-full"));
        assert!(read("postgres://db/x?colour=red").unwrap_err().contains("colour"));
    }
}
