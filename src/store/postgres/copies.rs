//! Files that are copied into the database: what is noted of it, and who keeps out meanwhile.
//!
//! A gateway holds a lock that it shares with its like, on the connection that listens; a copy takes the same lock for
//! itself alone. So a copy does not begin under a gateway, nor a gateway under a copy; and between the runs of a copy
//! that was interrupted, the note keeps gateways out.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::super::StoreError;
use super::fault::Fault;

/// What the database says of the file that it is a copy of.
pub(in crate::store) struct Note {
    /// The id that the file was given.
    pub(in crate::store) source: String,
    pub(in crate::store) is_finished: bool,
}

/// Keeps copies out for as long as the connection lives.
pub(super) async fn keep_out(client: &Client) -> Result<(), Fault> {
    let lock =
        "SELECT pg_advisory_lock_shared(hashtext('alovoice-gateway work'), hashtext(current_schema()))";
    if is_had(client, lock).await? {
        return Ok(());
    }
    Err(StoreError::Unavailable("a file is being copied into the database".into()).into())
}

/// Keeps gateways and other copies out for as long as the connection lives; whether that could be had.
pub(super) async fn take(client: &Client) -> Result<bool, Fault> {
    let lock = "SELECT pg_advisory_lock(hashtext('alovoice-gateway work'), hashtext(current_schema()))";
    is_had(client, lock).await
}

/// Waits a moment: the server may not have noticed yet that the last to hold the lock is gone.
async fn is_had(client: &Client, lock: &str) -> Result<bool, Fault> {
    client.batch_execute("SET lock_timeout = '2s'").await?;
    let outcome = client.execute(lock, &[]).await;
    client.batch_execute("SET lock_timeout = '5s'").await?;
    match outcome {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn note(client: &Client) -> Result<Option<Note>, Fault> {
    // Another gateway's, in a schema that is searched later, is not ours.
    let table = "SELECT to_regclass(quote_ident(current_schema()) || '.gateway_copy') IS NOT NULL";
    if !client.query_one(table, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let note = client.query_opt("SELECT source, finished_at IS NOT NULL FROM gateway_copy", &[]).await?;
    let read = |row: tokio_postgres::Row| Ok(Note { source: row.try_get(0)?, is_finished: row.try_get(1)? });
    note.map(read).transpose()
}

pub(super) async fn set_note(client: &Client, source: &str) -> Result<(), Fault> {
    // One row at most, whoever writes it.
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS gateway_copy (single boolean PRIMARY KEY DEFAULT true CHECK (single), \
             source text NOT NULL, begun_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz)",
        )
        .await?;
    client.execute("INSERT INTO gateway_copy (source) VALUES ($1)", &[&source]).await?;
    Ok(())
}

pub(super) async fn finish_note(client: &Client) -> Result<(), Fault> {
    client.execute("UPDATE gateway_copy SET finished_at = coalesce(finished_at, now())", &[]).await?;
    Ok(())
}
