//! Analyses, their results, and the events that come of them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::super::{AnalysisStore, Applied, Change, Lease, Queue, StoreError, StoredAnalysis, Surroundings};
use super::rows::{COLUMNS, json, read, state, text, work};
use super::writer::Done;
use super::{SqliteStore, deletion, deliveries, feed, listings, paces, usage};
use crate::domain::analysis::{Analysis, AnalysisResult, Stage, Submission, VendorResult};
use crate::domain::audit::Actor;
use crate::domain::clock::Timestamp;
use crate::domain::events::{Event, EventKind};
use crate::domain::ids::{CallId, TenantId};
use crate::domain::lifecycle::{Context, Effect, Step};
use crate::domain::listing::{AnalysisQuery, ListedAnalysis};
use crate::domain::pace::Pace;
use crate::domain::resource::AnalysisResource;
use crate::domain::trace::TraceContext;
use crate::domain::usage::Usage;

#[async_trait]
impl AnalysisStore for SqliteStore {
    async fn submit(&self, tenant: &TenantId, submission: Submission) -> Result<StoredAnalysis, StoreError> {
        let (around, tenant) = (Arc::clone(&self.surroundings), tenant.clone());
        self.write(move |connection| submit(connection, &around, tenant, &submission)).await
    }

    async fn submit_all(
        &self,
        tenant: &TenantId,
        submissions: Vec<Submission>,
    ) -> Result<Vec<StoredAnalysis>, StoreError> {
        let (around, tenant) = (Arc::clone(&self.surroundings), tenant.clone());
        self.write(move |connection| submit_all(connection, &around, &tenant, &submissions)).await
    }

    async fn adopt(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        trace: TraceContext,
        obtained: Box<VendorResult>,
    ) -> Result<bool, StoreError> {
        let (around, tenant, call_id) = (Arc::clone(&self.surroundings), tenant.clone(), call_id.clone());
        self.write(move |connection| adopt(connection, &around, tenant, call_id, trace, obtained)).await
    }

    async fn find_analysis(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<StoredAnalysis>, StoreError> {
        let (tenant, call_id) = (tenant.clone(), call_id.clone());
        self.read(move |connection| find(connection, &tenant, &call_id)).await
    }

    async fn find_vendor_answer(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<Bytes>, StoreError> {
        let (tenant, call_id) = (tenant.clone(), call_id.clone());
        self.read(move |connection| vendor_answer(connection, &tenant, &call_id)).await
    }

    async fn list_analyses(
        &self,
        tenant: &TenantId,
        page: AnalysisQuery,
    ) -> Result<Vec<ListedAnalysis>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| listings::list(connection, &tenant, &page)).await
    }

    async fn delete_analysis(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        actor: Actor,
    ) -> Result<bool, StoreError> {
        let (tenant, call_id, now) = (tenant.clone(), call_id.clone(), self.surroundings.clock.now());
        self.write(move |connection| deletion::delete(connection, tenant, call_id, &actor, now)).await
    }

    async fn was_deleted(&self, tenant: &TenantId, call_id: &CallId) -> Result<bool, StoreError> {
        let (tenant, call_id) = (tenant.clone(), call_id.clone());
        self.read(move |connection| deletion::was_deleted(connection, &tenant, &call_id)).await
    }
}

pub(super) fn submit(
    connection: &Connection,
    around: &Surroundings,
    tenant: TenantId,
    submission: &Submission,
) -> Result<Done<StoredAnalysis>, StoreError> {
    let analysis = Analysis::begin(tenant, submission.clone(), around.clock.now());
    usage::count(connection, &analysis.tenant, analysis.submitted_at, Usage::submission())?;
    // Most calls are new: the insert itself tells, without a look before.
    let Some(row) = insert(connection, &analysis)? else {
        let standing = find_row(connection, &analysis.tenant, &analysis.call_id)?;
        let (row, found) =
            standing.ok_or_else(|| StoreError::Corrupt("a row is there and is not".to_owned()))?;
        return resubmit(connection, around, row, found, submission);
    };
    if let Some(url) = &submission.callback {
        deliveries::add_callback(connection, row, url)?;
    }
    let changes = vec![Change::Work(Queue::Submits)];
    Ok(Done { value: StoredAnalysis { analysis, result: None }, changes })
}

