//! Reads lists of deliveries.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::super::delivery_rows::{RECORDED, listed};
use super::super::{RecordedDelivery, StoreError, UnreadableDelivery};
use super::rows::text;
use super::transaction::SqliteRow;
use crate::domain::deliveries::{DeliveryQuery, DeliveryStatus};
use crate::domain::ids::TenantId;

pub(super) fn list(
    connection: &Connection,
    tenant: &TenantId,
    page: &DeliveryQuery,
) -> Result<Vec<Result<RecordedDelivery, UnreadableDelivery>>, StoreError> {
    let (sql, values) = list_sql(tenant, page);
    let mut deliveries = connection.prepare_cached(&sql)?;
    let mut rows = deliveries.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(listed(&SqliteRow::new(row))?);
    }
    Ok(found)
}

const JOINED: &str =
    "FROM deliveries JOIN events ON events.seq = event LEFT JOIN webhooks ON webhooks.id = webhook";

/// Returns the statement for a page, and its parameters. A unary plus before a column prevents the planner from using an index of
/// this column.
pub(super) fn list_sql(tenant: &TenantId, page: &DeliveryQuery) -> (String, Vec<Value>) {
    let filter = &page.filter;
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    // The index on the call is the most selective one, then the index on the webhook.
    match filter.webhook {
        Some(webhook) => {
            let of_call = ["+webhook = ?", "deliveries.tenant = ?"];
            let of_webhook = ["webhook = ?", "webhook <> '' AND +deliveries.tenant = ?"];
            conditions.extend(if filter.call_id.is_some() { of_call } else { of_webhook });
            values.push(text(&webhook.to_string()));
        }
        None => conditions.push("deliveries.tenant = ?"),
    }
    values.push(text(tenant.as_str()));
    if let Some(call_id) = &filter.call_id {
        conditions.push("deliveries.call_id = ?");
        values.push(text(call_id.as_str()));
    }
    // `SQLite` uses the partial indexes only if their conditions are written in the same way.
    match filter.status {
        Some(DeliveryStatus::Delivered) => conditions.push("status = 'delivered'"),
        Some(status) => {
            conditions.push("status = ? AND status <> 'delivered'");
            values.push(text(status.as_str()));
        }
        None => {}
    }
    if let Some(after) = page.after {
        conditions.push("deliveries.seq < ?");
        values.push(Value::from(after));
    }
    values.push(Value::from(i64::try_from(page.limit).unwrap_or(i64::MAX)));
    let conditions = conditions.join(" AND ");
    (format!("SELECT {RECORDED} {JOINED} WHERE {conditions} ORDER BY deliveries.seq DESC LIMIT ?"), values)
}
