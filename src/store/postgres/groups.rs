//! Group commit: writes that arrive while others are being written share the next transaction.

use std::any::{Any, TypeId};
use std::collections::{HashMap, HashSet, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::super::StoreError;
use super::super::engine::Engine;
use super::super::rules::{Grouped, Rule};
use super::PostgresStore;
use super::fault::Fault;

/// Maximum number of rules in one group. This limit bounds the duration of the transaction.
const MAX_GROUP: usize = 128;
/// Maximum size of a group ([`Grouped::size`]), in bytes. This limit bounds the duration of the transaction.
const MAX_BYTES: usize = 1 << 20;
/// A rule of this size runs alone, so that other rules do not wait for it.
const LARGE: usize = MAX_BYTES / 8;
/// Maximum number of groups that are written at the same time. While PostgreSQL commits one group, it writes another one.
const MAX_TRANSACTIONS: usize = 2;
/// The longest time that a rule waits for its group. After this time, the rule runs alone, so that slow groups do not delay it.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The outcome of a rule in a group. `None` means that the rule must run alone.
type Outcome<R> = Result<Option<<R as Rule>::Output>, StoreError>;

/// A rule that waits for its group.
struct Waiting<R: Rule> {
    rule: Arc<R>,
    answer: oneshot::Sender<Outcome<R>>,
}

/// The groups of each kind of rule.
#[derive(Default)]
pub(super) struct GroupsByRule(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl GroupsByRule {
    pub(super) fn of<R: Grouped>(&self) -> Arc<RuleGroups<R>> {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || -> Arc<dyn Any + Send + Sync> { Arc::new(RuleGroups::<R>::new()) };
        let found = Arc::clone(groups.entry(TypeId::of::<R>()).or_insert_with(new));
        // The key of the map is the type, so the fallback is never used.
        found.downcast().unwrap_or_else(|_| Arc::new(RuleGroups::new()))
    }
}

/// Rules of one kind that wait, and the transactions in progress.
pub(super) struct RuleGroups<R: Rule> {
    waiting: Mutex<VecDeque<Waiting<R>>>,
    transactions: Semaphore,
}

impl<R: Grouped> RuleGroups<R> {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), transactions: Semaphore::new(MAX_TRANSACTIONS) }
    }

    /// Runs a rule. The first caller that gets a free transaction writes the group. If the writing is cancelled, the rules of the
    /// group run alone.
    ///
    /// # Errors
    /// The errors of the rule.
    pub(super) async fn run(&self, store: &PostgresStore, rule: R) -> Result<R::Output, StoreError> {
        if rule.size() >= LARGE {
            return store.transact(rule).await;
        }
        let (rule, (answer, mut answered)) = (Arc::new(rule), oneshot::channel());
        self.waiting().push_back(Waiting { rule: Arc::clone(&rule), answer });
        let transaction = tokio::select! {
            biased;
            outcome = &mut answered => Err(outcome),
            transaction = timeout(MAX_WAIT, self.transactions.acquire()) => Ok(transaction.ok()),
        };
        let outcome = match transaction {
            Err(outcome) => outcome,
            Ok(transaction) => {
                let group = self.next(&rule, transaction.is_some());
                if !group.is_empty() {
                    write(store, group).await;
                }
                drop(transaction);
                answered.await
            }
        };
        match outcome.unwrap_or(Ok(None))? {
            Some(output) => Ok(output),
            None => store.transact(Arc::unwrap_or_clone(rule)).await,
        }
    }

    /// Takes the next group. The group begins with the rule of the caller, unless another caller has taken this rule. In this case
    /// the group is empty. Without a free transaction, the rule of the caller runs alone. A rule whose key is already in the group
    /// also runs alone.
    fn next(&self, own: &Arc<R>, is_free: bool) -> Vec<Waiting<R>> {
        let mut waiting = self.waiting();
        let place = waiting.iter().position(|waiting| Arc::ptr_eq(&waiting.rule, own));
        let Some(first) = place.and_then(|place| waiting.remove(place)) else { return Vec::new() };
        if !is_free {
            let _ = first.answer.send(Ok(None));
            return Vec::new();
        }
        let mut keys = HashSet::from([first.rule.key()]);
        let mut bytes = first.rule.size();
        let mut group = vec![first];
        while group.len() < MAX_GROUP
            && let Some(next) = waiting.front()
            && bytes + next.rule.size() <= MAX_BYTES
            && let Some(next) = waiting.pop_front()
        {
            if !keys.insert(next.rule.key()) {
                let _ = next.answer.send(Ok(None));
            } else if !next.answer.is_closed() {
                bytes += next.rule.size();
                group.push(next);
            }
        }
        group
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting<R>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_answer(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<Fault>().is_some_and(Fault::is_answer)
}

/// Writes a group and answers its callers.
async fn write<R: Grouped>(store: &PostgresStore, group: Vec<Waiting<R>>) {
    let rules = group.iter().map(|waiting| Arc::clone(&waiting.rule)).collect();
    let outcomes: Vec<Outcome<R>> = match store.transact(R::group(rules)).await {
        Ok(outputs) => outputs.into_iter().map(Ok).collect(),
        Err(StoreError::Unavailable(error)) if !is_answer(&*error) => {
            let error = error.to_string();
            group.iter().map(|_| Err(StoreError::Unavailable(error.as_str().into()))).collect()
        }
        // One of the rules fails, or waits for another transaction. The others must not share its fate.
        Err(_) => group.iter().map(|_| Ok(None)).collect(),
    };
    for (waiting, outcome) in group.into_iter().zip(outcomes) {
        // A caller that disconnected needs no answer.
        let _ = waiting.answer.send(outcome);
    }
}
