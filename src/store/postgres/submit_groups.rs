//! Group commit of submissions: submissions that arrive while others are being written share the next statement.

use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::super::analysis_rows::StoredAnalysis;
use super::super::engine::Engine;
use super::super::submissions::{Submit, SubmitNew};
use super::fault::Fault;
use super::{PostgresStore, StoreError};
use crate::domain::ids::{CallId, TenantId};

/// Maximum number of submissions in one statement. This limit bounds the duration of the statement.
const MAX_GROUP: usize = 128;
/// Maximum number of statements at the same time. While PostgreSQL commits one group, it inserts another one.
const MAX_STATEMENTS: usize = 2;

/// The outcome of a submission in a group. `None` means that the submission must be written alone.
type Outcome = Result<Option<StoredAnalysis>, StoreError>;

/// A submission that waits for its group.
struct Waiting {
    submit: Arc<Submit>,
    answer: oneshot::Sender<Outcome>,
}

/// Submissions that wait, and the statements in progress.
pub(super) struct SubmitGroups {
    waiting: Mutex<VecDeque<Waiting>>,
    statements: Semaphore,
}

impl SubmitGroups {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), statements: Semaphore::new(MAX_STATEMENTS) }
    }

    /// Writes a submission. The first caller that gets a free statement writes the group. If the writing is cancelled, the
    /// submissions of the group are written alone.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if no statement is free within the time limit of an operation, and the errors of the statement.
    pub(super) async fn submit(
        &self,
        store: &PostgresStore,
        submit: Submit,
    ) -> Result<StoredAnalysis, StoreError> {
        let (submit, (answer, mut answered)) = (Arc::new(submit), oneshot::channel());
        self.waiting().push_back(Waiting { submit: Arc::clone(&submit), answer });
        let statement = tokio::select! {
            biased;
            outcome = &mut answered => Err(outcome),
            statement = timeout(store.context.operation_timeout, self.statements.acquire()) => Ok(statement.ok()),
        };
        let outcome = match statement {
            Err(outcome) => outcome,
            Ok(statement) => {
                let group = self.next(&submit, statement.is_some());
                if !group.is_empty() {
                    write(store, group).await;
                }
                drop(statement);
                answered.await
            }
        };
        match outcome.unwrap_or(Ok(None))? {
            Some(submitted) => Ok(submitted),
            None => store.transact(Arc::unwrap_or_clone(submit)).await,
        }
    }

    /// Takes the next group. The group begins with the submission of the caller, unless another caller has taken this submission.
    /// In this case the group is empty. Without a free statement, only answers the caller with an error. A submission of a call
    /// that is already in the group is written alone.
    fn next(&self, own: &Arc<Submit>, is_free: bool) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        let place = waiting.iter().position(|waiting| Arc::ptr_eq(&waiting.submit, own));
        let Some(first) = place.and_then(|place| waiting.remove(place)) else { return Vec::new() };
        if !is_free {
            let late = StoreError::Unavailable("earlier submissions are still being written".into());
            let _ = first.answer.send(Err(late));
            return Vec::new();
        }
        let mut calls = HashSet::from([key(&first)]);
        let mut group = vec![first];
        while group.len() < MAX_GROUP
            && let Some(next) = waiting.pop_front()
        {
            if !calls.insert(key(&next)) {
                let _ = next.answer.send(Ok(None));
            } else if !next.answer.is_closed() {
                group.push(next);
            }
        }
        group
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(waiting: &Waiting) -> (TenantId, CallId) {
    (waiting.submit.tenant.clone(), waiting.submit.submission.call_id.clone())
}

fn is_answer(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<Fault>().is_some_and(Fault::is_answer)
}

/// Writes a group and answers its callers.
async fn write(store: &PostgresStore, group: Vec<Waiting>) {
    let submits = group.iter().map(|waiting| Arc::clone(&waiting.submit)).collect();
    let outcomes: Vec<Outcome> = match store.transact(SubmitNew(submits)).await {
        Ok(submitted) => submitted.into_iter().map(Ok).collect(),
        Err(StoreError::Unavailable(error)) if !is_answer(&*error) => {
            let error = error.to_string();
            group.iter().map(|_| Err(StoreError::Unavailable(error.as_str().into()))).collect()
        }
        // One of the submissions is refused, or waits for another transaction. The others must not share its fate.
        Err(_) => group.iter().map(|_| Ok(None)).collect(),
    };
    for (waiting, outcome) in group.into_iter().zip(outcomes) {
        // A caller that disconnected needs no answer.
        let _ = waiting.answer.send(outcome);
    }
}
