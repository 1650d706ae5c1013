//! Migrations of the schema.
//!
//! One replica at a time migrates, under an advisory lock, so that replicas that start together run each step once. A step only
//! adds to the schema (expand). A later step removes superfluous parts (contract), after the last replica of the previous version
//! has ended. The table `gateway_schema` holds the oldest version of the program that can work with the schema.
//!
//! Replicas of the previous version serve requests during a migration. A step needs the lock of each table that it changes, and
//! every statement of the replicas queues behind a step that waits for a lock. So a step gives up after [`LOCK_TIMEOUT`], for
//! example while a backup reads the table, and is repeated after [`LOCK_PAUSE`]. Indexes of existing tables are created after the
//! steps, without a lock that blocks writes: see [`super::indexes`].

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::{Client, Transaction};

use super::super::StoreError;
use super::fault::Fault;
use super::indexes::{self, ConcurrentIndex, INDEXES};

/// One step of the migration of the schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Statements of the step.
    pub sql: &'static str,
    /// Schema version of the oldest program that can work with the schema after the step.
    pub compatible_from: i32,
}

/// The steps from an empty database to the current schema. The number of steps is the program's schema version.
/// Append only: a released step never changes. Each step has a counterpart in `sqlite/file.rs`.
pub const MIGRATIONS: [Migration; 6] = [
    Migration { sql: include_str!("schema.sql"), compatible_from: 1 },
    Migration { sql: include_str!("0002.sql"), compatible_from: 1 },
    Migration { sql: include_str!("0003.sql"), compatible_from: 1 },
    Migration { sql: include_str!("0004.sql"), compatible_from: 1 },
    Migration { sql: include_str!("0005.sql"), compatible_from: 1 },
    Migration { sql: include_str!("0006.sql"), compatible_from: 1 },
];

/// The name of the lock contains the schema's name, so that two gateways in one database have different locks.
const TRY_LOCK: &str =
    "SELECT pg_try_advisory_lock(hashtext('alovoice-gateway schema'), hashtext(current_schema()))";

const UNLOCK: &str =
    "SELECT pg_advisory_unlock(hashtext('alovoice-gateway schema'), hashtext(current_schema()))";

/// Interval between two attempts to get the lock. A statement that waited for the lock would keep a snapshot, and
/// `CREATE INDEX CONCURRENTLY`, which runs under the lock, waits for all older snapshots.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// Maximum time that a step waits for the lock of a table.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause before a step that did not get the lock of a table is repeated. Replicas run their statements during the pause.
const LOCK_PAUSE: Duration = Duration::from_secs(2);

const TABLE: &str = "CREATE TABLE IF NOT EXISTS gateway_schema \
     (version integer PRIMARY KEY, compatible_from integer NOT NULL, taken_at timestamptz NOT NULL DEFAULT now())";

/// The schema versions that the database records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct SchemaVersion {
    version: usize,
    compatible_from: usize,
}

/// Runs the steps that the database has not run yet, and creates the missing indexes.
/// [`PostgresStore::open`](super::PostgresStore::open) uses [`MIGRATIONS`] and [`INDEXES`]. Tests use the steps and the indexes
/// of later versions. The connection must have its own session. The function removes the time limits of this session.
///
/// # Errors
/// [`StoreError`] if a step fails, or if the schema is too new for these steps. A step that fails has no effect.
pub async fn migrate(
    client: &mut Client,
    steps: &[Migration],
    indexes: &[ConcurrentIndex],
) -> Result<(), StoreError> {
    Ok(run(client, steps, indexes).await?)
}

pub(super) async fn run(
    client: &mut Client,
    steps: &[Migration],
    indexes: &[ConcurrentIndex],
) -> Result<(), Fault> {
    // A step or an index of a large table may take long.
    let session = "SET statement_timeout = 0; SET lock_timeout = 0; SET client_min_messages = warning";
    client.batch_execute(session).await?;
    lock(client).await?;
    let outcome = run_locked(client, steps, indexes).await;
    // After a failure the connection may be lost, and the lock with it.
    let unlocked = client.batch_execute(UNLOCK).await;
    outcome?;
    Ok(unlocked?)
}

/// Waits until no other replica migrates.
async fn lock(client: &Client) -> Result<(), Fault> {
    let mut is_logged = false;
    while !client.query_one(TRY_LOCK, &[]).await?.try_get::<_, bool>(0)? {
        if !is_logged {
            tracing::info!("waiting: another gateway is updating the schema");
            is_logged = true;
        }
        sleep(LOCK_INTERVAL).await;
    }
    Ok(())
}

async fn run_locked(
    client: &mut Client,
    steps: &[Migration],
    indexes: &[ConcurrentIndex],
) -> Result<(), Fault> {
    while take_step(client, steps).await? {}
    indexes::create_missing(client, indexes).await
}

/// Runs the next step of the migration, and repeats the step while other transactions lock its tables. Returns `false` if the
/// schema already has all steps.
async fn take_step(client: &mut Client, steps: &[Migration]) -> Result<bool, Fault> {
    let mut is_logged = false;
    loop {
        match try_step(client, steps).await {
            Err(fault) if fault.is_blocked() => {
                if !is_logged {
                    tracing::warn!(error = %fault, "schema update waits for other transactions");
                    is_logged = true;
                }
                sleep(LOCK_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Runs the next step in its own transaction, so that the locks of the step end before the next step begins.
async fn try_step(client: &mut Client, steps: &[Migration]) -> Result<bool, Fault> {
    let transaction = client.transaction().await?;
    let limit = format!("SET LOCAL lock_timeout = {}", LOCK_TIMEOUT.as_millis());
    transaction.batch_execute(&limit).await?;
    transaction.batch_execute(TABLE).await?;
    let found = found(&transaction).await?;
    check(found, steps)?;
    let missing = steps.get(found.version);
    if let Some(step) = missing {
        transaction.batch_execute(step.sql).await?;
        let version = i32::try_from(found.version + 1).unwrap_or(i32::MAX);
        transaction
            .execute(
                "INSERT INTO gateway_schema (version, compatible_from) VALUES ($1, $2)",
                &[&version, &step.compatible_from],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(missing.is_some())
}

/// Checks whether [`migrate`] would succeed, without changing anything. Returns whether the schema is up to date.
pub(super) async fn inspect(client: &mut Client) -> Result<bool, Fault> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    let table: Option<String> =
        transaction.query_one("SELECT to_regclass('gateway_schema')::text", &[]).await?.try_get(0)?;
    let found = if table.is_some() { found(&transaction).await? } else { SchemaVersion::default() };
    check(found, &MIGRATIONS)?;
    Ok(found.version >= MIGRATIONS.len() && indexes::are_complete(&transaction, &INDEXES).await?)
}

async fn found(transaction: &Transaction<'_>) -> Result<SchemaVersion, Fault> {
    let row = transaction
        .query_one(
            "SELECT coalesce(max(version), 0)::bigint, coalesce(max(compatible_from), 0)::bigint FROM gateway_schema",
            &[],
        )
        .await?;
    let count = |index| -> Result<usize, Fault> {
        Ok(usize::try_from(row.try_get::<_, i64>(index)?).unwrap_or(usize::MAX))
    };
    Ok(SchemaVersion { version: count(0)?, compatible_from: count(1)? })
}

fn check(found: SchemaVersion, steps: &[Migration]) -> Result<(), Fault> {
    if found.compatible_from > steps.len() {
        let (version, known) = (found.version, steps.len());
        let message = format!(
            "the database has schema version {version}, this program supports versions up to {known}"
        );
        return Err(StoreError::Corrupt(message).into());
    }
    Ok(())
}
