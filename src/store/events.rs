//! Writes events and their deliveries to callbacks and webhooks (fan-out).

use std::borrow::Cow;

use futures_util::try_join;

use super::feed::NEXT_POSITION;
use super::observations::Observation;
use super::rules::Transaction;
use super::sql::{Sql, sql};
use super::unreadable::skip;
use super::values::{Row, Value, json, values};
use super::webhook_rows::read_filter;
use super::{Change, StoreError, callbacks, subscriptions};
use crate::domain::analysis::{Analysis, AnalysisResult};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::{DeliveryStatus, Destination, NewDelivery, StoredCallback};
use crate::domain::events::{Event, EventKind, event_data};
use crate::domain::filters::{ContentFilter, FilterData};
use crate::domain::ids::{CallId, DeliveryId, EventId, TenantId, WebhookId};
use crate::domain::resource::AnalysisResource;
use crate::domain::test_event::{TestBodies, WEBHOOK_TEST};
use crate::domain::trace::TraceContext;
use crate::domain::webhooks::{EventFilter, Webhook};

/// Writes an event of an analysis, and its deliveries.
pub(super) async fn announce(
    transaction: &impl Transaction,
    row: i64,
    analysis: &Analysis,
    kind: EventKind,
    result: Option<AnalysisResult>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let entropy = &*transaction.env().entropy;
    let resource = AnalysisResource::new(analysis, result, &transaction.env().public_url);
    let url = transaction.env().public_url.analysis(&analysis.call_id);
    let event = Event::new(kind, analysis.tenant.clone(), &resource, url, now, entropy)
        .map_err(|error| StoreError::Corrupt(error.to_string()))?;
    publish(transaction, Some(row), &event, analysis.trace).await
}

/// Writes the event of a webhook that the gateway disabled, and its deliveries to the tenant's other webhooks. The webhook is
/// already disabled in the store, so this function creates no delivery to the webhook itself.
pub(super) async fn announce_disabled(
    transaction: &impl Transaction,
    tenant: &TenantId,
    webhook: &Webhook,
) -> Result<(), StoreError> {
    let entropy = &*transaction.env().entropy;
    let event = webhook.disabled_event(tenant, entropy);
    match event.map_err(|error| StoreError::Corrupt(error.to_string()))? {
        Some(event) => publish(transaction, None, &event, TraceContext::start(entropy)).await,
        None => Ok(()),
    }
}

/// Writes an event, and its deliveries to the callbacks of the analysis in `row` and to the webhooks that receive its type.
async fn publish(
    transaction: &impl Transaction,
    row: Option<i64>,
    event: &Event,
    trace: TraceContext,
) -> Result<(), StoreError> {
    let entropy = &*transaction.env().entropy;
    let seq = write(transaction, event).await?;
    transaction.notify(Change::Event(event.tenant.clone()));
    let destinations = destinations(transaction, row, event).await?;
    if destinations.is_empty() {
        return Ok(());
    }
    let begin = |destination| {
        NewDelivery::begin(&event.tenant, event.call_id.as_ref(), destination, trace, event.at, entropy)
    };
    let deliveries: Vec<_> = destinations.into_iter().map(begin).collect();
    insert_deliveries(transaction, seq, &deliveries).await?;
    transaction.notify(Change::Delivery);
    Ok(())
}

/// Writes an event. Returns the number of the event.
async fn write(transaction: &impl Transaction, event: &Event) -> Result<i64, StoreError> {
    let tenant = values![&event.tenant];
    let position: Option<i64> = transaction.find(&NEXT_POSITION, tenant, |row| row.get("last")).await?;
    let values = values![
        event.id,
        &event.tenant,
        event.call_id.as_ref().map_or("", CallId::as_str),
        event.kind.as_str(),
        event.at,
        &event.body[..],
        &event.thin_body[..],
        position
    ];
    insert(transaction, values).await
}

