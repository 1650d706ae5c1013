//! The record of a copy from a file into the database, and the lock that separates copies from gateways.
//!
//! Each gateway holds the advisory lock in shared mode on its listening connection, and a copy holds it exclusively. So a
//! copy cannot start while a gateway runs, and no gateway can start during a copy. Between the runs of an interrupted copy,
//! the unfinished record (table `gateway_copy`) prevents gateways from starting.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::super::StoreError;
use super::fault::Fault;

/// The record that `store copy` writes to the target database.
pub(in crate::store) struct CopyRecord {
    /// The id of the copy, which the file records too.
    pub(in crate::store) source: String,
    pub(in crate::store) is_finished: bool,
}

/// Acquires the lock of a gateway. No copy can start until the connection ends.
pub(super) async fn lock_shared(client: &Client) -> Result<(), Fault> {
    let lock =
        "SELECT pg_advisory_lock_shared(hashtext('alovoice-gateway work'), hashtext(current_schema()))";
    if try_lock(client, lock).await? {
        return Ok(());
    }
    Err(StoreError::Unavailable("a file is being copied into the database".into()).into())
}

/// Acquires the lock of a copy. No gateway and no other copy can start until the connection ends. Returns whether the lock was
/// acquired.
pub(super) async fn lock_exclusive(client: &Client) -> Result<bool, Fault> {
    let lock = "SELECT pg_advisory_lock(hashtext('alovoice-gateway work'), hashtext(current_schema()))";
    try_lock(client, lock).await
}

/// Tries to get the lock for up to two seconds, because the server may notice late that the previous holder is gone.
async fn try_lock(client: &Client, lock: &str) -> Result<bool, Fault> {
    client.batch_execute("BEGIN; SET LOCAL lock_timeout = '2s'").await?;
    let outcome = client.execute(lock, &[]).await;
    // The lock belongs to the session and not to the transaction.
    client.batch_execute("COMMIT").await?;
    match outcome {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn read(client: &Client) -> Result<Option<CopyRecord>, Fault> {
    // Only the current schema counts: a schema later in the search path may belong to another gateway.
    let table = "SELECT to_regclass(quote_ident(current_schema()) || '.gateway_copy') IS NOT NULL";
    if !client.query_one(table, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let record = client.query_opt("SELECT source, finished_at IS NOT NULL FROM gateway_copy", &[]).await?;
    let read =
        |row: tokio_postgres::Row| Ok(CopyRecord { source: row.try_get(0)?, is_finished: row.try_get(1)? });
    record.map(read).transpose()
}

/// Records that a copy has begun.
pub(super) async fn create(client: &Client, source: &str) -> Result<(), Fault> {
    // The primary key allows one row only.
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS gateway_copy (single boolean PRIMARY KEY DEFAULT true CHECK (single), \
             source text NOT NULL, begun_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz)",
        )
        .await?;
    client.execute("INSERT INTO gateway_copy (source) VALUES ($1)", &[&source]).await?;
    Ok(())
}

/// Records that the copy is finished.
pub(super) async fn finish(client: &Client) -> Result<(), Fault> {
    client.execute("UPDATE gateway_copy SET finished_at = coalesce(finished_at, now())", &[]).await?;
    Ok(())
}
