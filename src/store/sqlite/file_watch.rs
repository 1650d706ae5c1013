//! Detects that another program has removed, replaced or overwritten the open database.
//!
//! `SQLite` does not detect such a change. A commit to a removed file succeeds, but its rows are lost when the process ends. So
//! the writer checks the files before and after each group of jobs, and twice a second while it is idle. A check costs a few
//! system calls. The check verifies the following properties:
//!
//! - The names of the database, of its log (`-wal`) and of its index (`-shm`) still lead to the files that are open.
//! - The size and the modification time of the database only change during a checkpoint, and each checkpoint changes the index.
//!   So other programs may use `SQLite` on the same file, for example for a backup or a checkpoint.
//! - The index never goes back to an earlier state.
//! - The last frame of the log has the checksum that the index records. The frame that was the last one at the previous check
//!   has not changed.
//!
//! <https://sqlite.org/walformat.html> documents the format of the log and of the index. A loss is final, because nothing shows
//! which of the files is the right one. The process refuses all requests to the store until it is restarted.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::super::StoreError;
use super::file::beside;
use super::log_index::LogIndex;
use crate::telemetry::metrics::Metrics;

/// Size of the header of the log in bytes.
const LOG_HEADER: u64 = 32;
/// Size of the header of a frame in bytes.
const FRAME_HEADER: u64 = 24;
/// Maximum number of repetitions of a check that another process disturbs. After the last repetition, a difference counts as a
/// loss.
const MAX_TRIES: usize = 10;

/// The reason why the files are lost; empty until the watch has noticed a loss.
pub(super) type Loss = Arc<OnceLock<FileFault>>;

/// Reason why the files of the database may have lost a commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FileFault {
    /// The file no longer exists under this name.
    #[error("{} was removed while the gateway was using it", .0.display())]
    Removed(PathBuf),
    /// The name leads to a file other than the open one.
    #[error("{} was replaced by another file while the gateway was using it", .0.display())]
    Replaced(PathBuf),
    /// A program other than `SQLite` changed the content of the file.
    #[error("{} was overwritten while the gateway was using it", .0.display())]
    Overwritten(PathBuf),
    /// The file system did not answer. The next check may succeed.
    #[error("{} cannot be checked: {}", .0.display(), .1)]
    Unreachable(PathBuf, ErrorKind),
}

impl From<FileFault> for StoreError {
    fn from(fault: FileFault) -> Self {
        match fault {
            FileFault::Unreachable(..) => Self::Unavailable(Box::new(fault)),
            FileFault::Removed(_) | FileFault::Replaced(_) | FileFault::Overwritten(_) => {
                Self::FileLost(fault.to_string())
            }
        }
    }
}

/// Identity of a file: its device and its inode.
type FileId = (u64, u64);

/// State of the database file, which only a checkpoint changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DatabaseState {
    id: FileId,
    size: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for DatabaseState {
    fn from(file: &Metadata) -> Self {
        Self { id: id(file), size: file.size(), modified: (file.mtime(), file.mtime_nsec()) }
    }
}

fn id(file: &Metadata) -> FileId {
    (file.dev(), file.ino())
}

/// Watches the files of an open database.
pub(super) struct FileWatch {
    /// The path in the settings, and the id of the file or of the symbolic link at this path.
    name: (PathBuf, FileId),
    database: PathBuf,
    log: (PathBuf, File, FileId),
    /// The index file, which `SQLite` locks. Closing the file would release the locks of this process, so the store
    /// keeps it open until all connections are closed.
    index: (PathBuf, Arc<File>, FileId),
    /// The index when the watch began.
    at_start: LogIndex,
    /// The database and the index at the last check.
    seen: (DatabaseState, LogIndex),
    loss: Loss,
    metrics: Arc<Metrics>,
}

impl FileWatch {
    /// Begins to watch a database whose connections are open.
    pub(super) fn start(path: &Path, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let name = (path.to_owned(), id(&path.symlink_metadata()?));
        let database = path.canonicalize()?;
        let opened = |ending| {
            let path = beside(&database, ending);
            let file = File::open(&path)?;
            let id = id(&file.metadata()?);
            Ok::<_, std::io::Error>((path, file, id))
        };
        let log = opened("-wal")?;
        let (index_path, index, index_id) = opened("-shm")?;
        let index = (index_path, Arc::new(index), index_id);
        let at_start = (0..MAX_TRIES).find_map(|_| LogIndex::read(&index.1).ok());
        let at_start =
            at_start.ok_or_else(|| std::io::Error::other("the index of the log cannot be read"))?;
        let seen = (DatabaseState::from(&database.symlink_metadata()?), at_start);
        Ok(Self { name, database, log, index, at_start, seen, loss: Loss::default(), metrics })
    }

