//! Migrations of the schema.
//!
//! Steps run under an advisory lock, so that replicas that start together run each step once. A step only adds to the
//! schema (expand). A later step removes superfluous parts (contract), after the last replica of the previous version
//! has ended. The table `gateway_schema` holds the oldest version of the program that can work with the schema.

use tokio_postgres::{Client, Transaction};

use super::super::StoreError;
use super::fault::Fault;

/// One step of the migration of the schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Statements of the step.
    pub sql: &'static str,
    /// Oldest schema version whose programs can work with the schema after the step.
    pub compatible_from: i32,
}

/// The steps from an empty database to the current schema. The number of steps is the program's schema version.
/// Append only: a released step never changes. Each step has a counterpart in `sqlite/file.rs`.
pub const MIGRATIONS: [Migration; 5] = [
    Migration { sql: include_str!("schema.sql"), compatible_from: 1 },
    Migration { sql: include_str!("0002.sql"), compatible_from: 1 },
    Migration { sql: include_str!("0003.sql"), compatible_from: 1 },
    Migration { sql: include_str!("0004.sql"), compatible_from: 1 },
    Migration { sql: include_str!("0005.sql"), compatible_from: 1 },
];

/// The name of the lock contains the schema's name, so that two gateways in one database have different locks.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtext('alovoice-gateway schema'), hashtext(current_schema()))";

const TABLE: &str = "CREATE TABLE IF NOT EXISTS gateway_schema \
     (version integer PRIMARY KEY, compatible_from integer NOT NULL, taken_at timestamptz NOT NULL DEFAULT now())";

/// The schema versions that the database records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct SchemaVersion {
    version: usize,
    compatible_from: usize,
}

/// Runs the missing steps, each in its own transaction, so that a step's locks end before the next step begins.
pub(super) async fn take_steps(client: &mut Client, steps: &[Migration]) -> Result<(), Fault> {
    while take_step(client, steps).await? {}
    Ok(())
}

/// Runs the steps that the database has not run yet. [`PostgresStore::open`](super::PostgresStore::open) runs
/// [`MIGRATIONS`]; tests run steps of later versions.
///
/// # Errors
/// If a step fails, which then has no effect, or if the schema is too new for these steps.
pub async fn migrate(client: &mut Client, steps: &[Migration]) -> Result<(), StoreError> {
    Ok(take_steps(client, steps).await?)
}

/// Runs the next step of the migration. Returns whether a step was missing.
async fn take_step(client: &mut Client, steps: &[Migration]) -> Result<bool, Fault> {
    let transaction = client.transaction().await?;
    // A step on a large table may take long, and other replicas wait for it.
    transaction.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL client_min_messages = warning").await?;
    transaction.execute(LOCK, &[]).await?;
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
    Ok(found.version >= MIGRATIONS.len())
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
