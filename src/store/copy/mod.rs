//! Copies a `SQLite` file into a PostgreSQL database, and verifies the copy.
//!
//! - The copy opens the file exclusively, as a gateway does.
//! - Each batch is one statement, and the next batch continues after the last row in the database. So the same
//!   command continues an interrupted copy.
//! - Gateways cannot open the database before both sides have been compared. After that, gateways cannot open the file. So
//!   gateways never use both sides, and no work is done twice.

mod checksum;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::checksum::Checksum;
use self::checksum::ChecksumBuilder;
use super::StoreError;
use super::postgres::{self, Target};
use super::sqlite::{self, CopyMarker, Source};
use super::tables::{Cells, TABLES, Table};
use crate::config::PostgresUrl;
use crate::domain::clock::{Entropy, Timestamp};

/// Number of results that one batch indexes. All of them are in memory, and each may have several MiB.
const LISTED_BATCH: i64 = 20;

/// Reason why a store was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] sqlite::SqliteOpenError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] postgres::PostgresOpenError),
    /// The file or the database failed during the copy.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A gateway or another copy uses the database.
    #[error("the database is in use: stop its gateways and any other copy into it")]
    DatabaseInUse,
    /// The database has rows that no copy has written.
    #[error("the database is not empty: these tables have rows: {}", .0.join(", "))]
    NotEmpty(Vec<&'static str>),
    /// The rows in the database come from another file, or from an earlier state of this file.
    #[error(
        "the database holds a copy of another file, or of this file before a gateway used it again: \
         start again with an empty database"
    )]
    OfAnotherFile,
    /// The tables have different columns in the two engines. Either this program has a bug, or a later version wrote the schema.
    #[error("table {0} has different columns in the file and in the database")]
    Columns(&'static str),
    /// The file and the database hold different rows.
    #[error("the copy differs from the file:{}", differences(.0))]
    Differs(Vec<Comparison>),
}

fn differences(comparisons: &[Comparison]) -> String {
    let lines = comparisons.iter().map(|Comparison { table, file, database }| {
        format!("\n  {table}: {file} in the file, {database} in the database")
    });
    lines.collect()
}

/// The state of the copy when a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyStart {
    /// No earlier run has begun the copy.
    New,
    /// An earlier run was interrupted.
    Resumed,
    /// An earlier run has finished the copy.
    Finished,
}

/// A batch of rows that was written to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// The name of the table.
    pub table: &'static str,
    /// The number of rows.
    pub rows: usize,
}

/// The checksums of a table on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The name of the table.
    pub table: &'static str,
    /// The checksum of the file's rows.
    pub file: Checksum,
    /// The checksum of the database's rows.
    pub database: Checksum,
}

impl Comparison {
    fn is_equal(&self) -> bool {
        self.file == self.database
    }
}

/// A copy in progress: call [`begin`](Self::begin), [`step`](Self::step) until it returns `None`, and [`finish`](Self::finish).
pub struct StoreCopy {
    path: PathBuf,
    source: Source,
    target: Target,
    tables: Vec<Table>,
    /// The index of the table that is being copied.
    at: usize,
    /// The last key of the table in the database; `None` if the table has no rows there, or if the key was not read yet.
    after: Option<Cells>,
    /// The last analysis whose result was indexed in this run.
    listed: Option<i64>,
}

impl fmt::Debug for StoreCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCopy").field("path", &self.path).field("at", &self.at).finish_non_exhaustive()
    }
}

impl StoreCopy {
    /// Opens the file and the database exclusively. Migrates both schemas, and releases the leases in the file.
    /// `operation_timeout` limits each statement on the database.
    ///
    /// # Errors
    /// [`CopyError`] if the file or the database cannot be used or is in use, or if their tables have different columns.
    pub async fn open(
        from: &Path,
        to: &PostgresUrl,
        password_file: Option<&Path>,
        operation_timeout: Duration,
        now: Timestamp,
    ) -> Result<Self, CopyError> {
        let source = Source::open(from, now)?;
        let target = Target::open(to, password_file, operation_timeout).await?;
        if !target.lock().await? {
            return Err(CopyError::DatabaseInUse);
        }
        let mut tables = Vec::with_capacity(TABLES.len());
        for name in TABLES {
            let mut table = target.describe(name).await?;
            let columns = source.columns(name)?;
            table.is_in_file = !columns.is_empty();
            if table.is_in_file && !table.has_columns(columns) {
                return Err(CopyError::Columns(name));
            }
            tables.push(table);
        }
        Ok(Self { path: from.to_owned(), source, target, tables, at: 0, after: None, listed: None })
    }

