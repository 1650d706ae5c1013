//! Submissions: new analyses, and changes of existing analyses.

use futures_util::future::try_join_all;

use super::analysis_rows::{COLUMNS, CallKey, StoredAnalysis, read, read_facts, read_metadata, state, work};
use super::claims::Queue;
use super::rules::{PIPELINED, Raced, Rule, Transaction};
use super::sql::{Sql, sql};
use super::values::{Value, values};
use super::{Change, StoreError, attributes, callbacks, deletion, events, transitions, usage};
use crate::domain::analysis::{Analysis, Submission, SubmittedData, VendorResult};
use crate::domain::attributes::Attribute;
use crate::domain::call_facts::CallFacts;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::learned_answers::LearnedAnswers;
use crate::domain::trace::TraceContext;
use crate::domain::usage::Usage;

/// Creates the analysis of a new call, or changes the existing one.
pub(super) struct Submit {
    pub(super) tenant: TenantId,
    pub(super) submission: Submission,
}

/// Inserts an analysis, unless the tenant already has the call. [`inserted`] returns the parameters.
const INSERT: &str = "INSERT INTO analyses (tenant, call_id, submitted_at, status, revision, finished_at, metadata, failure, \
     last_error, last_reanalysis, refreshed_at, trace, call_facts, stage, due_at, started_at, sent_at, submits, accepted_at, polls, \
     errors, etag, empty_since, missing_since, denied_since, shapes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, \
     ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26) \
     ON CONFLICT (tenant, call_id) DO NOTHING";

const CALLBACK_OF_INSERTED: &str = " RETURNING id), callback AS (INSERT INTO callbacks (analysis, url, payload, transform) \
     SELECT id, CAST(?27 AS text), CAST(?28 AS text), CAST(?29 AS text) FROM inserted WHERE CAST(?27 AS text) IS NOT NULL)";

/// Inserts an analysis and the callback in `?27` to `?29`, which may be NULL. Only PostgreSQL uses this statement.
static INSERT_WITH_CALLBACK: Sql =
    Sql::per_engine(&[], &["WITH inserted AS (", INSERT, CALLBACK_OF_INSERTED, " SELECT id FROM inserted"]);

/// Inserts an analysis, its callback, and the attributes in `?30`.
static INSERT_WITH_ATTRIBUTES: Sql = Sql::per_engine(
    &[],
    &[
        "WITH inserted AS (",
        INSERT,
        CALLBACK_OF_INSERTED,
        ", ",
        attributes::ADD_TO_INSERTED,
        " SELECT id FROM inserted",
    ],
);

impl Rule for Submit {
    const NAME: &'static str = "submit";
    type Output = StoredAnalysis;

    /// If the call is new, as most calls are, inserts the analysis, its callback and its attributes with one statement.
    async fn shortcut<T: Transaction>(&self, transaction: &T) -> Result<Option<StoredAnalysis>, StoreError> {
        let analysis = begin(transaction, &self.tenant, &self.submission);
        let callback = self.submission.callback.as_ref();
        let callback = callback.map(|callback| callbacks::sealed(transaction.env(), &analysis, callback));
        let mut values = inserted(&analysis)?;
        values.extend(callback.as_ref().map_or([const { Value::Null }; 3], callbacks::content));
        let attributes = Attribute::of(&analysis);
        let insert = if attributes.is_empty() {
            &INSERT_WITH_CALLBACK
        } else {
            values.push(attributes::to_json(&attributes)?.into());
            &INSERT_WITH_ATTRIBUTES
        };
        if transaction.find(insert, &values, |_| Ok(())).await?.is_none() {
            return Ok(None);
        }
        drop(values);
        created(transaction, analysis).await.map(Some)
    }

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<StoredAnalysis, StoreError> {
        let analysis = begin(transaction, &self.tenant, &self.submission);
        let Some(row) = insert(transaction, &analysis).await? else {
            let found = resubmit(transaction, &self.tenant, &self.submission).await?;
            usage::count(transaction, &found.analysis, Usage::submission()).await?;
            return Ok(found);
        };
        if let Some(callback) = &self.submission.callback {
            callbacks::add(transaction, row, &analysis, callback).await?;
        }
        attributes::add(transaction, &[(row, &analysis)]).await?;
        created(transaction, analysis).await
    }
}

