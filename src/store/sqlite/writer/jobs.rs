//! Jobs of the writer: changes to the database, each with a caller that waits for the outcome.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::super::super::{Change, StoreError};
use super::super::file_watch::FileFault;
use super::lock;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage};

/// Reason why the changes of a group are not on disk.
#[derive(Debug, Clone)]
pub(super) enum CommitError {
    Sqlite(Arc<rusqlite::Error>),
    File(FileFault),
}

impl From<CommitError> for StoreError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Sqlite(error) => Self::Unavailable(Box::new(error)),
            CommitError::File(fault) => fault.into(),
        }
    }
}

/// A job and its outcome.
pub(super) trait Job: Send {
    /// Runs the job, and keeps its outcome. Returns whether the job succeeded.
    fn run(&mut self, connection: &Mutex<Connection>, isolation: Isolation) -> bool;

    /// Adds the effects of a successful job to the effects of its group.
    fn add_effects(&mut self, effects: &mut GroupEffects);

    /// Answers the caller. `committed` is the outcome of the commit of the job's group.
    fn answer(self: Box<Self>, committed: Result<(), CommitError>);
}

/// Whether jobs of a group are independent of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    /// A job that fails leaves its changes in the transaction.
    None,
    /// Each job has a savepoint.
    Savepoint,
}

pub(super) struct AnsweredJob<T, F> {
    pub(super) job: F,
    pub(super) outcome: Result<Done<T>, StoreError>,
    pub(super) answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for AnsweredJob<T, F>
where
    T: Send,
    F: Fn(&Mutex<Connection>) -> Result<Done<T>, StoreError> + Send,
{
    fn run(&mut self, connection: &Mutex<Connection>, isolation: Isolation) -> bool {
        self.outcome = match isolation {
            Isolation::None => unless_panic(connection, &self.job),
            Isolation::Savepoint => in_savepoint(connection, &self.job),
        };
        self.outcome.is_ok()
    }

    fn add_effects(&mut self, effects: &mut GroupEffects) {
        let Ok(done) = &mut self.outcome else { return };
        effects.changes.append(&mut done.changes);
        for (tenant, day, usage) in done.usage.drain(..) {
            *effects.usage.entry((tenant, day)).or_default() += usage;
        }
    }

    fn answer(self: Box<Self>, committed: Result<(), CommitError>) {
        // The caller may have been cancelled. The job is committed regardless.
        let _ = self.answer.send(self.outcome.and_then(|done| Ok(committed.map(|()| done.value)?)));
    }
}

/// The result of a job.
pub(in super::super) struct Done<T> {
    pub(in super::super) value: T,
    /// Changes to announce after the commit.
    pub(in super::super) changes: Vec<Change>,
    /// Usage to count. A group writes the sum for each tenant once.
    pub(in super::super) usage: Vec<(TenantId, Day, Usage)>,
}

/// Effects of the successful jobs of a group.
#[derive(Default)]
pub(super) struct GroupEffects {
    pub(super) changes: Vec<Change>,
    pub(super) usage: HashMap<(TenantId, Day), Usage>,
}

impl<T> Done<T> {
    pub(in super::super) fn quiet(value: T) -> Self {
        Self { value, changes: Vec::new(), usage: Vec::new() }
    }
}

fn unless_panic<T>(
    connection: &Mutex<Connection>,
    job: impl Fn(&Mutex<Connection>) -> Result<Done<T>, StoreError>,
) -> Result<Done<T>, StoreError> {
    // A rollback undoes an unfinished job, and jobs share no other state.
    catch_unwind(AssertUnwindSafe(|| job(connection)))
        .unwrap_or_else(|_| Err(StoreError::Unavailable("the write panicked".into())))
}

fn in_savepoint<T>(
    connection: &Mutex<Connection>,
    job: impl Fn(&Mutex<Connection>) -> Result<Done<T>, StoreError>,
) -> Result<Done<T>, StoreError> {
    lock(connection).prepare_cached("SAVEPOINT job")?.execute([])?;
    let outcome = unless_panic(connection, job);
    let connection = lock(connection);
    if connection.is_autocommit() {
        return outcome;
    }
    if outcome.is_err() && connection.execute_batch("ROLLBACK TO job").is_err() {
        // An unfinished job must not be committed: the whole group fails instead.
        connection.execute_batch("ROLLBACK")?;
        return outcome;
    }
    connection.prepare_cached("RELEASE job")?.execute([])?;
    outcome
}
