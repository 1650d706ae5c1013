//! Opens the store: connects, migrates the schema, and starts the background tasks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::{Mutex, broadcast};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::super::{CHANGE_BACKLOG, StoreContext, StoreError};
use super::connect::{Connector, OPERATION_TIMEOUT, Session};
use super::fault::Fault;
use super::leases::HeldLeases;
use super::listener::{Freshness, Listener};
use super::migrations::{self, MIGRATIONS};
use super::notices::{Announcer, NoticeChannel};
use super::retries::with_retries;
use super::usage::UsageBuffer;
use super::{PostgresStore, copy_record};
use crate::config::{PostgresUrl, StoreSettings};
use crate::domain::clock::Timestamp;

/// Time limit of the migration. An index on a large table takes hours, and replicas that start at the same time wait
/// for it.
const MIGRATION_TIMEOUT: Duration = Duration::from_hours(6);
/// Number of characters of the schema's name in the channel's name. PostgreSQL limits the channel's name to 63 bytes.
const MAX_SCHEMA_CHARS: usize = 40;

/// Reason why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PostgresOpenError {
    /// The connection URL or the TLS settings are invalid.
    #[error("store.url: {0}")]
    Settings(String),
    /// The database holds an incomplete copy of a file.
    #[error(
        "the copy of a file into the database is not finished: run `alovoice-gateway store copy` again, \
         which continues the copy"
    )]
    UnfinishedCopy,
    /// The schema is older than this version of the program.
    #[error("the schema of the database is older than this version: start a gateway of this version first")]
    TooOld,
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PostgresStore {
    /// Connects, migrates the schema, and listens for changes by other replicas. `on_server_time` is called with the
    /// server's time now and every few seconds. Leases end by the server's clock, so the clock of
    /// [`StoreContext::env`] should follow it.
    ///
    /// # Errors
    /// [`PostgresOpenError`] says which step failed.
    pub async fn open(
        url: &PostgresUrl,
        settings: &StoreSettings,
        context: StoreContext,
        on_server_time: impl Fn(Timestamp) + Send + Sync + 'static,
    ) -> Result<Self, PostgresOpenError> {
        let connector = connector(url, settings.password_file.as_deref())?;
        let pool = connector.pool(settings.max_connections).map_err(PostgresOpenError::Settings)?;
        let channel = migrate(&context, &pool).await?;
        let (listeners, _) = broadcast::channel(CHANGE_BACKLOG);
        let (freshness, stop) = (Arc::new(Freshness::new()), CancellationToken::new());
        let listener = Listener {
            connector,
            channel: channel.clone(),
            listeners: listeners.clone(),
            freshness: freshness.clone(),
            on_server_time: Box::new(on_server_time),
        };
        let subscription = listener.connect().await.map_err(StoreError::from)?;
        listener.beat(&subscription).await.map_err(StoreError::from)?;
        // This check follows `connect`, whose lock prevents a new copy from starting.
        check_copy(&context, &pool).await?;
        tokio::spawn(listener.run(subscription, stop.clone()));
        let announcer = Announcer::start(pool.clone(), channel.clone(), listeners.clone(), stop.clone());
        let usage = Arc::new(UsageBuffer::default());
        usage.start(pool.clone(), stop.clone());
        Ok(Self {
            pool,
            channel,
            announcer,
            listeners,
            freshness,
            work: HeldLeases::default(),
            deliveries: HeldLeases::default(),
            cursors: Mutex::default(),
            usage,
            context,
            _stop: stop.drop_guard(),
        })
    }
}

fn connector(url: &PostgresUrl, password_file: Option<&Path>) -> Result<Connector, PostgresOpenError> {
    Connector::new(url, password_file).map_err(PostgresOpenError::Settings)
}

/// Migrates the schema. Returns the schema's channel, with a new id for this replica.
async fn migrate(context: &StoreContext, pool: &Pool) -> Result<NoticeChannel, StoreError> {
    with_retries(&context.env, pool, MIGRATION_TIMEOUT, "migrate", |mut session| async move {
        let client = session.client()?;
        migrations::take_steps(client, &MIGRATIONS).await?;
        let names = "SELECT current_schema()::text, replace(gen_random_uuid()::text, '-', '')";
        let row = client.query_one(names, &[]).await?;
        let (schema, origin): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let schema: String = schema.chars().filter(char::is_ascii).take(MAX_SCHEMA_CHARS).collect();
        Ok(NoticeChannel { name: format!("alovoice_gateway.{schema}"), origin })
    })
    .await
}

async fn check_copy(context: &StoreContext, pool: &Pool) -> Result<(), PostgresOpenError> {
    let record = with_retries(&context.env, pool, OPERATION_TIMEOUT, "check_copy", async |mut session| {
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
/// The [`PostgresOpenError`] that opening would fail with.
pub async fn inspect(url: &PostgresUrl, settings: &StoreSettings) -> Result<bool, PostgresOpenError> {
    let connector = connector(url, settings.password_file.as_deref())?;
    let pool = connector.pool(1).map_err(PostgresOpenError::Settings)?;
    let deadline = Instant::now() + OPERATION_TIMEOUT;
    let read = async {
        let mut session = Session::take(&pool, deadline).await?;
        let client = session.client()?;
        let is_current = migrations::inspect(client).await?;
        Ok((is_current, copy_record::read(client).await?))
    };
    let (is_current, record) =
        timeout_at(deadline, read).await.unwrap_or(Err(Fault::TimedOut)).map_err(StoreError::from)?;
    if record.is_some_and(|record| !record.is_finished) {
        return Err(PostgresOpenError::UnfinishedCopy);
    }
    Ok(is_current)
}
