//! Builds the statements that read analyses in the order of lists, and the parameters of these statements.

use rusqlite::types::Value;

use super::rows::text;
use crate::domain::analysis::Status;
use crate::domain::attributes::Attribute;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::listing::{AnalysisQuery, ListPosition, UpperBound};

/// Returns the statement for the next analyses in the order of the list, and its parameters. The statement checks only the parts
/// of the filter that an index can select. If the statement reads `along` the index of an attribute, these parts are the
/// attribute and the times of submission.
pub(super) fn order_sql(
    tenant: &TenantId,
    query: &AnalysisQuery,
    along: Option<&Attribute>,
    after: Option<&ListPosition>,
    rows: usize,
) -> (String, Vec<Value>) {
    let filter = &query.filter;
    let at = |at: Timestamp| Value::from(at.as_millis());
    let (mut conditions, mut values) = (vec!["tenant = ?"], vec![text(tenant.as_str())]);
    // `SQLite` uses a partial index only if its condition is written in the same way.
    let (columns, table) = match (along, filter.status) {
        (Some(attribute), _) => {
            conditions.push("name = ? AND value = ?");
            values.extend([text(attribute.name()), text(attribute.value())]);
            ("analysis AS id", "attributes")
        }
        (None, Some(status)) if status != Status::Completed => {
            conditions.push("status = ? AND status <> 'completed'");
            values.push(text(status.as_str()));
            ("id", "analyses")
        }
        (None, _) => {
            conditions.extend(filter.needs_result().then_some("revision > 0"));
            ("id", "analyses")
        }
    };
    if let Some(after) = filter.submitted_after {
        conditions.push("submitted_at > ?");
        values.push(at(after));
    }
    match filter.upper_bound(after) {
        Some(UpperBound::Before(before)) => {
            conditions.push("submitted_at < ?");
            values.push(at(before));
        }
        Some(UpperBound::After(position)) => {
            conditions.push("(submitted_at, call_id) < (?, ?)");
            values.extend([at(position.submitted_at), text(&position.call_id)]);
        }
        None => {}
    }
    values.push(Value::from(i64::try_from(rows).unwrap_or(i64::MAX)));
    let sql = format!(
        "SELECT {columns}, submitted_at, call_id FROM {table} WHERE {} ORDER BY submitted_at DESC, call_id DESC LIMIT ?",
        conditions.join(" AND ")
    );
    (sql, values)
}