/// Inserts an event. The values are id, tenant, call, type, time, full body, thin body and position. Returns the number of the
/// event.
async fn insert(transaction: &impl Transaction, values: &[Value<'_>]) -> Result<i64, StoreError> {
    static INSERT: Sql = Sql::insert(
        "seq",
        &["INSERT INTO events (id, tenant, call_id, kind, at, body, thin_body, position) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"],
    );
    transaction
        .insert(&INSERT, values)
        .await?
        .ok_or_else(|| StoreError::Corrupt("an insert without a conflict clause inserted nothing".to_owned()))
}

/// Writes a test event with its delivery to one webhook. Returns the delivery's id.
pub(super) async fn write_test(
    transaction: &impl Transaction,
    tenant: &TenantId,
    webhook: WebhookId,
    trace: TraceContext,
) -> Result<DeliveryId, StoreError> {
    let (now, entropy) = (transaction.env().clock.now(), &*transaction.env().entropy);
    let id = EventId::generate(now, entropy);
    let bodies = TestBodies::new(webhook, now, &transaction.env().public_url)
        .map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let position: Option<i64> = None;
    let values = values![id, tenant, "", WEBHOOK_TEST, now, &bodies.full[..], &bodies.thin[..], position];
    let seq = insert(transaction, values).await?;
    // A negative position is unique and does not belong to the feed.
    let hide = sql!("UPDATE events SET position = -seq WHERE seq = ?1");
    transaction.execute(hide, values![seq]).await?;
    let destination = Destination::Webhook(webhook);
    let delivery = NewDelivery::begin(tenant, None, destination, trace, now, entropy);
    let id = delivery.id;
    insert_deliveries(transaction, seq, &[delivery]).await?;
    transaction.notify(Change::Delivery);
    Ok(id)
}

/// Reads the enabled webhooks of a tenant. Parameter: the tenant.
pub(super) static ENABLED_WEBHOOKS: Sql =
    Sql::new(&["SELECT id, events, filter, transform IS NOT NULL AS transforms FROM webhooks \
     WHERE tenant = ?1 AND deleted_at IS NULL AND disabled_at IS NULL ORDER BY id"]);

/// Returns the receivers of an event.
async fn destinations(
    transaction: &impl Transaction,
    row: Option<i64>,
    event: &Event,
) -> Result<Vec<Destination>, StoreError> {
    let select = sql!("SELECT ", callbacks::COLUMNS, " FROM callbacks WHERE analysis = ?1");
    let callback = |row: &dyn Row| Ok(Destination::Callback(Box::new(callbacks::read(row)?)));
    // An additional event does less harm than a missing event, so a webhook with an unreadable filter gets every event.
    let events = |row: &dyn Row| row.parse("events", |text| EventFilter::from_text(text).ok_or(()));
    // Only a filter needs the parsed event.
    let mut data = None;
    let mut passes = |filter: &ContentFilter| {
        if !event.kind.has_analysis() {
            return true;
        }
        let passes = filter.passes(data.get_or_insert_with(|| FilterData::new(event_data(&event.body))));
        if !passes {
            transaction.observe(Observation::FilteredEvent(event.tenant.clone()));
        }
        passes
    };
    let (parameters, tenant) = (values![row], values![&event.tenant]);
    // The statements run in this order, so the lock is held when the webhooks are read.
    let (callbacks, _, webhooks) = try_join!(
        transaction.query(select, parameters, |found| skip(
            transaction,
            "callbacks",
            row.unwrap_or_default(),
            callback(found)
        )),
        subscriptions::share(transaction, &event.tenant),
        transaction.query(&ENABLED_WEBHOOKS, tenant, |row| {
            let id: Cow<'_, str> = row.get("id")?;
            let events = skip(transaction, "webhooks", &id, events(row))?.unwrap_or_else(EventFilter::all);
            let filter = skip(transaction, "webhooks", &id, read_filter(row))?.flatten();
            let refers_to_analysis = filter.is_some() || row.get("transforms")?;
            let wants = events.of_webhook(refers_to_analysis).wants(event.kind);
            let is_receiver = wants && filter.as_ref().is_none_or(&mut passes);
            Ok(skip(transaction, "webhooks", &id, row.get::<WebhookId>("id"))?.filter(|_| is_receiver))
        }),
    )?;
    let webhooks = webhooks.into_iter().flatten().map(Destination::Webhook);
    Ok(callbacks.into_iter().flatten().chain(webhooks).collect())
}

/// Writes the deliveries of one event.
async fn insert_deliveries(
    transaction: &impl Transaction,
    seq: i64,
    deliveries: &[NewDelivery],
) -> Result<(), StoreError> {
    let insert = sql!(
        "INSERT INTO deliveries (id, tenant, call_id, event, webhook, url, receiver, status, created_at, due_at, trace, \
         payload, transform) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11, ?12)"
    );
    let mut rows = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        rows.push([
            Value::from(delivery.id),
            (&delivery.tenant).into(),
            delivery.call_id.as_ref().map_or("", CallId::as_str).into(),
            seq.into(),
            delivery.destination.webhook_column().into(),
            delivery.destination.url().into(),
            delivery.destination.receiver().into(),
            DeliveryStatus::Pending.as_str().into(),
            delivery.due_at.into(),
            json(&delivery.trace)?.into(),
            delivery.destination.payload().as_str().into(),
            delivery.destination.transform().into(),
        ]);
    }
    transaction.execute_each(insert, &rows).await
}

/// Writes a delivery of the latest event of a finished analysis to one additional callback.
pub(super) async fn announce_latest(
    transaction: &impl Transaction,
    analysis: &Analysis,
    callback: StoredCallback,
) -> Result<(), StoreError> {
    let (tenant, call_id): (&TenantId, &CallId) = (&analysis.tenant, &analysis.call_id);
    let latest = sql!("SELECT seq FROM events WHERE tenant = ?1 AND call_id = ?2 ORDER BY seq DESC LIMIT 1");
    if let Some(seq) = transaction.find(latest, values![tenant, call_id], |row| row.get("seq")).await? {
        let env = transaction.env();
        let destination = Destination::Callback(Box::new(callback));
        let (trace, now) = (analysis.trace, env.clock.now());
        let delivery = NewDelivery::begin(tenant, Some(call_id), destination, trace, now, &*env.entropy);
        insert_deliveries(transaction, seq, &[delivery]).await?;
    }
    transaction.notify(Change::Delivery);
    Ok(())
}