    /// Returns the index file, which must stay open until the last connection is closed.
    pub(super) fn index_file(&self) -> Arc<File> {
        Arc::clone(&self.index.1)
    }

    /// Returns the shared value that records a loss.
    pub(super) fn loss(&self) -> Loss {
        Arc::clone(&self.loss)
    }

    /// Returns the number of frames in the log at the last check.
    pub(super) fn frames(&self) -> u32 {
        self.seen.1.frames
    }

    /// Checks the files. Call this only while no other process can write a commit, or directly after a commit.
    ///
    /// # Errors
    /// [`FileFault`] if commits since the last check, or later commits, may be lost.
    pub(super) fn check(&mut self) -> Result<(), FileFault> {
        if let Some(lost) = self.loss.get() {
            return Err(lost.clone());
        }
        let mut outcome = self.compare();
        for _ in 0..MAX_TRIES {
            // Another process may have committed or restarted the log during the comparison.
            match &outcome {
                Err((FileFault::Overwritten(_), index)) if LogIndex::read(&self.index.1).ok() != *index => {
                    outcome = self.compare();
                }
                _ => break,
            }
        }
        match outcome {
            Ok(seen) => {
                self.seen = seen;
                Ok(())
            }
            Err((fault, _)) => {
                self.report(&fault);
                Err(fault)
            }
        }
    }

    fn report(&self, fault: &FileFault) {
        if matches!(fault, FileFault::Unreachable(..)) {
            tracing::error!(error = %fault, "failed to check the files of the store");
            return;
        }
        self.metrics.store_file_lost.set(1);
        tracing::error!(
            error = %fault,
            "store file lost: all requests to the store are refused until a restart"
        );
        let _ = self.loss.set(fault.clone());
    }

    /// Compares the files with their state at the last check. An error also contains the index, if the comparison read one.
    fn compare(&self) -> Result<(DatabaseState, LogIndex), (FileFault, Option<LogIndex>)> {
        // The index is read before the state of the database. So the next check notices a checkpoint that ends between the two
        // reads.
        let index = LogIndex::read(&self.index.1);
        let database = self.check_names().map_err(|fault| (fault, None))?;
        let overwritten = |path: &PathBuf| FileFault::Overwritten(path.clone());
        let index = index.map_err(|()| (overwritten(&self.index.0), None))?;
        let before = &self.seen.1;
        let intact = |is_intact: bool, path| {
            if is_intact { Ok(()) } else { Err((overwritten(path), Some(index))) }
        };
        intact(index.follows(before), &self.index.0)?;
        let may_change = before.has_begun_checkpoint(&self.at_start) || index.has_checkpoint_since(before);
        intact(database == self.seen.0 || may_change, &self.database)?;
        intact(self.has_last_frame(&index), &self.log.0)?;
        if index.salts == before.salts && index.frames != before.frames {
            intact(self.has_last_frame(before), &self.log.0)?;
        }
        Ok((database, index))
    }

    /// Checks that the names lead to the open files. Returns the state of the database.
    fn check_names(&self) -> Result<DatabaseState, FileFault> {
        let name = metadata(&self.name.0, self.name.1)?;
        let database = if name.is_symlink() { metadata(&self.database, self.seen.0.id)? } else { name };
        metadata(&self.log.0, self.log.2)?;
        metadata(&self.index.0, self.index.2)?;
        Ok(DatabaseState::from(&database))
    }

    /// Whether the log has the last frame that the index describes.
    fn has_last_frame(&self, index: &LogIndex) -> bool {
        let Some(number) = index.frames.checked_sub(1) else { return true };
        let place = LOG_HEADER + u64::from(number) * (FRAME_HEADER + u64::from(index.page_size));
        let mut frame = [0; 16];
        // The header of a frame ends with two salts and two checksums.
        if self.log.1.read_exact_at(&mut frame, place + FRAME_HEADER - 16).is_err() {
            return false;
        }
        let word = |at: usize| frame[at..].first_chunk().map_or(0, |word| u32::from_be_bytes(*word));
        ([word(0), word(4)], [word(8), word(12)]) == (index.salts, index.checksum)
    }
}

/// Reads the metadata of a name, which must lead to the file with this id.
fn metadata(path: &Path, id: FileId) -> Result<Metadata, FileFault> {
    match path.symlink_metadata() {
        Ok(found) if self::id(&found) == id => Ok(found),
        Ok(_) => Err(FileFault::Replaced(path.to_owned())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(FileFault::Removed(path.to_owned()))
        }
        Err(error) => Err(FileFault::Unreachable(path.to_owned(), error.kind())),
    }
}
