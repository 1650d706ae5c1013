//! Group commit of submissions: submissions that arrive while others are being written share the next statement.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use super::super::analysis_rows::StoredAnalysis;
use super::super::engine::Engine;
use super::super::submissions::{Submit, SubmitNew};
use super::PostgresStore;
use super::StoreError;

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

    /// Writes a submission. A group is written by the first of its callers that gets a free statement. If this caller disconnects,
    /// the other submissions of the group are written alone.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if no statement is free within the time limit of an operation, and the errors of the statement.
    pub(super) async fn submit(
        &self,
        store: &PostgresStore,
        submit: Submit,
    ) -> Result<StoredAnalysis, StoreError> {
        let (submit, (answer, mut answered)) = (Arc::new(submit), oneshot::channel());
        let waiting = Waiting { submit: Arc::clone(&submit), answer };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(waiting);
        let patience = tokio::time::sleep(store.context.operation_timeout);
        tokio::pin!(patience);
        let outcome = loop {
            let statement = tokio::select! {
                biased;
                outcome = &mut answered => break outcome.unwrap_or(Ok(None)),
                statement = self.statements.acquire() => statement,
                () = &mut patience => {
                    break Err(StoreError::Unavailable("earlier submissions are still being written".into()));
                }
            };
            let group = self.next();
            if group.is_empty() {
                // Another caller is writing this submission.
                drop(statement);
                break answered.await.unwrap_or(Ok(None));
            }
            write(store, group).await;
        };
        match outcome? {
            Some(submitted) => Ok(submitted),
            None => store.transact(Arc::unwrap_or_clone(submit)).await,
        }
    }

    /// Takes the next group. A submission of a call that is already in the group is written alone.
    fn next(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut group, mut calls) = (Vec::<Waiting>::new(), HashSet::new());
        while group.len() < MAX_GROUP
            && let Some(next) = waiting.pop_front()
        {
            let call = (next.submit.tenant.clone(), next.submit.submission.call_id.clone());
            if !calls.insert(call) {
                let _ = next.answer.send(Ok(None));
            } else if !next.answer.is_closed() {
                group.push(next);
            }
        }
        group
    }
}

/// Writes a group and answers its callers.
async fn write(store: &PostgresStore, group: Vec<Waiting>) {
    let submits = group.iter().map(|waiting| Arc::clone(&waiting.submit)).collect();
    let outcomes: Vec<Outcome> = match store.transact(SubmitNew(submits)).await {
        Ok(submitted) => submitted.into_iter().map(Ok).collect(),
        Err(StoreError::Unavailable(error)) => {
            let error = error.to_string();
            group.iter().map(|_| Err(StoreError::Unavailable(error.as_str().into()))).collect()
        }
        // The database refuses one of the submissions.
        Err(_) => group.iter().map(|_| Ok(None)).collect(),
    };
    for (waiting, outcome) in group.into_iter().zip(outcomes) {
        // A caller that disconnected needs no answer.
        let _ = waiting.answer.send(outcome);
    }
}
