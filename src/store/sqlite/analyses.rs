//! Analyses, their results, and the events that come of them.

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use serde::de::DeserializeOwned;

use super::super::{Applied, Change, Found, Lease, Queue, StoreError, Surroundings};
use super::deliveries;
use super::writer::Done;
use crate::domain::analysis::{Analysis, AnalysisResult, Obtained, Stage, Status, Submission, Work};
use crate::domain::clock::Timestamp;
use crate::domain::events::{Event, EventKind};
use crate::domain::ids::{CallId, TenantId};
use crate::domain::lifecycle::{Context, Effect, Step};
use crate::domain::resource::AnalysisResource;
use crate::domain::trace::TraceContext;

/// What [`read`] expects of a row, in any order.
pub(super) const COLUMNS: &str = "id, tenant, call_id, status, revision, submitted_at, finished_at, metadata, \
     failure, last_error, trace, stage, due_at, started_at, accepted_at, polls, errors, etag, empty_since, fence";

pub(super) fn submit(
    connection: &Connection,
    around: &Surroundings,
    tenant: TenantId,
    submission: Submission,
) -> Result<Done<Found>, StoreError> {
    let now = around.clock.now();
    let callback = submission.callback.clone();
    if let Some((row, found)) = find_row(connection, &tenant, &submission.call_id)? {
        return resubmit(connection, around, row, found, &submission);
    }
    let analysis = Analysis::begin(tenant, submission, now);
    let row = insert(connection, &analysis)?;
    if let Some(url) = callback {
        deliveries::add_callback(connection, row, &url)?;
    }
    let changes = vec![Change::Work(Queue::Submits)];
    Ok(Done { value: Found { analysis, result: None }, changes })
}

fn resubmit(
    connection: &Connection,
    around: &Surroundings,
    row: i64,
    mut found: Found,
    submission: &Submission,
) -> Result<Done<Found>, StoreError> {
    let now = around.clock.now();
    let before = found.analysis.clone();
    found.analysis.resubmitted(submission, now);
    let analysis = &found.analysis;
    let mut changes = Vec::new();
    if *analysis != before {
        update(connection, row, analysis, analysis.work != before.work)?;
        changes.push(Change::Analysis(analysis.tenant.clone(), analysis.call_id.clone()));
        if analysis.work != before.work {
            changes.push(Change::Work(Queue::Submits));
        }
    }
    if let Some(url) = &submission.callback
        && deliveries::add_callback(connection, row, url)?
        && analysis.status.is_finished()
        && !analysis.is_under_way()
    {
        deliveries::announce_latest(connection, around, analysis, url)?;
        changes.push(Change::Delivery);
    }
    Ok(Done { value: found, changes })
}

pub(super) fn adopt(
    connection: &Connection,
    around: &Surroundings,
    tenant: TenantId,
    call_id: CallId,
    trace: TraceContext,
    obtained: Box<Obtained>,
) -> Result<Done<()>, StoreError> {
    if find_row(connection, &tenant, &call_id)?.is_some() {
        return Ok(Done::quiet(()));
    }
    let submission = Submission { call_id, callback: None, metadata: None, reanalyze: false, trace };
    let mut analysis = Analysis::begin(tenant, submission, around.clock.now());
    let context = context(around, None);
    let effect = analysis.adopt(obtained, &context);
    let row = insert(connection, &analysis)?;
    let mut changes = follow(connection, around, row, &analysis, effect, &context)?.changes;
    // The look that catches late tags.
    changes.push(Change::Work(Queue::Polls));
    Ok(Done { value: (), changes })
}