/// Submits calls in order, all of them or none.
pub(super) struct SubmitAll {
    pub(super) tenant: TenantId,
    pub(super) submissions: Vec<Submission>,
}

impl Rule for SubmitAll {
    const NAME: &'static str = "submit_all";
    type Output = Vec<StoredAnalysis>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Vec<StoredAnalysis>, StoreError> {
        // Rows are inserted and then locked in the order of the calls, so two batches cannot deadlock. The first
        // submission of a call precedes its repetitions.
        let mut order: Vec<usize> = (0..self.submissions.len()).collect();
        order.sort_by_key(|index| &self.submissions[*index].call_id);
        let mut first = order.clone();
        first.dedup_by_key(|index| &self.submissions[*index].call_id);
        let now = transaction.env().clock.now();
        let begin =
            |index: &usize| Analysis::begin(self.tenant.clone(), self.submissions[*index].clone(), now);
        let analyses: Vec<_> = first.iter().map(begin).collect();
        let rows = transaction.insert_analyses(&analyses).await?;
        let inserted = rows.iter().zip(&analyses).filter_map(|(row, analysis)| Some(((*row)?, analysis)));
        attributes::add(transaction, &inserted.collect::<Vec<_>>()).await?;
        let mut stored = vec![None; self.submissions.len()];
        let mut added = Vec::new();
        for ((index, analysis), row) in first.into_iter().zip(analyses).zip(rows) {
            let Some(row) = row else { continue };
            if let Some(callback) = &self.submissions[index].callback {
                added.push((row, callbacks::sealed(transaction.env(), &analysis, callback)));
            }
            stored[index] = Some(StoredAnalysis { analysis, result: None });
        }
        if stored.iter().any(Option::is_some) {
            transaction.notify(Change::Work(Queue::Submits));
        }
        let added: Vec<_> = added.iter().map(|(row, callback)| callbacks::added(*row, callback)).collect();
        transaction.execute_each(&callbacks::ADD, &added).await?;
        let mut left: Vec<usize> = order.into_iter().filter(|index| stored[*index].is_none()).collect();
        while !left.is_empty() {
            // A round has the next submission of each call. Submissions of different calls do not depend on each other.
            let mut previous = None;
            let (round, later): (Vec<_>, Vec<_>) = left.into_iter().partition(|index| {
                let call_id = &self.submissions[*index].call_id;
                previous.replace(call_id) != Some(call_id)
            });
            for indexes in round.chunks(PIPELINED) {
                let resubmit = |index: &usize| resubmit(transaction, &self.tenant, &self.submissions[*index]);
                let resubmitted = try_join_all(indexes.iter().map(resubmit)).await?;
                indexes.iter().zip(resubmitted).for_each(|(index, found)| stored[*index] = Some(found));
            }
            left = later;
        }
        let stored: Vec<StoredAnalysis> = stored.into_iter().flatten().collect();
        let mut total = Usage::default();
        for found in &stored {
            total += Usage::submission();
            usage::count_by_fact(transaction, &found.analysis, Usage::submission()).await?;
        }
        transaction.count_usage(&self.tenant, total).await?;
        Ok(stored)
    }
}

fn begin(transaction: &impl Transaction, tenant: &TenantId, submission: &Submission) -> Analysis {
    Analysis::begin(tenant.clone(), submission.clone(), transaction.env().clock.now())
}

async fn created(transaction: &impl Transaction, analysis: Analysis) -> Result<StoredAnalysis, StoreError> {
    usage::count(transaction, &analysis, Usage::submission()).await?;
    transaction.notify(Change::Work(Queue::Submits));
    Ok(StoredAnalysis { analysis, result: None })
}

