//! Indexes of tables that may be large.
//!
//! A step of the schema creates an index only on a table that the same step creates, because creating the index of a large table
//! takes long, and `CREATE INDEX` blocks writes to the table until the index is complete. All other indexes are in [`INDEXES`].
//! Each start of the gateway creates the missing ones with `CREATE INDEX CONCURRENTLY`, which does not block reads or writes. If
//! that statement is interrupted, PostgreSQL leaves an invalid index. The next start drops this index and creates it again.
//!
//! Every version creates the indexes of its own list. If a version no longer lists an index, the next version drops that index in
//! a step of the schema.

use tokio_postgres::{Client, GenericClient};

use super::super::selection::is_limited;
use super::fault::Fault;

/// An index that is created while replicas write to its table.
#[derive(Debug, Clone, Copy)]
pub struct ConcurrentIndex {
    /// Name of the index. A change of the definition needs a new name.
    pub name: &'static str,
    /// The rest of the statement after `ON`: table, columns and condition.
    pub definition: &'static str,
}

/// The indexes that this version needs.
pub const INDEXES: [ConcurrentIndex; 3] = [
    // Lists that search, or filter by tags or by the status `completed`, examine only analyses that have a result. The other
    // columns are part of the index so that PostgreSQL reads no rows of the table.
    ConcurrentIndex {
        name: "analyses_with_result",
        definition: "analyses (tenant, submitted_at, call_id) INCLUDE (id, revision) WHERE revision > 0",
    },
    // Finds the analyses whose attributes are missing, because an earlier version inserted them.
    ConcurrentIndex {
        name: "analyses_without_attributes",
        definition: "analyses (id) WHERE call_facts IS NULL AND metadata <> '{}'",
    },
    // Every claim of deliveries reads the webhooks that are disabled or paused, or that may have a rate. It replaces
    // `webhooks_shut`, which the previous version needs.
    ConcurrentIndex {
        name: "webhooks_limited",
        definition: concat!("webhooks (tenant) WHERE ", is_limited!()),
    },
];

/// Reads whether the index with this name is valid. Returns no row if there is no such index. Parameter: the name.
const IS_VALID: &str = "SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid \
     WHERE relname = $1 AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())";

/// Returns whether all indexes are complete. The transaction of the caller may be read-only.
pub(super) async fn are_complete(
    client: &impl GenericClient,
    indexes: &[ConcurrentIndex],
) -> Result<bool, Fault> {
    for index in indexes {
        if is_valid(client, index).await? != Some(true) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Creates the indexes that are missing or invalid. The caller prevents other replicas from doing the same. The session must have
/// no time limits: the creation of an index waits for the end of all older transactions.
pub(super) async fn create_missing(client: &Client, indexes: &[ConcurrentIndex]) -> Result<(), Fault> {
    for index in indexes {
        let name = index.name;
        match is_valid(client, index).await? {
            Some(true) => continue,
            Some(false) => client.batch_execute(&format!("DROP INDEX CONCURRENTLY {name}")).await?,
            None => {}
        }
        tracing::info!(index = name, "index creation started");
        client.batch_execute(&format!("CREATE INDEX CONCURRENTLY {name} ON {}", index.definition)).await?;
        tracing::info!(index = name, "index creation finished");
    }
    Ok(())
}

async fn is_valid(client: &impl GenericClient, index: &ConcurrentIndex) -> Result<Option<bool>, Fault> {
    let row = client.query_opt(IS_VALID, &[&index.name]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::super::migrations::MIGRATIONS;

    #[test]
    fn steps_create_indexes_only_on_tables_that_they_create() {
        for step in MIGRATIONS {
            let indexes =
                step.sql.lines().filter(|line| line.starts_with("CREATE") && line.contains(" INDEX "));
            for line in indexes {
                let (_, definition) = line.split_once(" ON ").unwrap();
                let table = definition.split(' ').next().unwrap();
                assert!(step.sql.contains(&format!("CREATE TABLE {table} (")), "{line}");
            }
        }
    }
}
