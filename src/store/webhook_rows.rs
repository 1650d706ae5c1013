//! Rows of the table `webhooks`.

use std::borrow::Cow;

use super::StoreError;
use super::values::{Row, Value};
use crate::domain::clock::Timestamp;
use crate::domain::delivery_rate::ChosenRate;
use crate::domain::filters::ContentFilter;
use crate::domain::receiver_url::ReceiverUrl;
use crate::domain::transforms::{DeliveryMethod, Transform};
use crate::domain::webhooks::{
    Disabled, DisabledReason, EventFilter, Health, LastFailure, SealedSecrets, Webhook,
};

/// The columns that [`read`] reads.
pub(super) const COLUMNS: &str = "id, url, events, filter, transform, method, rate, payload, description, header_names, headers, secret, previous_secret, \
     previous_until, disabled_at, disabled_reason, created_at, updated_at, version, failures, failing_since, paused_until, \
     last_success_at, last_failure_at, last_status, last_error, unsigned_since";

pub(super) fn read(row: &dyn Row) -> Result<Webhook, StoreError> {
    let names: String = row.get("header_names")?;
    let disabled_at: Option<Timestamp> = row.get("disabled_at")?;
    let disabled = match disabled_at {
        Some(at) => Some(Disabled { reason: disabled_reason(row)?, at }),
        None => None,
    };
    let failed_at: Option<Timestamp> = row.get("last_failure_at")?;
    let last_failure = match failed_at {
        Some(at) => {
            let error: Option<String> = row.get("last_error")?;
            Some(LastFailure { at, status: row.get("last_status")?, error: error.unwrap_or_default() })
        }
        None => None,
    };
    Ok(Webhook {
        id: row.get("id")?,
        url: read_url(row)?,
        events: row.parse("events", |text| EventFilter::from_text(text).ok_or(()))?,
        filter: read_filter(row)?,
        transform: read_transform(row)?,
        method: read_method(row)?,
        chosen_rate: read_rate(row)?,
        payload: row.get("payload")?,
        description: row.get("description")?,
        header_names: names.split_whitespace().map(str::to_owned).collect(),
        sealed: read_sealed(row)?,
        disabled,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        version: row.get("version")?,
        health: Health {
            failures: row.get("failures")?,
            failing_since: row.get("failing_since")?,
            paused_until: row.get("paused_until")?,
            last_success_at: row.get("last_success_at")?,
            last_failure,
            unsigned_since: row.get("unsigned_since")?,
        },
    })
}

/// Reads the URL of a row of `webhooks`, or of a claimed delivery.
pub(super) fn read_url(row: &dyn Row) -> Result<ReceiverUrl, StoreError> {
    row.parse("url", |text| ReceiverUrl::from_text(text).ok_or(()))
}

/// Reads the filter of a row of `webhooks`.
pub(super) fn read_filter(row: &dyn Row) -> Result<Option<ContentFilter>, StoreError> {
    let filter: Option<Cow<'_, str>> = row.get("filter")?;
    match filter {
        Some(_) => row.parse("filter", |json| ContentFilter::from_json(json).ok_or(())).map(Some),
        None => Ok(None),
    }
}

/// Reads the transform of a row of `webhooks` or `callbacks`, or of a claimed delivery.
pub(super) fn read_transform(row: &dyn Row) -> Result<Option<Transform>, StoreError> {
    let transform: Option<Cow<'_, str>> = row.get("transform")?;
    match transform {
        Some(_) => row.parse("transform", |json| Transform::from_json(json).ok_or(())).map(Some),
        None => Ok(None),
    }
}

/// Reads the method of a row of `webhooks` or of a claimed delivery.
pub(super) fn read_method(row: &dyn Row) -> Result<Option<DeliveryMethod>, StoreError> {
    let method: Option<Cow<'_, str>> = row.get("method")?;
    match method {
        Some(_) => row.parse("method", |word| DeliveryMethod::from_word(word).ok_or(())).map(Some),
        None => Ok(None),
    }
}

/// Reads the chosen rate of a row of `webhooks`.
pub(super) fn read_rate(row: &dyn Row) -> Result<ChosenRate, StoreError> {
    let rate: Option<Cow<'_, str>> = row.get("rate")?;
    match rate {
        Some(_) => row.parse("rate", |json| ChosenRate::from_json(json).ok_or(())),
        None => Ok(ChosenRate::default()),
    }
}

/// Reads the encrypted values of a row of `webhooks`.
pub(super) fn read_sealed(row: &dyn Row) -> Result<SealedSecrets, StoreError> {
    let previous: Option<Vec<u8>> = row.get("previous_secret")?;
    Ok(SealedSecrets {
        secret: row.get("secret")?,
        previous_secret: previous.zip(row.get("previous_until")?),
        headers: row.get("headers")?,
    })
}

fn disabled_reason(row: &dyn Row) -> Result<DisabledReason, StoreError> {
    // A deleted webhook may have no reason.
    let reason: Option<String> = row.get("disabled_reason")?;
    match reason {
        Some(_) => row.parse("disabled_reason", |word| DisabledReason::from_word(word).ok_or(())),
        None => Ok(DisabledReason::Requested),
    }
}

/// Returns the values of the columns that a change writes: `url`, `events`, `payload`, `description`, `header_names`,
/// `headers`, `secret`, `previous_secret`, `previous_until`, `disabled_at`, `disabled_reason`, `created_at`, `updated_at`,
/// `filter`, `transform`, `method` and `rate`.
pub(super) fn content(webhook: &Webhook) -> [Value<'_>; 17] {
    let Webhook { sealed, disabled, .. } = webhook;
    let previous = sealed.previous_secret.as_ref();
    [
        webhook.url.to_text().into_owned().into(),
        webhook.events.to_text().into(),
        webhook.payload.as_str().into(),
        webhook.description.as_ref().into(),
        webhook.header_names.join(" ").into(),
        sealed.headers.as_ref().into(),
        (&sealed.secret).into(),
        previous.map(|(secret, _)| secret).into(),
        previous.map(|(_, until)| *until).into(),
        disabled.map(|disabled| disabled.at).into(),
        disabled.map(|disabled| disabled.reason.as_str()).into(),
        webhook.created_at.into(),
        webhook.updated_at.into(),
        webhook.filter.as_ref().map(ContentFilter::to_json).into(),
        webhook.transform.as_ref().map(Transform::to_json).into(),
        webhook.method.map(DeliveryMethod::as_str).into(),
        webhook.chosen_rate.to_json().into(),
    ]
}
