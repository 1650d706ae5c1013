//! Groups of jobs: the loop of the writer's thread.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

use super::super::super::{Change, StoreError};
use super::super::file_watch::FileWatch;
use super::super::usage;
use super::jobs::{CommitError, GroupEffects, Isolation, Job};
use super::lock;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage};

/// Maximum number of jobs in one transaction. This limit bounds the time that the first job of a group waits for its commit.
const MAX_GROUP: usize = 512;

/// Interval of the checks of the files while there are no jobs.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Number of frames (of 4 KiB) in the log at which a checkpoint starts. A checkpoint copies the frames to the database. A
/// checkpoint writes each page once, even if the log has the page several times. So rarer checkpoints write less. One block of
/// the log's index can describe all of these frames.
const CHECKPOINT_FRAMES: u32 = 4000;

/// A job that waits for its group.
pub(super) struct QueuedJob {
    pub(super) job: Box<dyn Job>,
    /// The runtime of the caller.
    pub(super) caller: Handle,
}

/// The state of the writer's thread.
pub(super) struct Groups {
    pub(super) connection: Mutex<Connection>,
    pub(super) watch: FileWatch,
    pub(super) waiting: mpsc::Receiver<QueuedJob>,
    pub(super) listeners: broadcast::Sender<Change>,
}

impl Groups {
    /// Writes groups until all senders of jobs are dropped.
    pub(super) fn write(mut self, runtime: &Runtime) {
        while let Some(first) = self.next(runtime) {
            self.write_group(first);
            if self.watch.frames() >= CHECKPOINT_FRAMES {
                self.checkpoint();
            }
        }
    }

    /// Waits for a job. Returns `Some(None)` if no job arrives within [`CHECK_INTERVAL`], because the files must be checked
    /// then. Returns `None` if no sender of jobs is left.
    fn next(&mut self, runtime: &Runtime) -> Option<Option<QueuedJob>> {
        runtime
            .block_on(async { timeout(CHECK_INTERVAL, self.waiting.recv()).await })
            .map_or(Some(None), |job| job.map(Some))
    }

    fn write_group(&mut self, first: Option<QueuedJob>) {
        let mut group: Vec<QueuedJob> = first.into_iter().collect();
        if self.begin().is_err() {
            // Dropping the jobs tells their callers that the write did not run.
            return;
        }
        if !self.run_group(&mut group) && self.begin_again().is_ok() {
            self.run_isolated(&mut group);
        }
        let mut effects = GroupEffects::default();
        group.iter_mut().for_each(|queued| queued.job.add_effects(&mut effects));
        let committed = commit(&lock(&self.connection), &effects.usage);
        let committed = committed.map_err(|error| CommitError::Sqlite(Arc::new(error)));
        // The check also runs after a failed commit, because it records the state of the files.
        let checked = self.watch.check().map_err(CommitError::File);
        let committed = committed.and(checked);
        if committed.is_ok() {
            announce(effects.changes, &self.listeners);
        }
        answer(group, &committed);
    }

    /// Runs the jobs of a group, and adds waiting jobs to the group. Returns `false` after the first job that fails.
    fn run_group(&mut self, group: &mut Vec<QueuedJob>) -> bool {
        let mut finished = 0;
        loop {
            if finished == group.len() {
                let waiting = if finished < MAX_GROUP { self.waiting.try_recv().ok() } else { None };
                let Some(job) = waiting else { return true };
                group.push(job);
            }
            let is_done = group[finished].job.run(&self.connection, Isolation::None);
            if !is_done || lock(&self.connection).is_autocommit() {
                return false;
            }
            finished += 1;
        }
    }

    /// Runs the jobs of a group, each in a savepoint. A full disk or an I/O error rolls the whole transaction back
    /// (`is_autocommit`). Then there is nothing to commit, and every job of the group fails.
    fn run_isolated(&self, group: &mut [QueuedJob]) {
        for queued in group {
            queued.job.run(&self.connection, Isolation::Savepoint);
            if lock(&self.connection).is_autocommit() {
                return;
            }
        }
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        let begun = lock(&self.connection).execute_batch("BEGIN IMMEDIATE");
        if let Err(error) = begun {
            tracing::error!(%error, "failed to begin a transaction");
            // Changed files may be the cause, unless another process is writing.
            if !matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
            {
                self.watch.check()?;
            }
            return Err(error.into());
        }
        let checked = self.watch.check();
        if checked.is_err() {
            let _ = lock(&self.connection).execute_batch("ROLLBACK");
        }
        Ok(checked?)
    }

    /// Begins a new transaction in place of the current one, which may have ended already.
    fn begin_again(&mut self) -> Result<(), StoreError> {
        if !lock(&self.connection).is_autocommit() {
            lock(&self.connection).execute_batch("ROLLBACK")?;
        }
        self.begin()
    }

    /// Copies as much of the log to the database as the current readers allow. The next commits reuse the log.
    fn checkpoint(&mut self) {
        let copied = lock(&self.connection).query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = copied {
            tracing::error!(%error, "failed to copy the write-ahead log to the database");
        }
        // A failure is logged, and the next group refuses to run.
        let _ = self.watch.check();
    }
}

/// Counts the usage of a group, and commits the group.
fn commit(connection: &Connection, usage: &HashMap<(TenantId, Day), Usage>) -> Result<(), rusqlite::Error> {
    // After a rollback, no transaction is open. Usage that is written now would be committed alone, so it is not written.
    // `COMMIT` then fails.
    let is_open = !connection.is_autocommit();
    let mut counted = usage.iter().filter(|_| is_open);
    let counted =
        counted.try_for_each(|((tenant, day), usage)| usage::count(connection, tenant, *day, *usage));
    counted.and_then(|()| connection.execute_batch("COMMIT")).inspect_err(|error| {
        tracing::error!(%error, "failed to commit");
        if !connection.is_autocommit() {
            // If the rollback fails too, the next BEGIN reports the failure.
            let _ = connection.execute_batch("ROLLBACK");
        }
    })
}

/// Answers the callers of a group.
fn answer(group: Vec<QueuedJob>, committed: &Result<(), CommitError>) {
    let mut by_runtime = HashMap::<_, (Handle, Vec<Box<dyn Job>>)>::new();
    for QueuedJob { job, caller } in group {
        by_runtime.entry(caller.id()).or_insert_with(|| (caller, Vec::new())).1.push(job);
    }
    for (caller, jobs) in by_runtime.into_values() {
        let committed = committed.clone();
        caller.spawn(async move { jobs.into_iter().for_each(|job| job.answer(committed.clone())) });
    }
}

/// Announces the changes of a group. A change that names no analysis is announced once per group.
fn announce(changes: Vec<Change>, listeners: &broadcast::Sender<Change>) {
    let mut announced = HashSet::new();
    for change in changes {
        let repeats = match &change {
            Change::Analysis(..) => false,
            Change::Event(_) | Change::Work(_) | Change::Delivery | Change::Replay | Change::Everything => {
                !announced.insert(change.clone())
            }
        };
        if !repeats {
            // Without listeners there is nothing to do.
            let _ = listeners.send(change);
        }
    }
}
