//! Applies transitions to analyses and writes their effects.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join;

use super::analysis_rows::{COLUMNS, read, state, work};
use super::claims::{Lease, Leased, Queue};
use super::paces::{find_pace, save_pace};
use super::rules::{Rule, Transaction};
use super::sql::{Sql, sql};
use super::unreadable::postpone_analysis;
use super::values::{Row, json, values};
use super::{Change, StoreError, events, learned_answers, usage};
use crate::domain::analysis::{Analysis, AnalysisResult, MissingContent, Stage};
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::ids::TenantId;
use crate::domain::learned_answers::LearnedAnswers;
use crate::domain::lifecycle::{Confirmation, Context, Effect, Step};
use crate::domain::pace::Pace;
use crate::domain::usage::Usage;
use crate::domain::vendor_token::TokenFingerprint;

/// The outcome of a transition of an analysis.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The analysis after the step.
    pub analysis: Analysis,
    /// The event that the step wrote, if any.
    pub event: Option<EventKind>,
    /// Number of polls in the analysis round of this step.
    pub polls: u32,
    /// Earliest start of a probe for unknown calls, if the step needs one.
    pub probe: Option<Timestamp>,
    /// New state of a submit whose outcome was unknown, if the step changed the state.
    pub confirmation: Option<Confirmation>,
    /// Content that the new result lacks. Therefore the new result did not replace the stored result.
    pub discarded: Option<MissingContent>,
}

/// Analyses that failed because their deadline passed.
#[derive(Debug, Clone)]
pub struct OverdueFailures {
    /// The failed analyses.
    pub applied: Vec<Applied>,
    /// Time when the next deadline passes, among the analyses of the given tenants.
    pub next_due: Option<Timestamp>,
}

/// Applies the outcome of claimed work, and ends the lease.
#[derive(Clone)]
pub(super) struct Apply {
    pub(super) lease: Lease,
    pub(super) step: Arc<Step>,
}

impl Rule for Apply {
    const NAME: &'static str = "apply";
    type Output = Applied;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Applied, StoreError> {
        let Self { lease, step } = self;
        let select =
            sql!("SELECT ", COLUMNS, " FROM analyses WHERE id = ?1 AND fence = ?2 AND leased FOR UPDATE");
        let analysis = transaction.find(select, values![lease.row, lease.fence], |row| read(row)).await?;
        let analysis = analysis.ok_or(StoreError::LeaseLost)?;
        let (polled, account) = match &**step {
            Step::Submitted(_) => (0, None),
            Step::Polled(_) => (1, None),
            Step::Answered(_, answer) => (1, Some(answer.account)),
        };
        let polls = analysis.work.as_ref().map_or(0, |work| work.polls) + polled;
        let step =
            |analysis: &mut Analysis, context: &Context<'_>| analysis.apply(Step::clone(step), context);
        let applied = transition(transaction, lease.row, analysis, account, step).await?;
        let applied = Applied { polls, ..applied };
        let analysis = &applied.analysis;
        transaction.end_lease(Leased::Analysis, *lease);
        usage::count(transaction, analysis, Usage::step(polled.into(), applied.event)).await?;
        if let Some(stage) = analysis.work.as_ref().map(|work| work.stage) {
            let queue = if stage == Stage::Submit { Queue::Submits } else { Queue::Polls };
            transaction.notify(Change::Work(queue));
        }
        Ok(applied)
    }
}

/// Fails analyses that are past their deadline and not leased.
pub(super) struct FailOverdue {
    pub(super) tenants: Vec<TenantId>,
    pub(super) limit: usize,
}

/// Selects overdue analyses. Parameters: the tenant, the latest start of an overdue analysis, the present time, and the
/// maximum number of rows. Leased work is due after the present time, so it is not selected.
pub(super) static OVERDUE: Sql = Sql::new(&[
    "SELECT ",
    COLUMNS,
    " FROM analyses WHERE stage <> 'settle' AND tenant = ?1 AND started_at <= ?2 AND due_at <= ?3 \
     ORDER BY started_at LIMIT ?4 FOR UPDATE SKIP LOCKED",
]);

