//! `store copy`: copies a SQLite file to PostgreSQL and prints the progress.

use std::fmt::Write as _;
use std::io::Write as _;

use super::arguments::{CopyArgs, UrlText};
use super::{Failed, print};
use crate::config::StoreUrl;
use crate::domain::clock::{Clock, SystemClock, SystemEntropy};
use crate::store::copy::{Comparison, CopyError, CopyStart, StoreCopy};
use crate::store::{StoreContext, postgres};

/// Number of rows between two progress lines of a table.
const ROWS_PER_PROGRESS_LINE: usize = 100_000;

const NEXT: &str = "\
Next: set store.url to the database (and store.password_file, if you used one), then start the gateways.
Gateways no longer start on the file. Keep it until you have a backup of the database.";

pub(super) async fn run(arguments: &CopyArgs) -> Result<(), Failed> {
    let StoreUrl::Sqlite(from) = url("--from", &arguments.from)? else {
        return Err(Failed::usage("--from must be a SQLite file, \"sqlite://path\""));
    };
    let StoreUrl::Postgres(to) = url("--to", &arguments.to)? else {
        return Err(Failed::usage(
            "--to must be a PostgreSQL database, \"postgres://user@host:5432/database\"",
        ));
    };
    let password_file = arguments.password_file.as_deref();
    if let Some(path) = password_file {
        // The file is checked here, because the error of a missing file would later look like a refusal by the
        // server.
        std::fs::read(path)
            .map_err(|error| Failed::usage(format!("--password-file {}: {error}", path.display())))?;
    }
    let copy =
        StoreCopy::open(&from, &to, password_file, StoreContext::OPERATION_TIMEOUT, SystemClock.now()).await;
    let copy = copy.map_err(|error| failed(&error))?;
    let report = if arguments.verify_only { compare(&copy).await } else { run_copy(copy).await };
    print(&report.map_err(|error| failed(&error))?)
}

fn url(name: &str, text: &UrlText) -> Result<StoreUrl, Failed> {
    text.parse().map_err(|error| Failed::usage(format!("{name}: {error}")))
}

async fn compare(copy: &StoreCopy) -> Result<String, CopyError> {
    Ok(format!("File and database are identical:\n\n{}", table(&copy.verify().await?)))
}

async fn run_copy(mut copy: StoreCopy) -> Result<String, CopyError> {
    match copy.begin(&SystemEntropy).await? {
        CopyStart::Finished => {
            return Ok("This file was already copied to this database. There is nothing to do.".to_owned());
        }
        CopyStart::Resumed => progress("resuming an interrupted copy"),
        CopyStart::New => {}
    }
    let (mut table_name, mut rows) = ("", 0);
    while let Some(batch) = copy.step().await? {
        if batch.table != table_name {
            (table_name, rows) = (batch.table, 0);
            progress(&format!("copying {table_name}"));
        }
        let before = rows;
        rows += batch.rows;
        if rows / ROWS_PER_PROGRESS_LINE > before / ROWS_PER_PROGRESS_LINE {
            progress(&format!("copying {table_name}: {rows} rows"));
        }
    }
    progress("comparing file and database");
    let comparisons = copy.finish().await?;
    Ok(format!("The copy is complete. File and database are identical:\n\n{}\n\n{NEXT}", table(&comparisons)))
}

/// Formats the comparison, one line per table.
fn table(comparisons: &[Comparison]) -> String {
    let mut lines = format!("{:<17}{:>10}  sha256", "table", "rows");
    for Comparison { table, file, .. } in comparisons {
        // Writing to a string cannot fail.
        let _ = write!(lines, "\n{table:<17}{:>10}  {}", file.rows, file.short());
    }
    lines
}

/// Prints a progress line on standard error. Ignores a failed write, for example because standard error is closed.
fn progress(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn failed(error: &CopyError) -> Failed {
    match error {
        CopyError::Database(postgres::PostgresOpenError::Settings(_)) => Failed::usage(error),
        _ => Failed::fault(error),
    }
}
