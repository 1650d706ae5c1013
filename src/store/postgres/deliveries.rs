//! Reads lists of deliveries.

use super::super::delivery_rows::{RECORDED, listed};
use super::super::{RecordedDelivery, UnreadableDelivery};
use super::connect::Session;
use super::fault::Fault;
use super::rows::Parameter;
use crate::domain::deliveries::{DeliveryQuery, DeliveryStatus};
use crate::domain::ids::{CallId, TenantId};

pub(super) async fn list(
    mut session: Session,
    tenant: &TenantId,
    page: &DeliveryQuery,
) -> Result<Vec<Result<RecordedDelivery, UnreadableDelivery>>, Fault> {
    let client = session.client()?;
    let filter = &page.filter;
    let webhook = filter.webhook.map(|webhook| webhook.to_string()).unwrap_or_default();
    let call_id = filter.call_id.as_ref().map_or("", CallId::as_str);
    let (after, limit) = (page.after.unwrap_or(i64::MAX), i64::try_from(page.limit).unwrap_or(i64::MAX));
    let tenant = tenant.as_str();
    let mut parameters: Vec<Parameter<'_>> = vec![&tenant, &after, &limit];
    // The expressions below force the planner to use one index. An index on a column does not match an expression that
    // concatenates the column with an empty text or adds 0 to the column.
    let (mut of_tenant, mut order) = ("tenant = $1", "seq");
    let mut conditions = vec!["seq < $2".to_owned()];
    if filter.webhook.is_some() {
        parameters.push(&webhook);
        let number = parameters.len();
        conditions.push(if filter.call_id.is_some() {
            format!("webhook || '' = ${number}")
        } else {
            of_tenant = "tenant || '' = $1";
            format!("webhook = ${number} AND webhook <> ''")
        });
    }
    if filter.call_id.is_some() {
        parameters.push(&call_id);
        order = "(seq + 0)";
        conditions.push(format!("call_id = ${}", parameters.len()));
    }
    // The status is a literal, because the partial indexes and the planner's estimates depend on it.
    match filter.status {
        Some(DeliveryStatus::Delivered) => conditions.push("status = 'delivered'".to_owned()),
        Some(DeliveryStatus::Pending) => {
            conditions.push("status = 'pending' AND status <> 'delivered'".to_owned());
        }
        Some(DeliveryStatus::Failed) => {
            conditions.push("status = 'failed' AND status <> 'delivered'".to_owned());
        }
        None => {}
    }
    let conditions = conditions.join(" AND ");
    let page =
        format!("SELECT * FROM deliveries WHERE {of_tenant} AND {conditions} ORDER BY {order} DESC LIMIT $3");
    let sql = format!(
        "SELECT {RECORDED} FROM ({page}) AS deliveries \
         CROSS JOIN LATERAL (SELECT id, kind FROM events WHERE seq = deliveries.event LIMIT 1) AS events \
         LEFT JOIN LATERAL (SELECT url, payload FROM webhooks WHERE id = deliveries.webhook LIMIT 1) AS webhooks ON true \
         ORDER BY deliveries.seq DESC"
    );
    let select = client.prepare_cached(&sql).await?;
    let rows = client.query(&select, &parameters).await?;
    Ok(rows.iter().map(|row| listed(row)).collect::<Result<_, _>>()?)
}
