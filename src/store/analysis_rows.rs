//! Rows of the table `analyses`.

use super::StoreError;
use super::values::{Row, Value, json};
use crate::domain::analysis::{Analysis, AnalysisResult, Metadata, Stage, Status, Work};
use crate::domain::answer_shape::{AnswerShape, InvalidShape};
use crate::domain::call_facts::CallFacts;
use crate::domain::deliveries::StoredCallback;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::listing::{ListPosition, ListedAnalysis, ListedRow};

/// An analysis with its result, if it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAnalysis {
    /// The state, the work and the metadata of the analysis.
    pub analysis: Analysis,
    /// The result; `None` before the first completion.
    pub result: Option<AnalysisResult>,
}

/// A new analysis with its callback.
pub(super) struct NewAnalysis {
    pub(super) analysis: Analysis,
    pub(super) callback: Option<StoredCallback>,
}

/// Key of the rows of a call: the tenant and the call id.
pub(super) struct CallKey(pub(super) TenantId, pub(super) CallId);

impl CallKey {
    pub(super) fn new(tenant: &TenantId, call_id: &CallId) -> Self {
        Self(tenant.clone(), call_id.clone())
    }
}

/// The columns that [`read`] reads, and the row's id and fencing token.
pub(super) const COLUMNS: &str = "id, tenant, call_id, status, revision, submitted_at, finished_at, metadata, \
     failure, last_error, last_reanalysis, refreshed_at, trace, call_facts, stage, due_at, started_at, sent_at, submits, \
     accepted_at, polls, errors, etag, empty_since, missing_since, denied_since, shapes, fence, leased";

/// Returns the values of the columns `status`, `revision`, `finished_at`, `metadata`, `failure`, `last_error`,
/// `last_reanalysis`, `refreshed_at`, `trace` and `call_facts`.
pub(super) fn state(analysis: &Analysis) -> Result<[Value<'_>; 10], StoreError> {
    Ok([
        analysis.status.as_str().into(),
        analysis.revision.into(),
        analysis.finished_at.into(),
        analysis.metadata.to_json().into(),
        analysis.failure.as_ref().map(json).transpose()?.into(),
        analysis.last_error.as_ref().map(json).transpose()?.into(),
        analysis.last_reanalysis.as_ref().map(json).transpose()?.into(),
        analysis.refreshed_at.into(),
        json(&analysis.trace)?.into(),
        stored_facts(&analysis.call)?.into(),
    ])
}

/// Returns call facts as JSON. Most calls have no facts, and the JSON then takes two bytes.
pub(super) fn stored_facts(call: &CallFacts) -> Result<String, StoreError> {
    if *call == CallFacts::default() { Ok("{}".to_owned()) } else { json(call) }
}

/// Returns the values of the columns `stage`, `due_at`, `started_at`, `sent_at`, `submits`, `accepted_at`, `polls`,
/// `errors`, `etag`, `empty_since`, `missing_since`, `denied_since` and `shapes`.
pub(super) fn work(analysis: &Analysis) -> [Value<'_>; 13] {
    let work = analysis.work.as_ref();
    [
        work.map(|work| work.stage.as_str()).into(),
        work.map(|work| work.due_at).into(),
        work.map(|work| work.started_at).into(),
        work.and_then(|work| work.sent_at).into(),
        work.map_or(0, |work| work.submits).into(),
        work.and_then(|work| work.accepted_at).into(),
        work.map_or(0, |work| work.polls).into(),
        work.map_or(0, |work| work.errors).into(),
        work.and_then(|work| work.etag.as_deref()).into(),
        work.and_then(|work| work.empty_since).into(),
        work.and_then(|work| work.missing_since).into(),
        work.and_then(|work| work.denied_since).into(),
        work.map(|work| &work.shapes).filter(|shapes| !shapes.is_empty()).map(|shapes| joined(shapes)).into(),
    ]
}

/// Reads a row of [`COLUMNS`].
pub(super) fn read(row: &dyn Row) -> Result<Analysis, StoreError> {
    Ok(Analysis {
        tenant: row.get("tenant")?,
        call_id: row.get("call_id")?,
        status: row.parse("status", |word| Status::from_word(word).ok_or(()))?,
        revision: row.get("revision")?,
        submitted_at: row.get("submitted_at")?,
        finished_at: row.get("finished_at")?,
        metadata: read_metadata(row)?,
        failure: row.json("failure")?,
        last_error: row.json("last_error")?,
        last_reanalysis: row.json("last_reanalysis")?,
        refreshed_at: row.get("refreshed_at")?,
        trace: row.json("trace")?,
        call: read_facts(row)?,
        work: read_work(row)?,
    })
}

/// Reads the metadata of a call.
pub(super) fn read_metadata(row: &dyn Row) -> Result<Metadata, StoreError> {
    Ok(row.json::<Option<_>>("metadata")?.unwrap_or_default())
}

/// Reads the facts of a call, which are NULL in rows that a version without call facts inserted.
pub(super) fn read_facts(row: &dyn Row) -> Result<CallFacts, StoreError> {
    Ok(row.json::<Option<_>>("call_facts")?.unwrap_or_default())
}

fn read_work(row: &dyn Row) -> Result<Option<Work>, StoreError> {
    if row.value("stage")? == Value::Null {
        return Ok(None);
    }
    Ok(Some(Work {
        stage: row.parse("stage", |word| Stage::from_word(word).ok_or(()))?,
        due_at: row.get("due_at")?,
        leased: row.get("leased")?,
        started_at: row.get("started_at")?,
        sent_at: row.get("sent_at")?,
        submits: row.get("submits")?,
        accepted_at: row.get("accepted_at")?,
        polls: row.get("polls")?,
        errors: row.get("errors")?,
        etag: row.get("etag")?,
        empty_since: row.get("empty_since")?,
        missing_since: row.get("missing_since")?,
        denied_since: row.get("denied_since")?,
        shapes: if row.value("shapes")? == Value::Null { Vec::new() } else { row.parse("shapes", parsed)? },
    }))
}

fn joined(shapes: &[AnswerShape]) -> String {
    shapes.iter().map(AnswerShape::to_string).collect::<Vec<_>>().join(" ")
}

fn parsed(text: &str) -> Result<Vec<AnswerShape>, InvalidShape> {
    text.split(' ').map(str::parse).collect()
}

/// Reads a row of [`COLUMNS`] and the summary of the result. If the analysis cannot be read, returns only its position.
pub(super) fn read_listed(row: &dyn Row) -> Result<ListedRow, StoreError> {
    let listed = || Ok(ListedAnalysis { analysis: read(row)?, result: row.json("summary")? });
    match listed() {
        Ok(listed) => Ok(Ok(listed)),
        Err(StoreError::Corrupt(_)) => Ok(Err(ListPosition {
            submitted_at: row.get("submitted_at")?,
            call_id: row.get("call_id").unwrap_or_default(),
        })),
        Err(error) => Err(error),
    }
}