pub(super) fn find(
    connection: &Connection,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<Option<Found>, StoreError> {
    Ok(find_row(connection, tenant, call_id)?.map(|(_, found)| found))
}

pub(super) fn vendor_answer(
    connection: &Connection,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<Option<Bytes>, StoreError> {
    let answer: Option<Vec<u8>> = connection
        .prepare_cached(
            "SELECT vendor_answer FROM results JOIN analyses ON analyses.id = results.analysis \
             WHERE tenant = ? AND call_id = ?",
        )?
        .query_row(params![tenant.as_str(), call_id.as_str()], |row| row.get(0))
        .optional()?;
    Ok(answer.map(Bytes::from))
}

pub(super) fn apply(
    connection: &Connection,
    around: &Surroundings,
    lease: Lease,
    step: Step,
) -> Result<Done<Applied>, StoreError> {
    let mut analysis = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM analyses WHERE id = ? AND fence = ? AND leased = 1"))?
        .query_row(params![lease.row, lease.fence], read)
        .optional()?
        .ok_or(StoreError::LeaseLost)?;
    let current = if analysis.revision > 0 { result(connection, lease.row)? } else { None };
    let polls =
        analysis.work.as_ref().map_or(0, |work| work.polls) + u32::from(matches!(step, Step::Polled(_)));
    let context = context(around, current.as_ref());
    let effect = analysis.apply(step, &context);
    update(connection, lease.row, &analysis, true)?;
    let event = effect.event;
    let mut changes = follow(connection, around, lease.row, &analysis, effect, &context)?.changes;
    if let Some(stage) = analysis.work.as_ref().map(|work| work.stage) {
        changes.push(Change::Work(if stage == Stage::Submit { Queue::Submits } else { Queue::Polls }));
    }
    Ok(Done { value: Applied { analysis, event, polls }, changes })
}

/// Writes what a transition wants besides the row itself: the result, the event, its deliveries. The event tells
/// of the result held before if there is no new one.
fn follow(
    connection: &Connection,
    around: &Surroundings,
    row: i64,
    analysis: &Analysis,
    effect: Effect,
    context: &Context<'_>,
) -> Result<Done<()>, StoreError> {
    let mut changes = vec![Change::Analysis(analysis.tenant.clone(), analysis.call_id.clone())];
    if let Some(obtained) = &effect.obtained {
        connection
            .prepare_cached(
                "INSERT INTO results (analysis, result, vendor_answer) VALUES (?, ?, ?) ON CONFLICT (analysis) \
                 DO UPDATE SET result = excluded.result, vendor_answer = excluded.vendor_answer",
            )?
            .execute(params![row, json(&obtained.result)?, &obtained.vendor_answer[..]])?;
    }
    if let Some(kind) = effect.event {
        let result = effect.obtained.map(|obtained| obtained.result).or_else(|| context.current.cloned());
        let event = write_event(connection, around, analysis, kind, result, context.now)?;
        if deliveries::announce(connection, around, row, &event, analysis.trace)? {
            changes.push(Change::Delivery);
        }
    }
    Ok(Done { value: (), changes })
}

fn write_event(
    connection: &Connection,
    around: &Surroundings,
    analysis: &Analysis,
    kind: EventKind,
    result: Option<AnalysisResult>,
    now: Timestamp,
) -> Result<(i64, Event), StoreError> {
    let resource = AnalysisResource::new(analysis, result);
    let event = Event::new(kind, analysis.tenant.clone(), &resource, now, &*around.entropy)
        .map_err(|error| StoreError::Corrupt(error.to_string()))?;
    connection
        .prepare_cached("INSERT INTO events (id, tenant, call_id, kind, at, body) VALUES (?, ?, ?, ?, ?, ?)")?
        .execute(params![
            event.id.to_string(),
            event.tenant.as_str(),
            event.call_id.as_str(),
            event.kind.as_str(),
            event.at.as_millis(),
            &event.body[..],
        ])?;
    Ok((connection.last_insert_rowid(), event))
}

fn context<'a>(around: &'a Surroundings, current: Option<&'a AnalysisResult>) -> Context<'a> {
    Context { now: around.clock.now(), policy: &around.policy, jitter: around.entropy.fraction(), current }
}

fn find_row(
    connection: &Connection,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<Option<(i64, Found)>, StoreError> {
    let found = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM analyses WHERE tenant = ? AND call_id = ?"))?
        .query_row(params![tenant.as_str(), call_id.as_str()], |row| Ok((row.get("id")?, read(row)?)))
        .optional()?;
    let Some((row, analysis)) = found else { return Ok(None) };
    let result = if analysis.revision > 0 { result(connection, row)? } else { None };
    Ok(Some((row, Found { analysis, result })))
}

fn result(connection: &Connection, row: i64) -> Result<Option<AnalysisResult>, StoreError> {
    let text: Option<String> = connection
        .prepare_cached("SELECT result FROM results WHERE analysis = ?")?
        .query_row([row], |row| row.get(0))
        .optional()?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| StoreError::Corrupt(error.to_string())))
        .transpose()
}

fn insert(connection: &Connection, analysis: &Analysis) -> Result<i64, StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO analyses (tenant, call_id, status, revision, submitted_at, metadata, trace) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            analysis.tenant.as_str(),
            analysis.call_id.as_str(),
            analysis.status.as_str(),
            analysis.revision,
            analysis.submitted_at.as_millis(),
            analysis.metadata.to_json(),
            json(&analysis.trace)?,
        ])?;
    let row = connection.last_insert_rowid();
    update(connection, row, analysis, true)?;
    Ok(row)
}

