//! Analyses, their results, and the events that come of them.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::Transaction;

use super::super::changes::Changes;
use super::super::{AnalysisStore, Applied, Lease, Queue, StoreError, StoredAnalysis, Surroundings};
use super::connect::Session;
use super::fault::Fault;
use super::notices::Address;
use super::rows::{COLUMNS, Parameter, Written, json, read};
use super::{PostgresStore, batches, deletion, deliveries, listings, paces};
use crate::domain::analysis::{Analysis, AnalysisResult, Stage, Submission, VendorResult};
use crate::domain::audit::Actor;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::Timestamp;
use crate::domain::events::{Event, EventKind};
use crate::domain::ids::{CallId, TenantId};
use crate::domain::lifecycle::{Context, Effect, Step};
use crate::domain::listing::{AnalysisQuery, ListedAnalysis};
use crate::domain::pace::Pace;
use crate::domain::resource::AnalysisResource;
use crate::domain::trace::TraceContext;
use crate::domain::usage::Usage;

/// Tenant, call, submission, then state and work; `None` if the tenant has the call already.
const INSERT: &str = "INSERT INTO analyses (tenant, call_id, submitted_at, status, revision, finished_at, metadata, \
     failure, last_error, trace, stage, due_at, started_at, accepted_at, polls, errors, etag, empty_since, \
     missing_since, denied_since) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
     $17, $18, $19, $20) ON CONFLICT (tenant, call_id) DO NOTHING RETURNING id";

/// The row, then state and work. Ends the lease.
const UPDATE: &str = "UPDATE analyses SET status = $2, revision = $3, finished_at = $4, metadata = $5, failure = $6, \
     last_error = $7, trace = $8, stage = $9, due_at = $10, started_at = $11, accepted_at = $12, polls = $13, \
     errors = $14, etag = $15, empty_since = $16, missing_since = $17, denied_since = $18, leased = false \
     WHERE id = $1";

/// The row, then state: a submission that only changes metadata leaves the work to the worker that holds it.
const UPDATE_STATE: &str = "UPDATE analyses SET status = $2, revision = $3, finished_at = $4, metadata = $5, \
     failure = $6, last_error = $7, trace = $8 WHERE id = $1";

#[async_trait]
impl AnalysisStore for PostgresStore {
    async fn submit(&self, tenant: &TenantId, submission: Submission) -> Result<StoredAnalysis, StoreError> {
        let (around, submission) = (&self.surroundings, &submission);
        let found = self.change(|session| submit(session, around, &self.address, tenant, submission)).await?;
        self.tally.count(tenant, self.now(), Usage::submission());
        Ok(found)
    }

    async fn submit_all(
        &self,
        tenant: &TenantId,
        submissions: Vec<Submission>,
    ) -> Result<Vec<StoredAnalysis>, StoreError> {
        let (around, submissions) = (&self.surroundings, &submissions);
        let found = self
            .change(|session| batches::submit(session, around, &self.address, tenant, submissions))
            .await?;
        found.iter().for_each(|_| self.tally.count(tenant, self.now(), Usage::submission()));
        Ok(found)
    }

    async fn adopt(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        trace: TraceContext,
        obtained: Box<VendorResult>,
    ) -> Result<bool, StoreError> {
        let (around, obtained) = (&self.surroundings, &obtained);
        let taken =
            self.change(|session| adopt(session, around, tenant, call_id, trace, obtained.clone())).await?;
        if taken {
            let usage = Usage::step(1, Some(EventKind::AnalysisCompleted));
            self.tally.count(tenant, self.now(), usage);
        }
        Ok(taken)
    }

