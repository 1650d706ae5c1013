//! Analyses as rows, and back.

use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use super::super::StoreError;
use super::fault::Fault;
use crate::domain::analysis::{Analysis, Stage, Status, Work};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};

/// What [`read`] expects of a row, in any order.
pub(super) const COLUMNS: &str = "analyses.id, tenant, call_id, status, revision, submitted_at, finished_at, metadata, \
     failure, last_error, trace, stage, due_at, started_at, accepted_at, polls, errors, etag, empty_since, \
     missing_since, denied_since, fence, leased";

/// What a statement is given.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// An analysis in the types of the columns.
pub(super) struct Written {
    status: &'static str,
    revision: i64,
    finished_at: Option<i64>,
    metadata: String,
    failure: Option<String>,
    last_error: Option<String>,
    trace: String,
    stage: Option<&'static str>,
    due_at: Option<i64>,
    started_at: Option<i64>,
    accepted_at: Option<i64>,
    polls: i64,
    errors: i64,
    etag: Option<String>,
    empty_since: Option<i64>,
    missing_since: Option<i64>,
    denied_since: Option<i64>,
}

impl Written {
    pub(super) fn new(analysis: &Analysis) -> Result<Self, StoreError> {
        let work = analysis.work.as_ref();
        Ok(Self {
            status: analysis.status.as_str(),
            revision: analysis.revision.into(),
            finished_at: analysis.finished_at.map(Timestamp::as_millis),
            metadata: analysis.metadata.to_json(),
            failure: analysis.failure.as_ref().map(json).transpose()?,
            last_error: analysis.last_error.as_ref().map(json).transpose()?,
            trace: json(&analysis.trace)?,
            stage: work.map(|work| work.stage.as_str()),
            due_at: work.map(|work| work.due_at.as_millis()),
            started_at: work.map(|work| work.started_at.as_millis()),
            accepted_at: work.and_then(|work| work.accepted_at).map(Timestamp::as_millis),
            polls: work.map_or(0, |work| work.polls.into()),
            errors: work.map_or(0, |work| work.errors.into()),
            etag: work.and_then(|work| work.etag.clone()),
            empty_since: work.and_then(|work| work.empty_since).map(Timestamp::as_millis),
            missing_since: work.and_then(|work| work.missing_since).map(Timestamp::as_millis),
            denied_since: work.and_then(|work| work.denied_since).map(Timestamp::as_millis),
        })
    }

    /// Status, revision, end, metadata, failure, last error, trace: in the order of the statements in `analyses`.
    pub(super) fn state(&self) -> [Parameter<'_>; 7] {
        [
            &self.status,
            &self.revision,
            &self.finished_at,
            &self.metadata,
            &self.failure,
            &self.last_error,
            &self.trace,
        ]
    }

    /// Stage, due, started, accepted, polls, errors, etag, empty, missing, denied: in the order of the statements
    /// in `analyses`.
    pub(super) fn work(&self) -> [Parameter<'_>; 10] {
        [
            &self.stage,
            &self.due_at,
            &self.started_at,
            &self.accepted_at,
            &self.polls,
            &self.errors,
            &self.etag,
            &self.empty_since,
            &self.missing_since,
            &self.denied_since,
        ]
    }
}

/// Reads a row of [`COLUMNS`].
pub(super) fn read(row: &Row) -> Result<Analysis, Fault> {
    let stage: Option<&str> = row.try_get("stage")?;
    let work = match stage {
        None => None,
        Some(stage) => Some(Work {
            stage: Stage::from_word(stage).ok_or_else(|| unreadable("stage", stage))?,
            due_at: time(row, "due_at")?,
            leased: row.try_get("leased")?,
            started_at: time(row, "started_at")?,
            accepted_at: time_if_any(row, "accepted_at")?,
            polls: number(row, "polls")?,
            errors: number(row, "errors")?,
            etag: row.try_get("etag")?,
            empty_since: time_if_any(row, "empty_since")?,
            missing_since: time_if_any(row, "missing_since")?,
            denied_since: time_if_any(row, "denied_since")?,
        }),
    };
    let status: &str = row.try_get("status")?;
    Ok(Analysis {
        tenant: parsed(row, "tenant", TenantId::parse)?,
        call_id: parsed(row, "call_id", CallId::parse)?,
        status: Status::from_word(status).ok_or_else(|| unreadable("status", status))?,
        revision: number(row, "revision")?,
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

pub(super) fn from_json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<Option<T>, Fault> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| serde_json::from_str(text).map_err(|_| unreadable(column, text))).transpose()
}

pub(super) fn parsed<T, E>(row: &Row, column: &str, parse: fn(&str) -> Result<T, E>) -> Result<T, Fault> {
    let text: &str = row.try_get(column)?;
    parse(text).map_err(|_| unreadable(column, text))
}

/// A number that a column holds in a wider type.
pub(super) fn number<T: TryFrom<i64>>(row: &Row, column: &str) -> Result<T, Fault> {
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|_| unreadable(column, &number.to_string()))
}

pub(super) fn time(row: &Row, column: &str) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_millis(get(row, column)?))
}

pub(super) fn time_if_any(row: &Row, column: &str) -> Result<Option<Timestamp>, Fault> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, Fault> {
    Ok(row.try_get(column)?)
}

/// A value of ours that does not read back.
pub(super) fn unreadable(column: &str, value: &str) -> Fault {
    StoreError::Corrupt(format!("column {column} holds {value:?}")).into()
}
