//! The `SQLite` store notices when another program removes, replaces or overwrites its files.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use alovoice_gateway::store::sqlite::SqliteStore;
use alovoice_gateway::store::{Queue, StoreError};
use rusqlite::Connection;

use crate::harness::{Harness, acme, call_id, store_context, submission};
use crate::rows::Rows;

/// The files of a store, a backup of them, and the files of another store.
struct Files {
    folder: PathBuf,
    backup: PathBuf,
    other: PathBuf,
}

impl Files {
    fn database(&self) -> PathBuf {
        self.folder.join("store.db")
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("store.db{ending}"))
    }
}

/// Copies the content of a file into another file, which keeps its inode.
fn copy_into(from: &Path, to: &Path) {
    let content = fs::read(from).unwrap();
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(to).unwrap();
    file.write_all(&content).unwrap();
}

fn open(path: &Path, keep: impl Send + Sync + 'static) -> Harness {
    let (context, clock) = store_context();
    let metrics = Arc::clone(&context.env.metrics);
    let store = Arc::new(SqliteStore::open(path, context).unwrap());
    Harness::new(store, clock, metrics, Rows::of_file(path), keep)
}

/// Stores a call, changes the files, and checks that the store refuses everything from then on.
async fn is_noticed(what: &str, change: impl FnOnce(&Files)) {
    let home = tempfile::tempdir().unwrap();
    let (folder, elsewhere) = (home.path().join("data"), home.path().join("elsewhere"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    let files = Files { folder, backup: home.path().join("backup.db"), other: elsewhere.join("store.db") };
    let other = open(&files.other, ());
    other.submit(submission("other")).await;
    let harness = open(&files.database(), home);
    harness.submit(submission("1")).await;
    let connection = Connection::open(files.database()).unwrap();
    connection.execute("VACUUM INTO ?", [files.backup.to_str().unwrap()]).unwrap();
    drop(connection);
    harness.submit(submission("2")).await;

    change(&files);
    let refused = harness.store.submit(&acme(), submission("3")).await;
    assert!(matches!(refused, Err(StoreError::FileLost(_))), "{what}: {refused:?}");
    let checked = harness.store.check().await;
    assert!(matches!(checked, Err(StoreError::FileLost(_))), "{what}: {checked:?}");
    let found = harness.store.find_analysis(&acme(), &call_id("1")).await;
    assert!(matches!(found, Err(StoreError::FileLost(_))), "{what}: {found:?}");
    assert!(!harness.store.is_current(), "{what}: the cache answers");
    drop(other);
}

#[tokio::test]
async fn removed_files_are_noticed() {
    is_noticed("the database", |files| fs::remove_file(files.database()).unwrap()).await;
    is_noticed("the log", |files| fs::remove_file(files.beside("-wal")).unwrap()).await;
    is_noticed("the index", |files| fs::remove_file(files.beside("-shm")).unwrap()).await;
    is_noticed("the folder", |files| fs::remove_dir_all(&files.folder).unwrap()).await;
    is_noticed("a moved folder", |files| {
        fs::rename(&files.folder, files.folder.with_extension("old")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn replaced_files_are_noticed() {
    is_noticed("by a backup", |files| fs::rename(&files.backup, files.database()).unwrap()).await;
    is_noticed("by another store", |files| {
        for ending in ["", "-wal", "-shm"] {
            fs::rename(format!("{}{ending}", files.other.display()), files.beside(ending)).unwrap();
        }
    })
    .await;
    is_noticed("by a copy of itself", |files| {
        fs::copy(files.database(), files.folder.join("copy")).unwrap();
        fs::rename(files.folder.join("copy"), files.database()).unwrap();
    })
    .await;
    is_noticed("the log", |files| {
        fs::copy(files.beside("-wal"), files.folder.join("copy")).unwrap();
        fs::rename(files.folder.join("copy"), files.beside("-wal")).unwrap();
    })
    .await;
    is_noticed("by a link to the same file", |files| {
        fs::rename(files.database(), files.folder.join("real.db")).unwrap();
        symlink("real.db", files.database()).unwrap();
    })
    .await;
    is_noticed("the folder by a copy", |files| {
        let old = files.folder.with_extension("old");
        fs::rename(&files.folder, &old).unwrap();
        fs::create_dir(&files.folder).unwrap();
        for ending in ["", "-wal", "-shm"] {
            let name = format!("store.db{ending}");
            fs::copy(old.join(&name), files.folder.join(&name)).unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn overwritten_files_are_noticed() {
    is_noticed("by a backup", |files| copy_into(&files.backup, &files.database())).await;
    is_noticed("by another store", |files| copy_into(&files.other, &files.database())).await;
    is_noticed("a truncated database", |files| {
        fs::OpenOptions::new().write(true).open(files.database()).unwrap().set_len(0).unwrap();
    })
    .await;
    is_noticed("a grown database", |files| {
        let mut file = fs::OpenOptions::new().append(true).open(files.database()).unwrap();
        file.write_all(&[0; 4096]).unwrap();
    })
    .await;
    is_noticed("a truncated log", |files| {
        fs::OpenOptions::new().write(true).open(files.beside("-wal")).unwrap().set_len(0).unwrap();
    })
    .await;
    is_noticed("the log by that of another store", |files| {
        copy_into(Path::new(&format!("{}-wal", files.other.display())), &files.beside("-wal"));
    })
    .await;
}

/// The names of the files may contain a link from the start.
#[tokio::test]
async fn a_linked_database_is_watched() {
    let home = tempfile::tempdir().unwrap();
    let (link, real) = (home.path().join("link.db"), home.path().join("real.db"));
    symlink("real.db", &link).unwrap();
    let harness = open(&link, ());
    harness.submit(submission("1")).await;
    fs::rename(&real, home.path().join("moved.db")).unwrap();
    let refused = harness.store.submit(&acme(), submission("2")).await;
    assert!(matches!(refused, Err(StoreError::FileLost(_))), "{refused:?}");
}

/// Backups, commits and checkpoints of other programs that use `SQLite` are no loss.
#[tokio::test]
async fn other_users_of_sqlite_are_tolerated() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store.db");
    let harness = open(&path, ());
    let other = Connection::open(&path).unwrap();
    for (number, statement) in [
        "SELECT count(*) FROM analyses",
        "UPDATE analyses SET errors = errors + 1",
        "PRAGMA wal_checkpoint(PASSIVE)",
        "PRAGMA wal_checkpoint(RESTART)",
        "CREATE TABLE note (text TEXT); DROP TABLE note",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "BEGIN; UPDATE analyses SET errors = 7; ROLLBACK",
        "VACUUM",
        "PRAGMA wal_checkpoint(FULL)",
    ]
    .into_iter()
    .enumerate()
    {
        harness.submit(submission(&format!("before-{number}"))).await;
        other.execute_batch(statement).unwrap();
        harness.store.check().await.unwrap();
        harness.submit(submission(&format!("after-{number}"))).await;
    }
    other.execute("VACUUM INTO ?", [home.path().join("backup.db").to_str().unwrap()]).unwrap();
    fs::hard_link(&path, home.path().join("link.db")).unwrap();
    // Closing a connection must not release the locks of the store.
    drop(other);
    harness.submit(submission("last")).await;
    assert_eq!(harness.claim(Queue::Submits).await.len(), 19);
}

/// On a slow disk, a checkpoint of another program lasts longer than the time between two checks.
#[tokio::test]
async fn a_long_checkpoint_is_no_loss() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store.db");
    let harness = open(&path, ());
    harness.submit(submission("1")).await;
    // A checkpoint writes the number of frames that it copies to the index (https://sqlite.org/walformat.html), then to the database.
    let index = fs::OpenOptions::new().write(true).open(path.with_extension("db-shm")).unwrap();
    index.write_all_at(&1_u32.to_ne_bytes(), 128).unwrap();
    let database = fs::File::open(&path).unwrap();
    for second in 0..3 {
        database.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).unwrap();
        harness.store.check().await.unwrap();
    }
    harness.submit(submission("2")).await;
    // Closing a file releases the locks of this process on it.
    drop(harness);
}

/// The log is copied to the database again and again, and the file is opened again.
#[tokio::test]
async fn checkpoints_of_the_store_are_no_loss() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store.db");
    let harness = open(&path, ());
    let size = || fs::metadata(&path).unwrap().len();
    let (empty, mut calls) = (size(), 0);
    while size() < empty + (8 << 20) {
        let batch = (0..500).map(|number| submission(&format!("{calls}-{number}"))).collect();
        harness.store.submit_all(&acme(), batch).await.unwrap();
        calls += 500;
    }
    let log = fs::metadata(path.with_extension("db-wal")).unwrap().len();
    assert!(log < 16 << 20, "the log is reused: {log}");
    drop(harness);
    let harness = open(&path, ());
    assert_eq!(harness.rows.count("analyses").await, calls);
    harness.store.check().await.unwrap();
}