pub(super) fn submit_all(
    connection: &Connection,
    around: &Surroundings,
    tenant: &TenantId,
    submissions: &[Submission],
) -> Result<Done<Vec<StoredAnalysis>>, StoreError> {
    let mut all = Done::quiet(Vec::with_capacity(submissions.len()));
    for submission in submissions {
        let done = submit(connection, around, tenant.clone(), submission)?;
        all.value.push(done.value);
        all.changes.extend(done.changes);
    }
    Ok(all)
}

fn resubmit(
    connection: &Connection,
    around: &Surroundings,
    row: i64,
    mut found: StoredAnalysis,
    submission: &Submission,
) -> Result<Done<StoredAnalysis>, StoreError> {
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
    obtained: Box<VendorResult>,
) -> Result<Done<bool>, StoreError> {
    let submission = Submission { call_id, callback: None, metadata: None, reanalyze: false, trace };
    let mut analysis = Analysis::begin(tenant, submission, around.clock.now());
    let context = context(around, None, None);
    let effect = analysis.adopt(obtained, &context);
    if deletion::was_deleted(connection, &analysis.tenant, &analysis.call_id)? {
        return Ok(Done::quiet(false));
    }
    let Some(row) = insert(connection, &analysis)? else { return Ok(Done::quiet(false)) };
    usage::count(connection, &analysis.tenant, context.now, Usage::step(1, effect.event))?;
    let mut changes = follow(connection, around, row, &analysis, effect, &context)?.changes;
    // The look that catches late tags.
    changes.push(Change::Work(Queue::Polls));
    Ok(Done { value: true, changes })
}

pub(super) fn find(
    connection: &Connection,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<Option<StoredAnalysis>, StoreError> {
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
    let analysis = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM analyses WHERE id = ? AND fence = ? AND leased"))?
        .query_row(params![lease.row, lease.fence], read)
        .optional()?
        .ok_or(StoreError::LeaseLost)?;
    let polled = u32::from(matches!(step, Step::Polled(_)));
    let polls = analysis.work.as_ref().map_or(0, |work| work.polls) + polled;
    let step = |analysis: &mut Analysis, context: &Context<'_>| analysis.apply(step, context);
    let Done { value: (analysis, event), mut changes } =
        transition(connection, around, lease.row, analysis, step)?;
    usage::count(connection, &analysis.tenant, around.clock.now(), Usage::step(polled.into(), event))?;
    if let Some(stage) = analysis.work.as_ref().map(|work| work.stage) {
        changes.push(Change::Work(if stage == Stage::Submit { Queue::Submits } else { Queue::Polls }));
    }
    Ok(Done { value: Applied { analysis, event, polls }, changes })
}

/// Takes the row through a transition and writes all that follows from it; also ends its lease. Gives the analysis as
/// it stands now, and what was announced.
pub(super) fn transition(
    connection: &Connection,
    around: &Surroundings,
    row: i64,
    mut analysis: Analysis,
    step: impl FnOnce(&mut Analysis, &Context<'_>) -> Effect,
) -> Result<Done<(Analysis, Option<EventKind>)>, StoreError> {
    let current = if analysis.revision > 0 { result(connection, row)? } else { None };
    let pace = paces::find(connection, &analysis.tenant)?;
    let context = context(around, current.as_ref(), pace);
    let effect = step(&mut analysis, &context);
    update(connection, row, &analysis, true)?;
    if let Some(pace) = effect.pace {
        paces::keep(connection, &analysis.tenant, pace)?;
    }
    let event = effect.event;
    let changes = follow(connection, around, row, &analysis, effect, &context)?.changes;
    Ok(Done { value: (analysis, event), changes })
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
        listings::keep(connection, row, &analysis.tenant, &obtained.result)?;
    }
    if let Some(kind) = effect.event {
        let result = effect.obtained.map(|obtained| obtained.result).or_else(|| context.current.cloned());
        let event = write_event(connection, around, analysis, kind, result, context.now)?;
        changes.push(Change::Event(analysis.tenant.clone()));
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
    let position = feed::next(connection, &analysis.tenant)?;
    connection
        .prepare_cached(
            "INSERT INTO events (id, tenant, call_id, kind, at, body, position) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            event.id.to_string(),
            event.tenant.as_str(),
            event.call_id.as_str(),
            event.kind.as_str(),
            event.at.as_millis(),
            &event.body[..],
            position.number(),
        ])?;
    Ok((connection.last_insert_rowid(), event))
}

fn context<'a>(
    around: &'a Surroundings,
    current: Option<&'a AnalysisResult>,
    pace: Option<Pace>,
) -> Context<'a> {
    Context {
        now: around.clock.now(),
        policy: &around.policy,
        jitter: around.entropy.fraction(),
        current,
        pace,
    }
}