/// Changes the existing analysis of a call according to a submission.
async fn resubmit(
    transaction: &impl Transaction,
    tenant: &TenantId,
    submission: &Submission,
) -> Result<StoredAnalysis, StoreError> {
    let select = sql!("SELECT ", COLUMNS, " FROM analyses WHERE tenant = ?1 AND call_id = ?2 FOR UPDATE");
    let call = values![tenant, &submission.call_id];
    let found = transaction.find(select, call, |row| Ok((row.get::<i64>("id")?, read(row)?))).await?;
    // Another transaction deleted the analysis after the insert conflicted.
    let (row, mut analysis) = found.ok_or(Raced)?;
    let result = if analysis.revision > 0 { transitions::result(transaction, row).await? } else { None };
    let before = analysis.clone();
    analysis.resubmitted(submission, transaction.env().clock.now());
    if analysis != before {
        let with_work = analysis.work != before.work;
        transitions::update(transaction, row, &analysis, with_work).await?;
        attributes::replace(transaction, row, &analysis, &before).await?;
        transitions::notify(transaction, &analysis, before.status.is_finished());
        if with_work {
            transaction.notify(Change::Work(Queue::Submits));
        }
    }
    if let Some(callback) = &submission.callback
        && let Some(callback) = callbacks::add(transaction, row, &analysis, callback).await?
        && analysis.status.is_finished()
        && !analysis.is_under_way()
    {
        events::announce_latest(transaction, &analysis, callback).await?;
    }
    Ok(StoredAnalysis { analysis, result })
}

/// Reads the current metadata and facts of a call.
pub(super) struct FindSubmittedData(pub(super) CallKey);

impl Rule for FindSubmittedData {
    const NAME: &'static str = "find_submitted_data";
    type Output = Option<SubmittedData>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<SubmittedData>, StoreError> {
        let Self(CallKey(tenant, call_id)) = self;
        let select = sql!("SELECT metadata, call_facts FROM analyses WHERE tenant = ?1 AND call_id = ?2");
        transaction
            .find(select, values![tenant, call_id], |row| {
                Ok(SubmittedData { metadata: read_metadata(row)?, call: read_facts(row)? })
            })
            .await
    }
}

/// Stores the finished result of a call that was never submitted.
pub(super) struct Adopt {
    pub(super) tenant: TenantId,
    pub(super) call_id: CallId,
    pub(super) trace: TraceContext,
    pub(super) obtained: Box<VendorResult>,
}

impl Rule for Adopt {
    const NAME: &'static str = "adopt";
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<bool, StoreError> {
        let call_id = self.call_id.clone();
        let submission = Submission {
            call_id,
            callback: None,
            metadata: None,
            call: CallFacts::default(),
            reanalyze: false,
            trace: self.trace,
        };
        let mut analysis = begin(transaction, &self.tenant, &submission);
        let nothing = LearnedAnswers::nothing();
        let context = transitions::context(transaction, None, None, &nothing);
        let effect = analysis.adopt(self.obtained.clone(), &context);
        let Some(row) = insert(transaction, &analysis).await? else { return Ok(false) };
        // This check follows the insert, which waits for a simultaneous deletion.
        if deletion::was_deleted(transaction, &self.tenant, &self.call_id).await? {
            transaction.execute(sql!("DELETE FROM analyses WHERE id = ?1"), values![row]).await?;
            return Ok(false);
        }
        transaction.count_usage(&self.tenant, Usage::step(1, effect.event)).await?;
        transitions::notify(transaction, &analysis, false);
        transitions::follow(transaction, row, &analysis, effect, &context).await?;
        // The adopted analysis still has a poll for late tags.
        transaction.notify(Change::Work(Queue::Polls));
        Ok(true)
    }
}

/// Inserts an analysis and returns the number of its row. Returns `None` if the tenant already has the call.
pub(super) async fn insert(
    transaction: &impl Transaction,
    analysis: &Analysis,
) -> Result<Option<i64>, StoreError> {
    static STATEMENT: Sql = Sql::insert("id", &[INSERT]);
    transaction.insert(&STATEMENT, &inserted(analysis)?).await
}

fn inserted(analysis: &Analysis) -> Result<Vec<Value<'_>>, StoreError> {
    let mut values = Vec::with_capacity(30);
    values.extend([(&analysis.tenant).into(), (&analysis.call_id).into(), analysis.submitted_at.into()]);
    values.extend(state(analysis)?);
    values.extend(work(analysis));
    Ok(values)
}