/// Writes an analysis back. `with_work` also writes the work and ends the lease: a submission that only changes
/// metadata must leave both to the worker that holds them.
fn update(connection: &Connection, row: i64, analysis: &Analysis, with_work: bool) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE analyses SET status = :status, revision = :revision, finished_at = :finished_at, \
             metadata = :metadata, failure = :failure, last_error = :last_error, trace = :trace WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": row,
            ":status": analysis.status.as_str(),
            ":revision": analysis.revision,
            ":finished_at": analysis.finished_at.map(Timestamp::as_millis),
            ":metadata": analysis.metadata.to_json(),
            ":failure": analysis.failure.as_ref().map(json).transpose()?,
            ":last_error": analysis.last_error.as_ref().map(json).transpose()?,
            ":trace": json(&analysis.trace)?,
        })?;
    if !with_work {
        return Ok(());
    }
    let work = analysis.work.as_ref();
    connection
        .prepare_cached(
            "UPDATE analyses SET stage = :stage, due_at = :due_at, started_at = :started_at, \
             accepted_at = :accepted_at, polls = :polls, errors = :errors, etag = :etag, \
             empty_since = :empty_since, leased = 0 WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": row,
            ":stage": work.map(|work| work.stage.as_str()),
            ":due_at": work.map(|work| work.due_at.as_millis()),
            ":started_at": work.map(|work| work.started_at.as_millis()),
            ":accepted_at": work.and_then(|work| work.accepted_at).map(Timestamp::as_millis),
            ":polls": work.map_or(0, |work| work.polls),
            ":errors": work.map_or(0, |work| work.errors),
            ":etag": work.and_then(|work| work.etag.as_deref()),
            ":empty_since": work.and_then(|work| work.empty_since).map(Timestamp::as_millis),
        })?;
    Ok(())
}

/// Reads a row of [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> Result<Analysis, rusqlite::Error> {
    let stage: Option<String> = row.get("stage")?;
    let work = match stage {
        None => None,
        Some(stage) => Some(Work {
            stage: Stage::from_word(&stage).ok_or_else(|| unreadable("stage", &stage))?,
            due_at: time(row, "due_at")?,
            started_at: time(row, "started_at")?,
            accepted_at: time_if_any(row, "accepted_at")?,
            polls: row.get("polls")?,
            errors: row.get("errors")?,
            etag: row.get("etag")?,
            empty_since: time_if_any(row, "empty_since")?,
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

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
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

fn time_if_any(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>, rusqlite::Error> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// A value of ours that does not read back.
pub(super) fn unreadable(column: &str, value: &str) -> rusqlite::Error {
    let message = format!("column {column} holds {value:?}");
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, message.into())
}
