//! Group commit: the only connection that writes, on its own thread.
//!
//! Jobs that arrive during a commit share the next transaction, so one fsync of the write-ahead log makes the whole group
//! durable. Each job runs in a savepoint: a job that fails or panics does not affect the other jobs of its group.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::super::{Change, StoreError};

/// Maximum number of jobs in one transaction. It bounds the time that the first job of a group waits for its commit.
const MAX_GROUP: usize = 512;
/// Maximum number of queued jobs. Further callers wait until the queue has room.
const MAX_WAITING: usize = 1024;

/// Answers the caller of a job after the commit, with its outcome.
type Settle = Box<dyn FnOnce(Result<(), Arc<rusqlite::Error>>) + Send>;
/// A job, which runs in a group and adds its changes to those of the group.
type Job = Box<dyn FnOnce(&Mutex<Connection>, &mut Vec<Change>) -> Settle + Send>;

/// The result of a job, with the changes to announce after the commit.
pub(super) struct Done<T> {
    pub(super) value: T,
    pub(super) changes: Vec<Change>,
}

impl<T> Done<T> {
    pub(super) fn quiet(value: T) -> Self {
        Self { value, changes: Vec::new() }
    }
}

pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, changes: broadcast::Sender<Change>) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_groups(&Mutex::new(connection), waiting, &changes))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs a job in the next group and waits until its commit is on disk.
    pub(super) async fn run<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Mutex<Connection>) -> Result<Done<T>, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection, changes| {
            let outcome = in_savepoint(connection, job).map(|done| {
                changes.extend(done.changes);
                done.value
            });
            Box::new(move |committed| {
                let lost = |error| StoreError::Unavailable(Box::new(error));
                // The caller may have been cancelled. The job is committed regardless.
                let _ = answer.send(outcome.and_then(|value| committed.map_err(lost).map(|()| value)));
            })
        });
        let stopped = || StoreError::Unavailable("the write did not run".into());
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

fn write_groups(
    connection: &Mutex<Connection>,
    mut waiting: mpsc::Receiver<Job>,
    listeners: &broadcast::Sender<Change>,
) {
    while let Some(first) = waiting.blocking_recv() {
        if let Err(error) = lock(connection).execute_batch("BEGIN IMMEDIATE") {
            tracing::error!(%error, "failed to begin a transaction");
            // Dropping the job tells its caller that the write did not run.
            continue;
        }
        let mut changes = Vec::new();
        let mut settle = vec![first(connection, &mut changes)];
        // A full disk or an I/O error rolls the whole transaction back (`is_autocommit`). Then there is nothing to
        // commit, and every job of the group has failed.
        while settle.len() < MAX_GROUP
            && is_open(connection)
            && let Ok(job) = waiting.try_recv()
        {
            settle.push(job(connection, &mut changes));
        }
        let committed = commit(&lock(connection)).map_err(Arc::new);
        if committed.is_ok() {
            announce(changes, listeners);
        }
        for settle in settle {
            settle(committed.clone());
        }
    }
}

fn is_open(connection: &Mutex<Connection>) -> bool {
    !lock(connection).is_autocommit()
}

fn commit(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.execute_batch("COMMIT").inspect_err(|error| {
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