    async fn find_analysis(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<StoredAnalysis>, StoreError> {
        self.run(|session| find(session, tenant, call_id)).await
    }

    async fn find_vendor_answer(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<Bytes>, StoreError> {
        self.run(|session| vendor_answer(session, tenant, call_id)).await
    }

    async fn list_analyses(
        &self,
        tenant: &TenantId,
        page: AnalysisQuery,
    ) -> Result<Vec<ListedAnalysis>, StoreError> {
        let page = &page;
        self.run(|session| listings::list(session, tenant, page)).await
    }

    async fn delete_analysis(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        actor: Actor,
    ) -> Result<bool, StoreError> {
        let (actor, tried) = (&actor, AtomicBool::new(false));
        self.change(|session| {
            let is_repeat = tried.swap(true, Ordering::Relaxed);
            deletion::delete(session, &self.address, tenant, call_id, (actor, is_repeat), self.now())
        })
        .await
    }

    async fn was_deleted(&self, tenant: &TenantId, call_id: &CallId) -> Result<bool, StoreError> {
        self.run(async |mut session| deletion::was_deleted(&*session.client()?, tenant, call_id).await).await
    }
}

pub(super) async fn submit(
    mut session: Session,
    around: &Surroundings,
    address: &Address,
    tenant: &TenantId,
    submission: &Submission,
) -> Result<(StoredAnalysis, Changes), Fault> {
    let client = session.client()?;
    let analysis = Analysis::begin(tenant.clone(), submission.clone(), around.clock.now());
    // Most calls are new: one statement inserts them, and tells if they are not.
    let insert = client
        .prepare_cached(&format!(
            "WITH fresh AS ({INSERT}), noted AS (INSERT INTO callbacks (analysis, url) SELECT id, $21::text FROM fresh \
             WHERE $21::text IS NOT NULL) SELECT id FROM fresh"
        ))
        .await?;
    let written = Written::new(&analysis)?;
    let callback = submission.callback.as_ref().map(CallbackUrl::as_str);
    let (tenant, call) = (tenant.as_str(), analysis.call_id.as_str());
    let submitted_at = analysis.submitted_at.as_millis();
    let parameters = inserted(&tenant, &call, &submitted_at, &written).chain([&callback as Parameter<'_>]);
    if client.query_opt(&insert, &parameters.collect::<Vec<_>>()).await?.is_some() {
        return Ok((StoredAnalysis { analysis, result: None }, Changes::work(Queue::Submits)));
    }
    let transaction = client.transaction().await?;
    let mut changes = Changes::default();
    let found = resubmit(&transaction, around, &analysis.tenant, submission, &mut changes).await?;
    changes.tell_within(&transaction, address).await?;
    transaction.commit().await?;
    Ok((found, changes))
}

/// A submission of what stands already.
pub(super) async fn resubmit(
    transaction: &Transaction<'_>,
    around: &Surroundings,
    tenant: &TenantId,
    submission: &Submission,
    changes: &mut Changes,
) -> Result<StoredAnalysis, Fault> {
    let standing = find_locked(transaction, tenant, &submission.call_id).await?;
    // Deleted between the two statements: the next try inserts it.
    let (row, mut found) = standing.ok_or(Fault::Raced)?;
    let (now, before) = (around.clock.now(), found.analysis.clone());
    found.analysis.resubmitted(submission, now);
    let analysis = &found.analysis;
    if *analysis != before {
        update(transaction, row, analysis, analysis.work != before.work).await?;
        changes.analysis(analysis, before.status.is_finished());
        if analysis.work != before.work {
            changes.add_work(Queue::Submits);
        }
    }
    if let Some(url) = &submission.callback
        && deliveries::add_callback(transaction, row, url).await?
        && analysis.status.is_finished()
        && !analysis.is_under_way()
    {
        deliveries::announce_latest(transaction, around, analysis, url).await?;
        changes.add_delivery();
    }
    Ok(found)
}

pub(super) async fn adopt(
    mut session: Session,
    around: &Surroundings,
    tenant: &TenantId,
    call_id: &CallId,
    trace: TraceContext,
    obtained: Box<VendorResult>,
) -> Result<(bool, Changes), Fault> {
    let transaction = session.client()?.transaction().await?;
    let submission =
        Submission { call_id: call_id.clone(), callback: None, metadata: None, reanalyze: false, trace };
    let mut analysis = Analysis::begin(tenant.clone(), submission, around.clock.now());
    let context = context(around, None, None);
    let effect = analysis.adopt(obtained, &context);
    let Some(row) = insert(&transaction, &analysis).await? else {
        return Ok((false, Changes::default()));
    };
    // After the insert, which has waited for a deletion under way. What was inserted goes with the transaction.
    if deletion::was_deleted(&transaction, tenant, call_id).await? {
        return Ok((false, Changes::default()));
    }
    let mut changes = Changes::default();
    changes.analysis(&analysis, false);
    follow(&transaction, around, row, &analysis, effect, &context, &mut changes).await?;
    transaction.commit().await?;
    // The look that catches late tags.
    changes.add_work(Queue::Polls);
    Ok((true, changes))
}

pub(super) async fn find(
    mut session: Session,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<Option<StoredAnalysis>, Fault> {
    let client = session.client()?;
    // One statement, and so one moment.
    let find = client
        .prepare_cached(&format!(
            "SELECT {COLUMNS}, result FROM analyses LEFT JOIN results ON results.analysis = analyses.id \
             WHERE tenant = $1 AND call_id = $2"
        ))
        .await?;
    let Some(row) = client.query_opt(&find, &[&tenant.as_str(), &call_id.as_str()]).await? else {
        return Ok(None);
    };
    let analysis = read(&row)?;
    let result = if analysis.revision > 0 { super::rows::from_json(&row, "result")? } else { None };
    Ok(Some(StoredAnalysis { analysis, result }))
}

pub(super) async fn vendor_answer(
    mut session: Session,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<Option<Bytes>, Fault> {
    let client = session.client()?;
    let find = client
        .prepare_cached(
            "SELECT vendor_answer FROM results JOIN analyses ON analyses.id = results.analysis \
             WHERE tenant = $1 AND call_id = $2",
        )
        .await?;
    let row = client.query_opt(&find, &[&tenant.as_str(), &call_id.as_str()]).await?;
    Ok(row.map(|row| row.try_get::<_, Vec<u8>>(0)).transpose()?.map(Bytes::from))
}

pub(super) async fn apply(
    mut session: Session,
    around: &Surroundings,
    address: &Address,
    lease: Lease,
    step: Step,
) -> Result<(Applied, Changes), Fault> {
    let transaction = session.client()?.transaction().await?;
    let select = transaction
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM analyses WHERE id = $1 AND fence = $2 AND leased FOR UPDATE"
        ))
        .await?;
    let row =
        transaction.query_opt(&select, &[&lease.row, &lease.fence]).await?.ok_or(StoreError::LeaseLost)?;
    let analysis = read(&row)?;
    let polls =
        analysis.work.as_ref().map_or(0, |work| work.polls) + u32::from(matches!(step, Step::Polled(_)));
    let step = |analysis: &mut Analysis, context: &Context<'_>| analysis.apply(step, context);
    let mut changes = Changes::default();
    let (analysis, event) = transition(&transaction, around, lease.row, analysis, step, &mut changes).await?;
    changes.tell_within(&transaction, address).await?;
    transaction.commit().await?;
    if let Some(stage) = analysis.work.as_ref().map(|work| work.stage) {
        changes.add_work(if stage == Stage::Submit { Queue::Submits } else { Queue::Polls });
    }
    Ok((Applied { analysis, event, polls }, changes))
}

/// Takes the row through a transition and writes all that follows from it; also ends its lease. Gives the analysis as
/// it stands now, and what was announced.
pub(super) async fn transition(
    transaction: &Transaction<'_>,
    around: &Surroundings,
    row: i64,
    mut analysis: Analysis,
    step: impl FnOnce(&mut Analysis, &Context<'_>) -> Effect + Send,
    changes: &mut Changes,
) -> Result<(Analysis, Option<EventKind>), Fault> {
    let was_finished = analysis.status.is_finished();
    let current = if analysis.revision > 0 { result(transaction, row).await? } else { None };
    let pace = paces::find(transaction, &analysis.tenant).await?;
    let context = context(around, current.as_ref(), pace);
    let effect = step(&mut analysis, &context);
    update(transaction, row, &analysis, true).await?;
    if let Some(learned) = effect.pace {
        paces::keep(transaction, &analysis.tenant, learned, pace.is_none()).await?;
    }
    let event = effect.event;
    changes.analysis(&analysis, was_finished);
    follow(transaction, around, row, &analysis, effect, &context, changes).await?;
    Ok((analysis, event))
}

/// Writes what a transition wants besides the row itself: the result, the event, its deliveries. The event tells
/// of the result held before if there is no new one.
async fn follow(
    transaction: &Transaction<'_>,
    around: &Surroundings,
    row: i64,
    analysis: &Analysis,
    effect: Effect,
    context: &Context<'_>,
    changes: &mut Changes,
) -> Result<(), Fault> {
    if let Some(obtained) = &effect.obtained {
        let upsert = transaction
            .prepare_cached(
                "INSERT INTO results (analysis, result, vendor_answer) VALUES ($1, $2, $3) ON CONFLICT (analysis) \
                 DO UPDATE SET result = excluded.result, vendor_answer = excluded.vendor_answer",
            )
            .await?;
        let result = json(&obtained.result)?;
        transaction.execute(&upsert, &[&row, &result, &&obtained.vendor_answer[..]]).await?;
        listings::keep(transaction, row, &analysis.tenant, &obtained.result).await?;
    }
    if let Some(kind) = effect.event {
        let result = effect.obtained.map(|obtained| obtained.result).or_else(|| context.current.cloned());
        let event = write_event(transaction, around, analysis, kind, result, context.now).await?;
        changes.add_event(&analysis.tenant);
        if deliveries::announce(transaction, around, row, &event, analysis.trace).await? {
            changes.add_delivery();
        }
    }
    Ok(())
}

async fn write_event(
    transaction: &Transaction<'_>,
    around: &Surroundings,
    analysis: &Analysis,
    kind: EventKind,
    result: Option<AnalysisResult>,
    now: Timestamp,
) -> Result<(i64, Event), Fault> {
    let resource = AnalysisResource::new(analysis, result);
    let event = Event::new(kind, analysis.tenant.clone(), &resource, now, &*around.entropy)
        .map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let insert = transaction
        .prepare_cached(
            "INSERT INTO events (id, tenant, call_id, kind, at, body) VALUES ($1, $2, $3, $4, $5, $6) RETURNING seq",
        )
        .await?;
    let row = transaction
        .query_one(
            &insert,
            &[
                &event.id.to_string(),
                &event.tenant.as_str(),
                &event.call_id.as_str(),
                &event.kind.as_str(),
                &event.at.as_millis(),
                &&event.body[..],
            ],
        )
        .await?;
    Ok((row.try_get(0)?, event))
}

fn context<'a>(
    around: &'a Surroundings,
    current: Option<&'a AnalysisResult>,
    pace: Option<Pace>,
) -> Context<'a> {
    let (now, jitter) = (around.clock.now(), around.entropy.fraction());
    Context { now, policy: &around.policy, jitter, current, pace }
}

/// The analysis of a call, which nobody else changes until the transaction ends.
async fn find_locked(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<Option<(i64, StoredAnalysis)>, Fault> {
    let find = transaction
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM analyses WHERE tenant = $1 AND call_id = $2 FOR UPDATE"
        ))
        .await?;
    let Some(row) = transaction.query_opt(&find, &[&tenant.as_str(), &call_id.as_str()]).await? else {
        return Ok(None);
    };
    let (id, analysis) = (row.try_get("id")?, read(&row)?);
    let result = if analysis.revision > 0 { result(transaction, id).await? } else { None };
    Ok(Some((id, StoredAnalysis { analysis, result })))
}

async fn result(transaction: &Transaction<'_>, row: i64) -> Result<Option<AnalysisResult>, Fault> {
    let find = transaction.prepare_cached("SELECT result FROM results WHERE analysis = $1").await?;
    match transaction.query_opt(&find, &[&row]).await? {
        Some(row) => super::rows::from_json(&row, "result"),
        None => Ok(None),
    }
}

async fn insert(transaction: &Transaction<'_>, analysis: &Analysis) -> Result<Option<i64>, Fault> {
    let insert = transaction.prepare_cached(INSERT).await?;
    let written = Written::new(analysis)?;
    let (tenant, call) = (analysis.tenant.as_str(), analysis.call_id.as_str());
    let submitted_at = analysis.submitted_at.as_millis();
    let parameters: Vec<_> = inserted(&tenant, &call, &submitted_at, &written).collect();
    Ok(transaction.query_opt(&insert, &parameters).await?.map(|row| row.try_get(0)).transpose()?)
}

/// What [`INSERT`] is given.
fn inserted<'a>(
    tenant: &'a &str,
    call_id: &'a &str,
    submitted_at: &'a i64,
    written: &'a Written,
) -> impl Iterator<Item = Parameter<'a>> {
    [tenant as Parameter<'a>, call_id, submitted_at].into_iter().chain(written.state()).chain(written.work())
}

async fn update(
    transaction: &Transaction<'_>,
    row: i64,
    analysis: &Analysis,
    with_work: bool,
) -> Result<(), Fault> {
    let written = Written::new(analysis)?;
    let state = [&row as Parameter<'_>].into_iter().chain(written.state());
    if with_work {
        let update = transaction.prepare_cached(UPDATE).await?;
        transaction.execute(&update, &state.chain(written.work()).collect::<Vec<_>>()).await?;
    } else {
        let update = transaction.prepare_cached(UPDATE_STATE).await?;
        transaction.execute(&update, &state.collect::<Vec<_>>()).await?;
    }
    Ok(())
}
