//! Opens the store: connects, migrates the schema, and starts the background tasks.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::{Mutex, broadcast};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::scan_limits::{ScanLimits, ScanShares};
use super::super::{CHANGE_BACKLOG, StoreContext, StoreError};
use super::connect::{Connector, password};
use super::fault::Fault;
use super::groups::GroupsByRule;
use super::indexes::INDEXES;
use super::leases::HeldLeases;
use super::listener::{Echoes, Freshness, Listener};
use super::migrations::{self, MIGRATIONS};
use super::notices::{Announcer, NoticeChannel};
use super::requirements::{Examined, examine};
use super::retries::{retry, with_retries};
use super::unsuitable::UnsuitableDatabase;
use super::usage::UsageBuffer;
use super::{PostgresStore, copy_record};
use crate::config::{PostgresUrl, StoreSettings};
use crate::domain::clock::Timestamp;

/// Time limit of the migration. The creation of an index on a large table takes hours, and replicas that start at the same time
/// wait for this migration.
const MIGRATION_TIMEOUT: Duration = Duration::from_hours(6);
/// Maximum number of characters of the schema's name in the channel's name. PostgreSQL limits the channel's name to 63 bytes.
const MAX_SCHEMA_CHARS: usize = 40;

/// Reason why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PostgresOpenError {
    /// The connection URL, the TLS settings or the password file is invalid.
    #[error("{0}")]
    Settings(String),
    /// The database does not have what the gateway needs.
    #[error("{0}")]
    Unsuitable(UnsuitableDatabase),
    /// The database holds an incomplete copy of a `SQLite` file.
    #[error(
        "the copy of a file into the database is not finished: run `alovoice-gateway store copy` again, \
         which continues the copy"
    )]
    UnfinishedCopy,
    /// The schema is older than the schema that this version of the program needs.
    #[error("the schema of the database is older than this version: start a gateway of this version first")]
    TooOld,
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Fault> for PostgresOpenError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unsuitable(unsuitable) => Self::Unsuitable(*unsuitable),
            fault => Self::Store(fault.into()),
        }
    }
}

/// Returns the limits of lists, searches and statistics, which may use a third of the connections. The other connections are for
/// the workers and cheap reads.
const fn scan_shares(max_connections: usize) -> ScanShares {
    let total = if max_connections < 3 { 1 } else { max_connections / 3 };
    ScanShares { total, per_tenant: total.div_ceil(3), waiting: 16 }
}

/// Returns the limits of reads of the feed. An event wakes all streams of its tenant at once, so many reads may wait.
const fn feed_shares(max_connections: usize) -> ScanShares {
    let total = if max_connections < 4 { 1 } else { max_connections / 4 };
    ScanShares { total, per_tenant: total.div_ceil(2), waiting: 100_000 }
}

impl PostgresStore {
    /// Connects, checks the database, migrates the schema, and listens for changes by other replicas. Calls `on_server_time` with
    /// the server's time now and every few seconds. The server's clock decides when leases end, so the clock of
    /// [`StoreContext::env`] should follow the server's clock.
    ///
    /// # Errors
    /// [`PostgresOpenError`] says which step failed.
    pub async fn open(
        url: &PostgresUrl,
        settings: &StoreSettings,
        context: StoreContext,
        on_server_time: impl Fn(Timestamp) + Send + Sync + 'static,
    ) -> Result<Self, PostgresOpenError> {
        let (connector, listening) = connectors(url, settings, context.operation_timeout)?;
        let examine = |_| examine(connector.clone(), listening.clone());
        let Examined { connector, listening, is_current } =
            retry(&context, examination_timeout(context.operation_timeout), "examine", examine).await?;
        let pool = connector.pool(settings.max_connections).map_err(PostgresOpenError::Settings)?;
        let channel = migrate(&context, &pool, &listening, is_current).await?;
        let (listeners, _) = broadcast::channel(CHANGE_BACKLOG);
        let (freshness, stop) = (Arc::new(Freshness::new()), CancellationToken::new());
        let listener = Listener {
            connector: listening,
            pool: pool.clone(),
            channel: channel.clone(),
            listeners: listeners.clone(),
            freshness: freshness.clone(),
            on_server_time: Box::new(on_server_time),
            echoes: Echoes::default(),
        };
        let mut subscription = listener.connect().await.map_err(StoreError::from)?;
        listener.beat(&subscription).await.map_err(StoreError::from)?;
        listener.prove(&mut subscription).await;
        // This check follows `connect`, whose lock prevents a new copy from starting.
        check_copy(&context, &pool).await?;
        tokio::spawn(listener.run(subscription, stop.clone()));
        let announcer = Announcer::start(
            pool.clone(),
            channel.clone(),
            listeners.clone(),
            context.operation_timeout,
            stop.clone(),
        );
        let usage = Arc::new(UsageBuffer::default());
        usage.start(pool.clone(), context.operation_timeout, stop.clone());
        Ok(Self {
            pool,
            channel,
            announcer,
            listeners,
            freshness,
            work: HeldLeases::default(),
            deliveries: HeldLeases::default(),
            cursors: Mutex::default(),
            groups: GroupsByRule::default(),
            usage,
            scans: ScanLimits::new(scan_shares(settings.max_connections), &context),
            feed_scans: ScanLimits::new(feed_shares(settings.max_connections), &context),
            tls: connector.tls(),
            context,
            _stop: stop.drop_guard(),
        })
    }
}

