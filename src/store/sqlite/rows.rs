//! Analyses as rows, and back.

use rusqlite::Row;
use rusqlite::types::{Type, Value};
use serde::de::DeserializeOwned;

use super::super::StoreError;
use crate::domain::analysis::{Analysis, Stage, Status, Work};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};

/// What [`read`] expects of a row, in any order.
pub(super) const COLUMNS: &str = "id, tenant, call_id, status, revision, submitted_at, finished_at, metadata, \
     failure, last_error, trace, stage, due_at, started_at, accepted_at, polls, errors, etag, empty_since, \
     missing_since, denied_since, fence, leased";

/// Status, revision, end, metadata, failure, last error, trace: in the order of the statements in `analyses`.
pub(super) fn state(analysis: &Analysis) -> Result<[Value; 7], StoreError> {
    Ok([
        text(analysis.status.as_str()),
        Value::from(analysis.revision),
        analysis.finished_at.map(Timestamp::as_millis).into(),
        Value::from(analysis.metadata.to_json()),
        analysis.failure.as_ref().map(json).transpose()?.into(),
        analysis.last_error.as_ref().map(json).transpose()?.into(),
        Value::from(json(&analysis.trace)?),
    ])
}

/// Stage, due, started, accepted, polls, errors, etag, empty, missing, denied: in the order of the statements in `analyses`.
pub(super) fn work(analysis: &Analysis) -> [Value; 10] {
    let work = analysis.work.as_ref();
    let at = |moment: Option<Timestamp>| Value::from(moment.map(Timestamp::as_millis));
    [
        work.map(|work| work.stage.as_str().to_owned()).into(),
        at(work.map(|work| work.due_at)),
        at(work.map(|work| work.started_at)),
        at(work.and_then(|work| work.accepted_at)),
        Value::from(work.map_or(0, |work| work.polls)),
        Value::from(work.map_or(0, |work| work.errors)),
        work.and_then(|work| work.etag.clone()).into(),
        at(work.and_then(|work| work.empty_since)),
        at(work.and_then(|work| work.missing_since)),
        at(work.and_then(|work| work.denied_since)),
    ]
}

pub(super) fn text(text: &str) -> Value {
    Value::from(text.to_owned())
}

/// Reads a row of [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> Result<Analysis, rusqlite::Error> {
    let stage: Option<String> = row.get("stage")?;
    let work = match stage {
        None => None,
        Some(stage) => Some(Work {
            stage: Stage::from_word(&stage).ok_or_else(|| unreadable("stage", &stage))?,
            due_at: time(row, "due_at")?,
            leased: row.get("leased")?,
            started_at: time(row, "started_at")?,
            accepted_at: time_if_any(row, "accepted_at")?,
            polls: row.get("polls")?,
            errors: row.get("errors")?,
            etag: row.get("etag")?,
            empty_since: time_if_any(row, "empty_since")?,
            missing_since: time_if_any(row, "missing_since")?,
            denied_since: time_if_any(row, "denied_since")?,
        }),
    };
    let status: String = row.get("status")?;
    Ok(Analysis {
        tenant: text_id(row, "tenant", TenantId::parse)?,
        call_id: text_id(row, "call_id", CallId::parse)?,
        status: Status::from_word(&status).ok_or_else(|| unreadable("status", &status))?,
        revision: row.get("revision")?,
        submitted_at: time(row, "submitted_at")?,
        finished_at: time_if_any(row, "finished_at")?,
        metadata: from_json(row, "metadata")?.unwrap_or_default(),
        failure: from_json(row, "failure")?,
        last_error: from_json(row, "last_error")?,
        trace: from_json(row, "trace")?.ok_or_else(|| unreadable("trace", "nothing"))?,
        work,
    })
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<Option<T>, rusqlite::Error> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|_| unreadable(column, &text))).transpose()
}

pub(super) fn text_id<T, E>(
    row: &Row<'_>,
    column: &str,
    parse: fn(&str) -> Result<T, E>,
) -> Result<T, rusqlite::Error> {
    let text: String = row.get(column)?;
    parse(&text).map_err(|_| unreadable(column, &text))
}

pub(super) fn time(row: &Row<'_>, column: &str) -> Result<Timestamp, rusqlite::Error> {
    row.get(column).map(Timestamp::from_millis)
}

pub(super) fn time_if_any(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>, rusqlite::Error> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// A value of ours that does not read back.
pub(super) fn unreadable(column: &str, value: &str) -> rusqlite::Error {
    let message = format!("column {column} holds {value:?}");
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, message.into())
}