/// Reads the earliest start of an analysis that is not overdue yet. Parameters: the tenant, and the cut-off: an analysis that
/// started at this time or before is overdue.
pub(super) static NEXT_START: Sql = Sql::new(&[
    "SELECT started_at FROM analyses WHERE stage <> 'settle' AND tenant = ?1 AND started_at > ?2 \
     ORDER BY started_at LIMIT 1",
]);

impl Rule for FailOverdue {
    const NAME: &'static str = "fail_overdue";
    type Output = OverdueFailures;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<OverdueFailures, StoreError> {
        let (now, deadline) = (transaction.env().clock.now(), transaction.policy().deadline);
        let too_long_ago = before(now, deadline);
        let mut failures = OverdueFailures { applied: Vec::new(), next_due: None };
        for tenant in &self.tenants {
            let left = self.limit.saturating_sub(failures.applied.len());
            let overdue =
                transaction.query(&OVERDUE, values![tenant, too_long_ago, now, left], numbered).await?;
            for (row, analysis) in overdue {
                let expire = async {
                    let analysis = analysis?;
                    let polls = analysis.work.as_ref().map_or(0, |work| work.polls);
                    let applied = transition(transaction, row, analysis, None, Analysis::expire).await?;
                    Ok(Applied { polls, ..applied })
                };
                match expire.await {
                    Ok(applied) => {
                        usage::count(transaction, &applied.analysis, Usage::step(0, applied.event)).await?;
                        failures.applied.push(applied);
                    }
                    // A transition reads all that it needs before it writes, so it has written nothing.
                    Err(StoreError::Corrupt(_)) => postpone_analysis(transaction, row).await?,
                    Err(error) => return Err(error),
                }
            }
            let started = values![tenant, too_long_ago];
            let next = transaction.find(&NEXT_START, started, |row| row.get("started_at")).await?;
            let due = next.map(|started_at: Timestamp| started_at + deadline);
            failures.next_due = failures.next_due.into_iter().chain(due).min();
        }
        Ok(failures)
    }
}

fn before(now: Timestamp, duration: Duration) -> i64 {
    now.as_millis().saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn numbered(row: &dyn Row) -> Result<(i64, Result<Analysis, StoreError>), StoreError> {
    Ok((row.get("id")?, read(row)))
}

/// Runs a transition on a locked row, writes its effects, and ends the lease. `account` identifies the token whose learned
/// answers the transition uses. `account` is `None` if the transition uses no learned answers.
async fn transition(
    transaction: &impl Transaction,
    row: i64,
    mut analysis: Analysis,
    account: Option<TokenFingerprint>,
    step: impl FnOnce(&mut Analysis, &Context<'_>) -> Effect + Send,
) -> Result<Applied, StoreError> {
    let was_finished = analysis.status.is_finished();
    let current = if analysis.revision > 0 { result(transaction, row).await? } else { None };
    let (pace, learned) = try_join(
        find_pace(transaction, &analysis.tenant),
        learned_answers::find(transaction, &analysis.tenant, account),
    )
    .await?;
    let answers = learned.answers();
    let context = context(transaction, current.as_ref(), pace, &answers);
    let effect = step(&mut analysis, &context);
    update(transaction, row, &analysis, true).await?;
    if let Some(learned) = effect.pace {
        save_pace(transaction, &analysis.tenant, learned, pace.is_none()).await?;
    }
    if effect.obtained.is_some() {
        learned.learn(transaction, &analysis.tenant, &effect.pending).await?;
    }
    let (event, probe, confirmation) = (effect.event, effect.probe, effect.confirmation);
    let discarded = effect.discarded;
    notify(transaction, &analysis, was_finished);
    follow(transaction, row, &analysis, effect, &context).await?;
    Ok(Applied { analysis, event, polls: 0, probe, confirmation, discarded })
}

/// Returns the context of a transition.
pub(super) fn context<'a>(
    transaction: &'a impl Transaction,
    current: Option<&'a AnalysisResult>,
    pace: Option<Pace>,
    learned: &'a LearnedAnswers,
) -> Context<'a> {
    let env = transaction.env();
    let (now, jitter) = (env.clock.now(), env.entropy.fraction());
    Context { now, policy: transaction.policy(), jitter, current, pace, learned }
}

