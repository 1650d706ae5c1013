//! Group commit: the only connection that writes, on its own thread.
//!
//! Jobs that arrive during a commit share the next transaction, so one fsync of the write-ahead log makes the whole group
//! durable. A job that fails or panics does not affect the other jobs of its group: the writer rolls the group back and repeats
//! the group with a savepoint for each job. Most groups have no failure and run without savepoints. Savepoints are expensive,
//! because SQLite then copies each page that a job changes.
//!
//! Between the commit of a group and the answers to its callers, the writer checks that the files of the database are still in
//! place ([`FileWatch`]). A checkpoint follows the answers, so no caller waits for the checkpoint. The callers of one runtime get
//! their answers from one task on this runtime. Waking the runtime costs a system call, but waking a task from a thread of its
//! own runtime costs none.

mod groups;
mod jobs;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{broadcast, mpsc, oneshot};

use self::groups::{Groups, QueuedJob};
use self::jobs::AnsweredJob;
pub(super) use self::jobs::Done;
use super::super::{Change, StoreError};
use super::file_watch::{FileWatch, Loss};

/// Maximum number of queued jobs. Further callers wait until the queue has room.
const MAX_WAITING: usize = 1024;

/// The handle of the writer's thread.
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

#[cfg(test)]
mod tests;
