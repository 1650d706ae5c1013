//! Group commit: the only connection that writes, on its own thread.
//!
//! Jobs that arrive during a commit share the next transaction, so one fsync of the write-ahead log makes the whole group
//! durable. Each job runs in a savepoint: a job that fails or panics does not affect the other jobs of its group.
//!
//! Between the commit of a group and the answers to its callers, the writer checks that the files of the database are still in
//! place ([`FileWatch`]). A checkpoint follows the answers, so no caller waits for it.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout;

use super::super::{Change, StoreError};
use super::file_watch::{FileFault, FileWatch, Loss};
use super::usage;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage};

/// Maximum number of jobs in one transaction. It bounds the time that the first job of a group waits for its commit.
const MAX_GROUP: usize = 512;
/// Maximum number of queued jobs. Further callers wait until the queue has room.
const MAX_WAITING: usize = 1024;

/// Interval of the checks of the files while there are no jobs.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Number of frames (of 4 KiB) in the log that starts a checkpoint, which copies the frames to the database. A checkpoint writes each
/// page once, however often the log has it, so rarer checkpoints write less. One block of the log's index describes this many frames.
const CHECKPOINT_FRAMES: u32 = 4000;

/// Reason why the changes of a group are not on disk.
#[derive(Debug, Clone)]
enum CommitError {
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

/// Answers the caller of a job after the commit, with its outcome.
type Settle = Box<dyn FnOnce(Result<(), CommitError>) + Send>;
/// A job, which runs in a group and adds its effects to those of the group.
type Job = Box<dyn FnOnce(&Mutex<Connection>, &mut GroupEffects) -> Settle + Send>;

/// The result of a job.
pub(super) struct Done<T> {
    pub(super) value: T,
    /// Changes to announce after the commit.
    pub(super) changes: Vec<Change>,
    /// Usage to count. A group writes the sum for each tenant once.
    pub(super) usage: Vec<(TenantId, Day, Usage)>,
}

/// Effects of the jobs of a group that have succeeded.
#[derive(Default)]
struct GroupEffects {
    changes: Vec<Change>,
    usage: HashMap<(TenantId, Day), Usage>,
}

impl<T> Done<T> {
    pub(super) fn quiet(value: T) -> Self {
        Self { value, changes: Vec::new(), usage: Vec::new() }
    }
}

pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    loss: Loss,
}