fn find_row(
    connection: &Connection,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<Option<(i64, StoredAnalysis)>, StoreError> {
    let found = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM analyses WHERE tenant = ? AND call_id = ?"))?
        .query_row(params![tenant.as_str(), call_id.as_str()], |row| Ok((row.get("id")?, read(row)?)))
        .optional()?;
    let Some((row, analysis)) = found else { return Ok(None) };
    let result = if analysis.revision > 0 { result(connection, row)? } else { None };
    Ok(Some((row, StoredAnalysis { analysis, result })))
}

fn result(connection: &Connection, row: i64) -> Result<Option<AnalysisResult>, StoreError> {
    let text: Option<String> = connection
        .prepare_cached("SELECT result FROM results WHERE analysis = ?")?
        .query_row([row], |row| row.get(0))
        .optional()?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| StoreError::Corrupt(error.to_string())))
        .transpose()
}

/// The new row's number; `None` if the tenant has the call already.
fn insert(connection: &Connection, analysis: &Analysis) -> Result<Option<i64>, StoreError> {
    let named = [text(analysis.tenant.as_str()), text(analysis.call_id.as_str())];
    let submitted_at = Value::from(analysis.submitted_at.as_millis());
    let inserted = connection
        .prepare_cached(
            "INSERT INTO analyses (tenant, call_id, submitted_at, status, revision, finished_at, metadata, failure, \
             last_error, trace, stage, due_at, started_at, accepted_at, polls, errors, etag, empty_since, missing_since, \
             denied_since) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (tenant, call_id) DO NOTHING",
        )?
        .execute(params_from_iter(
            named.into_iter().chain([submitted_at]).chain(state(analysis)?).chain(work(analysis)),
        ))?;
    Ok((inserted > 0).then(|| connection.last_insert_rowid()))
}

/// Writes an analysis back. `with_work` also writes the work and ends the lease: a submission that only changes
/// metadata must leave both to the worker that holds them.
fn update(connection: &Connection, row: i64, analysis: &Analysis, with_work: bool) -> Result<(), StoreError> {
    let state = state(analysis)?.into_iter();
    let row = [Value::from(row)];
    if with_work {
        connection
            .prepare_cached(
                "UPDATE analyses SET status = ?, revision = ?, finished_at = ?, metadata = ?, failure = ?, \
                 last_error = ?, trace = ?, stage = ?, due_at = ?, started_at = ?, accepted_at = ?, polls = ?, \
                 errors = ?, etag = ?, empty_since = ?, missing_since = ?, denied_since = ?, leased = false WHERE id = ?",
            )?
            .execute(params_from_iter(state.chain(work(analysis)).chain(row)))?;
    } else {
        connection
            .prepare_cached(
                "UPDATE analyses SET status = ?, revision = ?, finished_at = ?, metadata = ?, failure = ?, \
                 last_error = ?, trace = ? WHERE id = ?",
            )?
            .execute(params_from_iter(state.chain(row)))?;
    }
    Ok(())
}
