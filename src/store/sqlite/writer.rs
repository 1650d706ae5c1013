//! The one connection that writes, on a thread of its own.
//!
//! Jobs that wait while a commit is under way share the next one, so that the price of durability (one fsync of
//! the write-ahead log) is paid per group and not per request. Each job runs in a savepoint: one that fails or
//! panics takes nothing of the others with it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::super::{Change, StoreError};

/// The most jobs in one commit: bounds how long the first of them waits.
const MAX_GROUP: usize = 512;
/// The most jobs that wait; a caller beyond waits for a place.
const MAX_WAITING: usize = 1024;

/// What a job leaves behind: a value for its caller, told once the commit is on disk.
type Settle = Box<dyn FnOnce(Result<(), Arc<rusqlite::Error>>) + Send>;
/// Adds what others may wait for to that of its group.
type Job = Box<dyn FnOnce(&Connection, &mut Vec<Change>) -> Settle + Send>;

/// What a job did.
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
            .spawn(move || write_groups(&connection, waiting, &changes))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs a job in the next group and waits until it is on disk.
    pub(super) async fn run<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<Done<T>, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection, changes| {
            let outcome = in_savepoint(connection, job).map(|done| {
                changes.extend(done.changes);
                done.value
            });
            Box::new(move |committed| {
                let lost = |error| StoreError::Unavailable(Box::new(error));
                // The caller may have gone; the work is done all the same.
                let _ = answer.send(outcome.and_then(|value| committed.map_err(lost).map(|()| value)));
            })
        });
        let stopped = || StoreError::Unavailable("the write was not done".into());
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(job).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    /// Lets the last group reach the disk.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn in_savepoint<T>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<Done<T>, StoreError>,
) -> Result<Done<T>, StoreError> {
    connection.prepare_cached("SAVEPOINT job")?.execute([])?;
    // What the job leaves half done is undone below, and nothing else is shared with it.
    let outcome = catch_unwind(AssertUnwindSafe(|| job(connection)))
        .unwrap_or_else(|_| Err(StoreError::Unavailable("the write panicked".into())));
    if connection.is_autocommit() {
        return outcome;
    }
    if outcome.is_err() && connection.execute_batch("ROLLBACK TO job").is_err() {
        // Half a job must not reach the disk: the whole group fails instead.
        connection.execute_batch("ROLLBACK")?;
        return outcome;
    }
    connection.prepare_cached("RELEASE job")?.execute([])?;
    outcome
}

fn write_groups(
    connection: &Connection,
    mut waiting: mpsc::Receiver<Job>,
    listeners: &broadcast::Sender<Change>,
) {
    while let Some(first) = waiting.blocking_recv() {
        if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
            tracing::error!(%error, "the store cannot begin a transaction");
            // Dropped unrun: its caller is told that it was not done.
            continue;
        }
        let mut changes = Vec::new();
        let mut settle = vec![first(connection, &mut changes)];
        // A full disk or an I/O error rolls the whole transaction back on its own (`is_autocommit`): then there
        // is nothing to commit, and every job of the group has failed.
        while settle.len() < MAX_GROUP
            && !connection.is_autocommit()
            && let Ok(job) = waiting.try_recv()
        {
            settle.push(job(connection, &mut changes));
        }
        let committed = connection.execute_batch("COMMIT").map_err(Arc::new);
        if committed.is_ok() {
            announce(changes, listeners);
        }
        if let Err(error) = &committed {
            tracing::error!(%error, "the store cannot commit");
            if !connection.is_autocommit() {
                // Nothing can be done about a failing rollback: the next BEGIN says so again.
                let _ = connection.execute_batch("ROLLBACK");
            }
        }
        for settle in settle {
            settle(committed.clone());
        }
    }
}

/// Tells of a group's changes; that there is work is told once for all of it.
fn announce(changes: Vec<Change>, listeners: &broadcast::Sender<Change>) {
    let mut told = HashSet::new();
    for change in changes {
        let repeats = match &change {
            Change::Analysis(..) => false,
            Change::Event(_) | Change::Work(_) | Change::Delivery | Change::Replay | Change::Everything => {
                !told.insert(change.clone())
            }
        };
        if !repeats {
            // Nobody listening is fine.
            let _ = listeners.send(change);
        }
    }
}

#[cfg(test)]
mod tests;