/// Announces that an analysis changed. Only finished analyses are cached.
pub(super) fn notify(transaction: &impl Transaction, analysis: &Analysis, was_finished: bool) {
    let change = Change::Analysis(analysis.tenant.clone(), analysis.call_id.clone());
    if was_finished { transaction.invalidate(change) } else { transaction.notify(change) }
}

/// Writes the effects of a transition besides the row itself: the result, the event and its deliveries. Without a new result, the
/// event contains the stored result.
pub(super) async fn follow(
    transaction: &impl Transaction,
    row: i64,
    analysis: &Analysis,
    effect: Effect,
    context: &Context<'_>,
) -> Result<(), StoreError> {
    if let Some(obtained) = &effect.obtained {
        let upsert = sql!(
            "INSERT INTO results (analysis, result, vendor_answer) VALUES (?1, ?2, ?3) ON CONFLICT (analysis) \
             DO UPDATE SET result = excluded.result, vendor_answer = excluded.vendor_answer"
        );
        let values = values![row, json(&obtained.result)?, &obtained.vendor_answer[..]];
        transaction.execute(upsert, values).await?;
        transaction.index(row, &analysis.tenant, &obtained.result).await?;
    }
    if let Some(kind) = effect.event {
        let result = effect.obtained.map(|obtained| obtained.result).or_else(|| context.current.cloned());
        events::announce(transaction, row, analysis, kind, result, context.now).await?;
    }
    Ok(())
}

/// Reads the result of an analysis.
pub(super) async fn result(
    transaction: &impl Transaction,
    row: i64,
) -> Result<Option<AnalysisResult>, StoreError> {
    let select = sql!("SELECT result FROM results WHERE analysis = ?1");
    transaction.find(select, values![row], |row| row.json("result")).await
}

/// Assigns the call facts. A row that an earlier version inserted has NULL, which means that its attributes are not written yet.
/// Such a row keeps NULL if there are still no facts.
const KEPT_FACTS: &str = "call_facts = CASE WHEN call_facts IS NULL THEN nullif(?11, '{}') ELSE ?11 END";

/// Writes an analysis back. With `with_work`, also writes the work and ends the lease. A submission that only changes
/// metadata or call facts leaves the work and the lease to the worker that holds the lease.
pub(super) async fn update(
    transaction: &impl Transaction,
    row: i64,
    analysis: &Analysis,
    with_work: bool,
) -> Result<(), StoreError> {
    let mut values = Vec::with_capacity(24);
    values.push(row.into());
    values.extend(state(analysis)?);
    let update = if with_work {
        values.extend(work(analysis));
        sql!(
            "UPDATE analyses SET status = ?2, revision = ?3, finished_at = ?4, metadata = ?5, failure = ?6, \
             last_error = ?7, last_reanalysis = ?8, refreshed_at = ?9, trace = ?10, ",
            KEPT_FACTS,
            ", stage = ?12, \
             due_at = ?13, started_at = ?14, sent_at = ?15, submits = ?16, accepted_at = ?17, polls = ?18, errors = ?19, \
             etag = ?20, empty_since = ?21, missing_since = ?22, denied_since = ?23, shapes = ?24, leased = FALSE WHERE id = ?1"
        )
    } else {
        sql!(
            "UPDATE analyses SET status = ?2, revision = ?3, finished_at = ?4, metadata = ?5, failure = ?6, \
             last_error = ?7, last_reanalysis = ?8, refreshed_at = ?9, trace = ?10, ",
            KEPT_FACTS,
            " WHERE id = ?1"
        )
    };
    transaction.execute(update, &values).await?;
    Ok(())
}