    /// Records the copy in the file and in the database, or finds the record of an earlier run.
    ///
    /// # Errors
    /// [`CopyError`], for instance if the database holds other rows.
    pub async fn begin(&self, entropy: &dyn Entropy) -> Result<CopyStart, CopyError> {
        match (self.target.copy_record().await?, self.source.copy_marker()?) {
            (None, Some(CopyMarker { is_finished: true, .. })) => {
                Err(sqlite::SqliteOpenError::Moved(self.path.clone()).into())
            }
            (None, _) => {
                self.check_empty().await?;
                let id = new_id(entropy);
                self.source.create_copy_marker(&id)?;
                self.target.create_copy_record(&id).await?;
                Ok(CopyStart::New)
            }
            (Some(record), Some(marker)) if record.source == marker.id => {
                Ok(if record.is_finished { CopyStart::Finished } else { CopyStart::Resumed })
            }
            (Some(_), _) => Err(CopyError::OfAnotherFile),
        }
    }

    async fn check_empty(&self) -> Result<(), CopyError> {
        let mut full = Vec::new();
        for table in &self.tables {
            if self.target.last_key(table).await?.is_some() {
                full.push(table.name);
            }
        }
        if full.is_empty() { Ok(()) } else { Err(CopyError::NotEmpty(full)) }
    }

    /// Copies the next batch of rows. After the last row, creates the list and search entries in batches. Returns `None` when the
    /// copy is complete.
    ///
    /// # Errors
    /// [`CopyError`] if the file or the database fails. Earlier batches stay in the database.
    pub async fn step(&mut self) -> Result<Option<Batch>, CopyError> {
        while let Some(table) = self.tables.get(self.at) {
            if self.after.is_none() {
                self.after = self.target.last_key(table).await?;
            }
            let rows = self.source.batch(table, self.after.as_deref())?;
            if let Some(last) = rows.last() {
                self.target.write(table, &rows).await?;
                self.after = Some(table.key_of(last));
                return Ok(Some(Batch { table: table.name, rows: rows.len() }));
            }
            (self.at, self.after) = (self.at + 1, None);
        }
        let Some((last, rows)) = self.target.list_results(self.listed, LISTED_BATCH).await? else {
            return Ok(None);
        };
        self.listed = Some(last);
        Ok(Some(Batch { table: "listings", rows }))
    }

    /// Reads both sides completely and compares them.
    ///
    /// # Errors
    /// [`CopyError::Differs`] names every table that differs. Other errors mean that one side cannot be read.
    pub async fn verify(&self) -> Result<Vec<Comparison>, CopyError> {
        let mut comparisons = Vec::with_capacity(self.tables.len());
        for table in &self.tables {
            let (mut file, mut database) = (ChecksumBuilder::new(), ChecksumBuilder::new());
            self.source.read(table, |row| file.add(row))?;
            self.target.read(table, |row| database.add(row)).await?;
            comparisons.push(Comparison {
                table: table.name,
                file: file.finish(),
                database: database.finish(),
            });
        }
        if comparisons.iter().all(Comparison::is_equal) {
            return Ok(comparisons);
        }
        comparisons.retain(|comparison| !comparison.is_equal());
        Err(CopyError::Differs(comparisons))
    }

    /// Verifies the copy. After that, gateways can open the database and not the file.
    ///
    /// # Errors
    /// [`CopyError`] if the two sides differ, or if the file or the database fails. Gateways then still cannot open the database.
    pub async fn finish(&self) -> Result<Vec<Comparison>, CopyError> {
        let comparisons = self.verify().await?;
        for table in &self.tables {
            if let Some(column) = &table.identity {
                let highest = self.source.highest(table, column)?;
                self.target.raise_identity(table, column, highest).await?;
            }
            self.target.analyze(table).await?;
        }
        // The marker in the file is finished first, so that gateways can never open both.
        self.source.finish_copy_marker()?;
        self.target.finish_copy_record().await?;
        Ok(comparisons)
    }
}

/// Returns a random id of a copy.
fn new_id(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}