impl Writer {
    /// Starts the writer's thread. No other thread makes checkpoints.
    pub(super) fn start(
        connection: Connection,
        watch: FileWatch,
        changes: broadcast::Sender<Change>,
    ) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(std::io::Error::other)?;
        let (loss, runtime) = (watch.loss(), Builder::new_current_thread().enable_time().build()?);
        let groups = Groups { connection: Mutex::new(connection), watch, waiting, listeners: changes };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || groups.write(&runtime))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), loss })
    }

    /// Whether the files are lost.
    pub(super) fn is_lost(&self) -> bool {
        self.loss.get().is_some()
    }

    /// Runs a job in the next group and waits until its commit is on disk.
    pub(super) async fn run<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Mutex<Connection>) -> Result<Done<T>, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection, effects| {
            let outcome = in_savepoint(connection, job).map(|done| {
                effects.changes.extend(done.changes);
                for (tenant, day, usage) in done.usage {
                    *effects.usage.entry((tenant, day)).or_default() += usage;
                }
                done.value
            });
            Box::new(move |committed| {
                // The caller may have been cancelled. The job is committed regardless.
                let _ = answer.send(outcome.and_then(|value| Ok(committed.map(|()| value)?)));
            })
        });
        let stopped = || match self.loss.get() {
            Some(lost) => lost.clone().into(),
            None => StoreError::Unavailable("the write did not run".into()),
        };
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(job).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    /// Waits until the queued jobs are committed.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Locks the connection. A panic during a statement leaves the connection usable, because its transaction is rolled
/// back.
pub(super) fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn in_savepoint<T>(
    connection: &Mutex<Connection>,
    job: impl FnOnce(&Mutex<Connection>) -> Result<Done<T>, StoreError>,
) -> Result<Done<T>, StoreError> {
    lock(connection).prepare_cached("SAVEPOINT job")?.execute([])?;
    // The rollback below undoes an unfinished job, and jobs share no other state.
    let outcome = catch_unwind(AssertUnwindSafe(|| job(connection)))
        .unwrap_or_else(|_| Err(StoreError::Unavailable("the write panicked".into())));
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

/// The state of the writer's thread.
struct Groups {
    connection: Mutex<Connection>,
    watch: FileWatch,
    waiting: mpsc::Receiver<Job>,
    listeners: broadcast::Sender<Change>,
}

impl Groups {
    /// Writes groups until all senders of jobs are dropped.
    fn write(mut self, runtime: &Runtime) {
        while let Some(first) = self.next(runtime) {
            self.write_group(first);
            if self.watch.frames() >= CHECKPOINT_FRAMES {
                self.checkpoint();
            }
        }
    }

    /// Waits for a job. Returns `Some(None)` if the files must be checked before a job arrives, and `None` if no sender
    /// of jobs is left.
    fn next(&mut self, runtime: &Runtime) -> Option<Option<Job>> {
        runtime
            .block_on(async { timeout(CHECK_INTERVAL, self.waiting.recv()).await })
            .map_or(Some(None), |job| job.map(Some))
    }

    fn write_group(&mut self, first: Option<Job>) {
        if let Err(error) = self.begin() {
            tracing::error!(%error, "failed to begin a transaction");
            // Dropping the job tells its caller that the write did not run.
            return;
        }
        if self.watch.check().is_err() {
            let _ = lock(&self.connection).execute_batch("ROLLBACK");
            return;
        }
        let (mut effects, mut settle, mut next) = (GroupEffects::default(), Vec::new(), first);
        // A full disk or an I/O error rolls the whole transaction back (`is_autocommit`). Then there is nothing to
        // commit, and every job of the group has failed.
        while let Some(job) = next {
            settle.push(job(&self.connection, &mut effects));
            let has_room = settle.len() < MAX_GROUP && !lock(&self.connection).is_autocommit();
            next = if has_room { self.waiting.try_recv().ok() } else { None };
        }
        let committed = commit(&lock(&self.connection), &effects.usage);
        let committed = committed.map_err(|error| CommitError::Sqlite(Arc::new(error)));
        // The check also runs after a failed commit, because it records the state of the files.
        let checked = self.watch.check().map_err(CommitError::File);
        let committed = committed.and(checked);
        if committed.is_ok() {
            announce(effects.changes, &self.listeners);
        }
        for settle in settle {
            settle(committed.clone());
        }
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        let Err(error) = lock(&self.connection).execute_batch("BEGIN IMMEDIATE") else { return Ok(()) };
        // Changed files may be the cause, unless another process is writing.
        if !matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) {
            self.watch.check()?;
        }
        Err(error.into())
    }

    /// Copies the log to the database, as far as no reader needs the earlier content. The next commits reuse the log.
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
    // After a rollback there is no transaction, so the usage would be committed alone. `COMMIT` then fails.
    let is_open = !connection.is_autocommit();
    let mut counted = usage.iter().filter(|_| is_open);
    let counted =
        counted.try_for_each(|((tenant, day), usage)| usage::count(connection, tenant, *day, *usage));
    counted.and_then(|()| connection.execute_batch("COMMIT")).inspect_err(|error| {
        tracing::error!(%error, "failed to commit");
        if !connection.is_autocommit() {
            // If this fails too, the next BEGIN reports it.
            let _ = connection.execute_batch("ROLLBACK");
        }
    })
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

#[cfg(test)]
mod tests;
