//! Submissions: new analyses, and changes of existing analyses.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::analysis_rows::{
    COLUMNS, CallKey, NewAnalysis, StoredAnalysis, read, read_facts, read_metadata, state, work,
};
use super::claims::Queue;
use super::rules::{Grouped, PIPELINED, Raced, Rule, Transaction};
use super::sql::{Sql, sql};
use super::values::{Value, values};
use super::{Change, StoreError, attributes, callbacks, deletion, events, transitions, usage};
use crate::domain::analysis::{Analysis, Submission, SubmittedData, VendorResult};
use crate::domain::call_facts::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::learned_answers::LearnedAnswers;
use crate::domain::trace::TraceContext;
use crate::domain::usage::Usage;

/// Creates the analysis of a new call, or changes the existing one.
#[derive(Clone)]
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

impl Rule for Submit {
    const NAME: &'static str = "submit";
    type Output = StoredAnalysis;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<StoredAnalysis, StoreError> {
        let new = self.begin(transaction, transaction.env().clock.now());
        let submitted = if insert_new(transaction, &new).await? {
            transaction.notify(Change::Work(Queue::Submits));
            StoredAnalysis { analysis: new.analysis, result: None }
        } else {
            resubmit(transaction, &self.tenant, &self.submission).await?
        };
        usage::count(transaction, &submitted.analysis, Usage::submission()).await?;
        Ok(submitted)
    }
}

impl Grouped for Submit {
    type Group = SubmitNew;
    type Key = (TenantId, CallId);

    fn key(&self) -> Self::Key {
        (self.tenant.clone(), self.submission.call_id.clone())
    }

    fn size(&self) -> usize {
        0
    }

    fn group(rules: Vec<Arc<Self>>) -> SubmitNew {
        SubmitNew(rules)
    }
}

impl Submit {
    fn begin(&self, transaction: &impl Transaction, now: Timestamp) -> NewAnalysis {
        begin(transaction, (&self.tenant, &self.submission), now)
    }
}

/// Begins the analysis of a new call.
fn begin(
    transaction: &impl Transaction,
    (tenant, submission): (&TenantId, &Submission),
    now: Timestamp,
) -> NewAnalysis {
    let analysis = Analysis::begin(tenant.clone(), submission.clone(), now);
    let callback = submission.callback.as_ref();
    let callback = callback.map(|callback| callbacks::sealed(transaction.env(), &analysis, callback));
    NewAnalysis { analysis, callback }
}

/// Inserts an analysis, its callback and its attributes. Returns `false` if the tenant already has the call.
pub(super) async fn insert_new(
    transaction: &impl Transaction,
    new: &NewAnalysis,
) -> Result<bool, StoreError> {
    let Some(row) = insert(transaction, &new.analysis).await? else { return Ok(false) };
    if let Some(callback) = &new.callback {
        transaction.execute(&callbacks::ADD, &callbacks::added(row, callback)).await?;
    }
    attributes::add(transaction, &[(row, &new.analysis)]).await?;
    Ok(true)
}

/// Inserts the analyses of new calls. A call may be in the list only once. For a call that its tenant already has, the result is
/// `None`, and [`Submit`] must run.
pub(super) struct SubmitNew(pub(super) Vec<Arc<Submit>>);

impl Rule for SubmitNew {
    const NAME: &'static str = "submit_new";
    const IS_GROUP: bool = true;
    type Output = Vec<Option<StoredAnalysis>>;

    /// PostgreSQL inserts all analyses with one statement.
    async fn shortcut<T: Transaction>(&self, transaction: &T) -> Result<Option<Self::Output>, StoreError> {
        self.run(transaction).await.map(Some)
    }

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Self::Output, StoreError> {
        let now = transaction.env().clock.now();
        let new: Vec<_> = self.0.iter().map(|submit| submit.begin(transaction, now)).collect();
        let inserted = transaction.insert_new(&new).await?;
        let mut submitted = Vec::with_capacity(new.len());
        for (NewAnalysis { analysis, .. }, is_new) in new.into_iter().zip(inserted) {
            if is_new {
                transaction.notify(Change::Work(Queue::Submits));
                usage::count(transaction, &analysis, Usage::submission()).await?;
            }
            submitted.push(is_new.then_some(StoredAnalysis { analysis, result: None }));
        }
        Ok(submitted)
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
        let begin = |index: &usize| begin(transaction, (&self.tenant, &self.submissions[*index]), now);
        let new: Vec<_> = first.iter().map(begin).collect();
        let inserted = transaction.insert_new(&new).await?;
        let mut stored = vec![None; self.submissions.len()];
        for ((index, NewAnalysis { analysis, .. }), is_new) in first.into_iter().zip(new).zip(inserted) {
            stored[index] = is_new.then_some(StoredAnalysis { analysis, result: None });
        }
        if stored.iter().any(Option::is_some) {
            transaction.notify(Change::Work(Queue::Submits));
        }
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
        let mut analysis = Analysis::begin(self.tenant.clone(), submission, transaction.env().clock.now());
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
