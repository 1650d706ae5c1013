//! The way from one machine to many: every row of a file into a database, and the proof that it got there.
//!
//! - The file is this process' alone meanwhile, as it would be a gateway's.
//! - A batch is one statement, and the rows that are in the database say where to go on: what was noted as copied
//!   cannot differ from what is there. A copy that was killed is begun again by the same command.
//! - No gateway opens the database until both sides were read again and found alike; from then on none opens the file.
//!   So nobody's work is done twice, whoever starts what and when.

mod checksum;
mod tables;

use std::fmt;
use std::path::{Path, PathBuf};

pub use self::checksum::Sum;
use self::checksum::Summing;
pub(in crate::store) use self::tables::{Cell, Column, Kind, Row, TABLES, Table};
use super::StoreError;
use super::postgres::{self, Target};
use super::sqlite::{self, Mark, Source};
use crate::config::PostgresUrl;
use crate::domain::clock::{Entropy, Timestamp};

/// The number of results that one batch lists, and holds in memory: each may be several MiB.
const LISTED_BATCH: i64 = 20;

/// Why a store was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] sqlite::OpenError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] postgres::OpenError),
    /// Either of them failed on the way.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A gateway or another copy works on the database.
    #[error("the database is in use: stop the gateways that work on it, and any other copy into it")]
    DatabaseInUse,
    /// Something else was there first.
    #[error("the database is not empty: there are rows already in {}", .0.join(", "))]
    NotEmpty(Vec<&'static str>),
    /// What was copied so far is not of this file as it is now.
    #[error(
        "the database holds a copy of another file, or of this one before a gateway worked on it again: \
         take an empty database, or empty this one, and begin anew"
    )]
    OfAnotherFile,
    /// The engines do not hold the same; a fault of this program, or a later version's schema.
    #[error("the columns of the table {0} are not the same in the file and in the database")]
    Columns(&'static str),
    /// The proof failed.
    #[error("the copy is not what the file is:{}", told(.0))]
    Differs(Vec<Comparison>),
}

fn told(comparisons: &[Comparison]) -> String {
    let told = comparisons.iter().map(|Comparison { table, file, database }| {
        format!("\n  {table}: {file} in the file, {database} in the database")
    });
    told.collect()
}

/// How far a copy was when it was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing was there.
    New,
    /// An earlier run was interrupted.
    Resumed,
    /// An earlier run went to the end: there is nothing to do.
    Finished,
}

/// Rows that are in the database now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Of which table.
    pub table: &'static str,
    /// How many.
    pub rows: usize,
}

/// A table as it was found on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Which.
    pub table: &'static str,
    /// What the file holds.
    pub file: Sum,
    /// What the database holds.
    pub database: Sum,
}

impl Comparison {
    fn agrees(&self) -> bool {
        self.file == self.database
    }
}

/// A copy under way: [`begin`](Self::begin), [`step`](Self::step) until nothing is left, [`finish`](Self::finish).
pub struct StoreCopy {
    path: PathBuf,
    source: Source,
    target: Target,
    tables: Vec<Table>,
    /// The table that is being copied, and its last key that is in the database; `None` if not yet asked for.
    at: usize,
    after: Option<Row>,
    /// The last analysis whose result is listed; `None` if not yet asked for.
    listed: Option<i64>,
}

impl fmt::Debug for StoreCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCopy").field("path", &self.path).field("at", &self.at).finish_non_exhaustive()
    }
}

impl StoreCopy {
    /// Takes the file and the database for this process. Both are brought up to date as a gateway would do it: their
    /// schemas, and in the file the leases of a process that died.
    ///
    /// # Errors
    /// [`CopyError`] says which of them cannot be had.
    pub async fn open(
        from: &Path,
        to: &PostgresUrl,
        password_file: Option<&Path>,
        now: Timestamp,
    ) -> Result<Self, CopyError> {
        let source = Source::open(from, now)?;
        let target = Target::open(to, password_file).await?;
        if !target.take().await? {
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

    /// Notes in both that the one is copied into the other, unless that is what they say already.
    ///
    /// # Errors
    /// [`CopyError`], above all if the database holds anything else.
    pub async fn begin(&self, entropy: &dyn Entropy) -> Result<Beginning, CopyError> {
        match (self.target.note().await?, self.source.mark()?) {
            (None, Some(Mark { is_finished: true, .. })) => {
                Err(sqlite::OpenError::Moved(self.path.clone()).into())
            }
            (None, _) => {
                self.check_emptiness().await?;
                let id = new_id(entropy);
                self.source.set_mark(&id)?;
                self.target.set_note(&id).await?;
                Ok(Beginning::New)
            }
            (Some(note), Some(mark)) if note.source == mark.id => {
                Ok(if note.is_finished { Beginning::Finished } else { Beginning::Resumed })
            }
            (Some(_), _) => Err(CopyError::OfAnotherFile),
        }
    }

    async fn check_emptiness(&self) -> Result<(), CopyError> {
        let mut full = Vec::new();
        for table in &self.tables {
            if self.target.last_key(table).await?.is_some() {
                full.push(table.name);
            }
        }
        if full.is_empty() { Ok(()) } else { Err(CopyError::NotEmpty(full)) }
    }

    /// Copies the next batch of rows, and after the last of them derives the next batch of list and search entries.
    /// Returns `None` when nothing is left.
    ///
    /// # Errors
    /// [`CopyError`]; what was copied before stays.
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

    /// Reads both sides from beginning to end and compares them.
    ///
    /// # Errors
    /// [`CopyError::Differs`] names every table that is not the same.
    pub async fn verify(&self) -> Result<Vec<Comparison>, CopyError> {
        let mut comparisons = Vec::with_capacity(self.tables.len());
        for table in &self.tables {
            let (mut file, mut database) = (Summing::new(), Summing::new());
            self.source.read(table, |row| file.add(row))?;
            self.target.read(table, |row| database.add(row)).await?;
            comparisons.push(Comparison { table: table.name, file: file.end(), database: database.end() });
        }
        if comparisons.iter().all(Comparison::agrees) {
            return Ok(comparisons);
        }
        comparisons.retain(|comparison| !comparison.agrees());
        Err(CopyError::Differs(comparisons))
    }

    /// Verifies the copy and hands the work over: the file's is over, the database's begins.
    ///
    /// # Errors
    /// [`CopyError`]; then the database stays closed to gateways.
    pub async fn finish(&self) -> Result<Vec<Comparison>, CopyError> {
        let comparisons = self.verify().await?;
        for table in &self.tables {
            if let Some(column) = &table.identity {
                let highest = self.source.highest(table, column)?;
                self.target.raise_identity(table, column, highest).await?;
            }
            self.target.analyze(table).await?;
        }
        // In this order: between the two nobody has the work, and never both.
        self.source.finish_mark()?;
        self.target.finish_note().await?;
        Ok(comparisons)
    }
}

/// Tells copies apart.
fn new_id(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}
