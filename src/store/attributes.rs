//! Attributes of analyses. Lists find analyses by their attributes ([`domain::attributes`](crate::domain::attributes)).
//!
//! Each attribute has a copy of the list position of its analysis, so that an index on name, value and position finds a page of
//! calls without reading other calls. The position changes only when a clock is corrected. A trigger in the database then also
//! changes the attributes, because a replica of an earlier version does not know them.

use async_trait::async_trait;

use super::StoreError;
use super::engine::Engine;
use super::rules::{Rule, Transaction};
use super::sql::{Sql, sql};
use super::unreadable::skip;
use super::values::{Row, Value, json, values};
use crate::domain::analysis::{Analysis, Metadata};
use crate::domain::attributes::Attribute;
use crate::domain::call_facts::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;

/// Adds attributes to analyses that earlier versions of the program inserted.
#[async_trait]
pub trait AttributeStore: Send + Sync {
    /// Writes the missing attributes of up to `limit` analyses that an earlier version of the program inserted. Returns the
    /// number of these analyses. A number below `limit` means that no such analyses are left.
    async fn index_attributes_across_tenants(&self, limit: usize) -> Result<usize, StoreError>;
}

#[async_trait]
impl<E: Engine> AttributeStore for E {
    async fn index_attributes_across_tenants(&self, limit: usize) -> Result<usize, StoreError> {
        self.transact(IndexAttributes { limit }).await
    }
}

/// Returns SQL that reads a JSON array of pairs as rows with the columns `name` and `value`. `$parameter` is the placeholder of
/// the array.
macro_rules! pairs {
    (sqlite $parameter:literal) => {
        concat!("(SELECT value ->> 0 AS name, value ->> 1 AS value FROM json_each(", $parameter, ")) AS item")
    };
    (postgres $parameter:literal) => {
        concat!(
            "(SELECT pair ->> 0 AS name, pair ->> 1 AS value FROM json_array_elements(CAST(CAST(",
            $parameter,
            " AS text) AS json)) AS pair) AS item"
        )
    };
}

const ADD: &str = "INSERT INTO attributes (analysis, tenant, call_id, submitted_at, name, value) \
     SELECT CAST(?1 AS bigint), CAST(?2 AS text), CAST(?3 AS text), CAST(?4 AS bigint), item.name, item.value FROM ";

/// Adds attributes to an analysis. Parameters: the row, the tenant, the call, the time of submission and the attributes as JSON.
/// `WHERE TRUE` tells `SQLite` that `ON CONFLICT` is not part of a join.
static ADD_ALL: Sql = Sql::per_engine(
    &[ADD, pairs!(sqlite "?5"), " WHERE TRUE ON CONFLICT DO NOTHING"],
    &[ADD, pairs!(postgres "?5"), " WHERE TRUE ON CONFLICT DO NOTHING"],
);

/// Returns attributes as a JSON array of pairs. No attribute contains NUL, which PostgreSQL could not read from JSON.
pub(super) fn to_json(attributes: &[Attribute]) -> Result<String, StoreError> {
    let pairs: Vec<_> = attributes.iter().map(|attribute| (attribute.name(), attribute.value())).collect();
    json(&pairs)
}

/// Writes the attributes of new analyses.
pub(super) async fn add(
    transaction: &impl Transaction,
    analyses: &[(i64, &Analysis)],
) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    for (row, analysis) in analyses {
        let attributes = Attribute::of(analysis);
        if !attributes.is_empty() {
            let Analysis { tenant, call_id, submitted_at, .. } = analysis;
            let attributes = to_json(&attributes)?;
            let row =
                [Value::from(*row), tenant.into(), call_id.into(), (*submitted_at).into(), attributes.into()];
            rows.push(row);
        }
    }
    if rows.is_empty() { Ok(()) } else { transaction.execute_each(&ADD_ALL, &rows).await }
}

/// Replaces the attributes of an analysis if they differ from the attributes of `before`, the previous state of the analysis.
pub(super) async fn replace(
    transaction: &impl Transaction,
    row: i64,
    analysis: &Analysis,
    before: &Analysis,
) -> Result<(), StoreError> {
    if Attribute::of(analysis) == Attribute::of(before) {
        return Ok(());
    }
    transaction.execute(sql!("DELETE FROM attributes WHERE analysis = ?1"), values![row]).await?;
    add(transaction, &[(row, analysis)]).await
}

struct IndexAttributes {
    limit: usize,
}

/// Reads analyses whose attributes are not written yet. Parameter: the maximum number of rows. The index
/// `analyses_without_attributes` has the same condition.
pub(super) static WITHOUT_ATTRIBUTES: Sql =
    Sql::new(&["SELECT id, tenant, call_id, submitted_at, metadata FROM analyses \
     WHERE call_facts IS NULL AND metadata <> '{}' ORDER BY id LIMIT ?1 FOR UPDATE SKIP LOCKED"]);

impl Rule for IndexAttributes {
    const NAME: &'static str = "index_attributes";
    const NOTIFIES: bool = false;
    type Output = usize;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<usize, StoreError> {
        let read = |row: &dyn Row| {
            let id: i64 = row.get("id")?;
            let metadata = skip(transaction, "analyses", id, row.json::<Metadata>("metadata"))?;
            let attributes = Attribute::all_of(&CallFacts::default(), &metadata.unwrap_or_default());
            let call_id: String = row.get("call_id")?;
            let submitted_at: Timestamp = row.get("submitted_at")?;
            Ok((id, row.get::<TenantId>("tenant")?, call_id, submitted_at, to_json(&attributes)?))
        };
        let found = transaction.query(&WITHOUT_ATTRIBUTES, values![self.limit], read).await?;
        let rows: Vec<_> = found
            .iter()
            .map(|(id, tenant, call_id, submitted_at, attributes)| {
                [Value::from(*id), tenant.into(), call_id.into(), (*submitted_at).into(), attributes.into()]
            })
            .collect();
        transaction.execute_each(&ADD_ALL, &rows).await?;
        let done: Vec<_> = found.iter().map(|(id, ..)| [Value::from(*id)]).collect();
        transaction.execute_each(sql!("UPDATE analyses SET call_facts = '{}' WHERE id = ?1"), &done).await?;
        Ok(found.len())
    }
}
