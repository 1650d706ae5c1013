//! Group commit: the only connection that writes, on its own thread.
//!
//! Jobs that arrive during a commit share the next transaction, so one fsync of the write-ahead log makes the whole group
//! durable. A job that fails or panics does not affect the other jobs of its group: the writer rolls the group back and repeats
//! it with a savepoint for each job. Most groups have no failure and run without savepoints. Savepoints are expensive, because
//! SQLite then copies each page that a job changes.
//!
//! Between the commit of a group and the answers to its callers, the writer checks that the files of the database are still in
//! place ([`FileWatch`]). A checkpoint follows the answers, so no caller waits for it. The callers of one runtime get their
//! answers from one task on this runtime. Waking the runtime costs a system call, but waking a task from a thread of its own
//! runtime costs none.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout;

use super::super::{Change, StoreError};
use super::file_watch::{FileFault, FileWatch, Loss};
use super::usage;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage};

/// Maximum number of jobs in one transaction. This limit bounds the time that the first job of a group waits for its commit.
const MAX_GROUP: usize = 512;
/// Maximum number of queued jobs. Further callers wait until the queue has room.
const MAX_WAITING: usize = 1024;

/// Interval of the checks of the files while there are no jobs.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Number of frames (of 4 KiB) in the log at which a checkpoint starts. A checkpoint copies the frames to the database. It writes
/// each page once, even if the log has the page several times, so rarer checkpoints write less. One block of the log's index
/// describes this many frames.
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

/// A job and its outcome.
trait Job: Send {
    /// Runs the job, and keeps its outcome. Returns whether the job succeeded.
    fn run(&mut self, connection: &Mutex<Connection>, isolation: Isolation) -> bool;

    /// Adds the effects of a successful job to the effects of its group.
    fn add_effects(&mut self, effects: &mut GroupEffects);

    /// Answers the caller. `committed` is the outcome of the commit of the job's group.
    fn answer(self: Box<Self>, committed: Result<(), CommitError>);
}

/// Whether jobs of a group are independent of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isolation {
    /// A job that fails leaves its changes in the transaction.
    None,
    /// Each job has a savepoint.
    Savepoint,
}

struct QueuedJob {
    job: Box<dyn Job>,
    /// The runtime of the caller.
    caller: Handle,
}

struct AnsweredJob<T, F> {
    job: F,
    outcome: Result<Done<T>, StoreError>,
    answer: oneshot::Sender<Result<T, StoreError>>,
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
pub(super) struct Done<T> {
    pub(super) value: T,
    /// Changes to announce after the commit.
    pub(super) changes: Vec<Change>,
    /// Usage to count. A group writes the sum for each tenant once.
    pub(super) usage: Vec<(TenantId, Day, Usage)>,
}

/// Effects of the successful jobs of a group.
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
    jobs: Option<mpsc::Sender<QueuedJob>>,
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

    /// Runs a job in the next group and waits until its commit is on disk. The job runs again if another job of its group fails.
    pub(super) async fn run<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Mutex<Connection>) -> Result<Done<T>, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let outcome = Err(StoreError::Unavailable("the write did not run".into()));
        let job = Box::new(AnsweredJob { job, outcome, answer });
        let stopped = || match self.loss.get() {
            Some(lost) => lost.clone().into(),
            None => StoreError::Unavailable("the write did not run".into()),
        };
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(QueuedJob { job, caller: Handle::current() }).await.map_err(|_| stopped())?;
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

/// The state of the writer's thread.
struct Groups {
    connection: Mutex<Connection>,
    watch: FileWatch,
    waiting: mpsc::Receiver<QueuedJob>,
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

#[cfg(test)]
mod tests;