/// Returns the time limit of the checks of the database, which open several connections.
fn examination_timeout(operation_timeout: Duration) -> Duration {
    operation_timeout * 6
}

/// Returns the connectors of `store.url` and of `store.listen_url`.
fn connectors(
    url: &PostgresUrl,
    settings: &StoreSettings,
    operation_timeout: Duration,
) -> Result<(Connector, Option<Connector>), PostgresOpenError> {
    if let Some(path) = &settings.password_file {
        password(path)
            .map_err(|error| PostgresOpenError::Settings(format!("store.password_file: {error}")))?;
    }
    let connector = |setting, url| {
        let connector = Connector::new(url, settings.password_file.as_deref(), operation_timeout);
        connector.map_err(|error| PostgresOpenError::Settings(format!("{setting}: {error}")))
    };
    let listening = settings.listen_url.as_ref().map(|url| connector("store.listen_url", url)).transpose()?;
    Ok((connector("store.url", url)?, listening))
}

/// Migrates the schema unless `is_current` is true. Returns the notice channel of the schema, with a new id for this replica.
async fn migrate(
    context: &StoreContext,
    pool: &Pool,
    listening: &Connector,
    is_current: bool,
) -> Result<NoticeChannel, StoreError> {
    with_retries(context, pool, MIGRATION_TIMEOUT, "migrate", |mut session| async move {
        let names = "SELECT current_schema()::text, replace(gen_random_uuid()::text, '-', ''), \
             current_user::text, current_setting('search_path')";
        let row = session.client()?.query_one(names, &[]).await?;
        drop(session);
        let (schema, origin, role, search_path): (String, String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        if !is_current {
            // A pooler may give each transaction another session, but the migration needs one session.
            let (mut client, _driving) = listening.connect(None).await?;
            let same = "SELECT set_config('role', $1, false), set_config('search_path', $2, false)";
            client.execute(same, &[&role, &search_path]).await?;
            migrations::run(&mut client, &MIGRATIONS, &INDEXES).await?;
        }
        let schema: String = schema.chars().filter(char::is_ascii).take(MAX_SCHEMA_CHARS).collect();
        Ok(NoticeChannel { name: format!("alovoice_gateway.{schema}"), origin })
    })
    .await
}

async fn check_copy(context: &StoreContext, pool: &Pool) -> Result<(), PostgresOpenError> {
    let limit = context.operation_timeout;
    let record = with_retries(context, pool, limit, "check_copy", async |mut session| {
        copy_record::read(session.client()?).await
    })
    .await?;
    if record.is_some_and(|record| !record.is_finished) {
        return Err(PostgresOpenError::UnfinishedCopy);
    }
    Ok(())
}

/// Checks whether [`PostgresStore::open`] would succeed, without changing anything. Returns whether the schema is up to
/// date.
///
/// # Errors
/// The [`PostgresOpenError`] that [`PostgresStore::open`] would return.
pub async fn inspect(url: &PostgresUrl, settings: &StoreSettings) -> Result<bool, PostgresOpenError> {
    let timeout_of_operation = StoreContext::OPERATION_TIMEOUT;
    let (connector, listening) = connectors(url, settings, timeout_of_operation)?;
    let read = async {
        let Examined { connector, is_current, .. } = examine(connector, listening).await?;
        let (client, _driving) = connector.connect(None).await?;
        Ok((is_current, copy_record::read(&client).await?))
    };
    let (is_current, record) =
        timeout(examination_timeout(timeout_of_operation), read).await.unwrap_or(Err(Fault::TimedOut))?;
    if record.is_some_and(|record| !record.is_finished) {
        return Err(PostgresOpenError::UnfinishedCopy);
    }
    Ok(is_current)
}
