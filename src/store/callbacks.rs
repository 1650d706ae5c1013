//! Callbacks of submissions. The URL of a callback is sealed if it has a secret and the gateway has an encryption key.

use super::StoreError;
use super::rules::Transaction;
use super::sql::{Sql, sql};
use super::values::{Row, Value, values};
use super::webhook_rows::{read_transform, read_url};
use crate::domain::analysis::{Analysis, SubmissionCallback};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::deliveries::StoredCallback;
use crate::domain::receiver_url::ReceiverUrl;
use crate::domain::transforms::Transform;
use crate::domain::url_sealer::UrlSealer;
use crate::env::Env;

/// The columns that [`read`] reads.
pub(super) const COLUMNS: &str = "url, payload, transform";

/// Reads a row of `callbacks`.
pub(super) fn read(row: &dyn Row) -> Result<StoredCallback, StoreError> {
    Ok(StoredCallback { url: read_url(row)?, payload: row.get("payload")?, transform: read_transform(row)? })
}

/// Adds a callback to an analysis. [`added`] returns the parameters.
pub(super) static ADD: Sql = Sql::new(&[
    "INSERT INTO callbacks (analysis, url, payload, transform) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
]);

/// Returns the values of the columns [`COLUMNS`] of a callback.
pub(super) fn content(callback: &StoredCallback) -> [Value<'_>; 3] {
    [callback.url.to_text().into_owned().into(), callback.payload.as_str().into(), transform(callback).into()]
}

/// Returns the value of the column `transform` of a callback.
pub(super) fn transform(callback: &StoredCallback) -> Option<String> {
    callback.transform.as_ref().map(Transform::to_json)
}

/// Returns the parameters of [`ADD`].
pub(super) fn added(row: i64, callback: &StoredCallback) -> [Value<'_>; 4] {
    let [url, payload, transform] = content(callback);
    [row.into(), url, payload, transform]
}

/// Returns a callback as the store keeps it. If the URL has a secret and there is an encryption key, the URL is sealed.
pub(super) fn sealed(env: &Env, analysis: &Analysis, callback: &SubmissionCallback) -> StoredCallback {
    let url = match env.encryption.keys() {
        Some(keys) => UrlSealer::of_callbacks(&keys, &analysis.tenant, &analysis.call_id)
            .seal(&callback.url, &*env.entropy),
        None => callback.url.clone().into(),
    };
    StoredCallback { url, payload: callback.payload, transform: callback.transform.clone() }
}

/// Adds a callback to an analysis that may have callbacks already. If the URL is new, returns the stored callback. If the
/// analysis already has a callback with this URL, that callback gets the new payload and transform.
pub(super) async fn add(
    transaction: &impl Transaction,
    row: i64,
    analysis: &Analysis,
    callback: &SubmissionCallback,
) -> Result<Option<StoredCallback>, StoreError> {
    // A URL is sealed differently each time, so the database cannot compare it.
    let select = sql!("SELECT url FROM callbacks WHERE analysis = ?1 FOR UPDATE");
    let stored: Vec<String> = transaction.query(select, values![row], |row| row.get("url")).await?;
    let env = transaction.env();
    let known = stored.iter().find(|text| opened(env, analysis, text).as_ref() == Some(&callback.url));
    let callback = sealed(env, analysis, callback);
    let [row, url, payload, transform] = added(row, &callback);
    let Some(known) = known else {
        transaction.execute(&ADD, &[row, url, payload, transform]).await?;
        return Ok(Some(callback));
    };
    let update = sql!(
        "UPDATE callbacks SET payload = ?3, transform = ?4 WHERE analysis = ?1 AND url = ?2 \
         AND (payload <> ?3 OR transform IS DISTINCT FROM ?4)"
    );
    transaction.execute(update, &[row, known.into(), payload, transform]).await?;
    Ok(None)
}

/// Returns the URL of a stored callback; `text` is the value of its column `url`. Returns `None` if no key opens a sealed URL.
fn opened(env: &Env, analysis: &Analysis, text: &str) -> Option<CallbackUrl> {
    let stored = ReceiverUrl::from_text(text)?;
    match env.encryption.keys() {
        Some(keys) => UrlSealer::of_callbacks(&keys, &analysis.tenant, &analysis.call_id).open(&stored),
        None => stored.plain().cloned(),
    }
}
