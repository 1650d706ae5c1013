//! Reads data for tests that the gateway does not read: rows of tables that it only writes, and the deliveries of a call.
//!
//! Test binaries share this source with `#[path = "../support/rows.rs"] mod rows;`, and need `patience` too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alovoice_gateway::domain::clock::Timestamp;
use alovoice_gateway::domain::deliveries::{DeliveryFilter, DeliveryQuery};
use alovoice_gateway::domain::ids::{CallId, DeliveryId, TenantId};
use alovoice_gateway::domain::pace::Pace;
use alovoice_gateway::store::{RecordedAttempt, RecordedDelivery, Store};
use tokio_postgres::NoTls;

use crate::patience::{PATIENCE, patiently};

/// The database behind a store.
pub(crate) enum Rows {
    /// A `SQLite` file.
    File(PathBuf),
    /// The URL of a PostgreSQL database.
    Server(String),
}

/// A row of the audit log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AuditRecord {
    pub(crate) at: Timestamp,
    pub(crate) subject: Option<String>,
    pub(crate) request_id: String,
    pub(crate) action: String,
}

type Row = Vec<Option<String>>;

impl Rows {
    pub(crate) fn of_file(path: &Path) -> Self {
        Self::File(path.to_owned())
    }

    pub(crate) fn of_server(url: &str) -> Self {
        Self::Server(url.to_owned())
    }

    /// The rows that a statement selects. Every column must have the type `text`.
    async fn select(&self, sql: &str) -> Vec<Row> {
        match self {
            Self::File(path) => {
                let file = open(path);
                let mut statement = file.prepare(sql).unwrap();
                let width = statement.column_count();
                let row = |row: &rusqlite::Row<'_>| (0..width).map(|index| row.get(index)).collect();
                statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
            }
            Self::Server(url) => {
                let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
                tokio::spawn(connection);
                let rows = client.query(sql, &[]).await.unwrap();
                rows.iter().map(|row| (0..row.len()).map(|index| row.get(index)).collect()).collect()
            }
        }
    }

    /// Whether the store is a file.
    pub(crate) const fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// The only number that a statement selects.
    pub(crate) async fn number(&self, sql: &str) -> u64 {
        let sql = format!("SELECT CAST(({sql}) AS text)");
        let [found] = self.select(&sql).await.pop().unwrap().try_into().unwrap();
        number(found)
    }

    /// Runs a statement that changes this number of rows.
    pub(crate) async fn change(&self, sql: &str, expected: u64) {
        let changed = match self {
            Self::File(path) => open(path).execute(sql, []).unwrap() as u64,
            Self::Server(url) => {
                let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
                tokio::spawn(connection);
                client.execute(sql, &[]).await.unwrap()
            }
        };
        assert_eq!(changed, expected, "{sql}");
    }

    /// Runs a statement.
    pub(crate) async fn execute(&self, sql: &str) {
        match self {
            Self::File(path) => {
                open(path).execute_batch(sql).unwrap();
            }
            Self::Server(url) => {
                let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
                tokio::spawn(connection);
                client.batch_execute(sql).await.unwrap();
            }
        }
    }

    /// Replaces the words in the search index of the analyses that meet a condition.
    pub(crate) async fn index_words(&self, words: &str, condition: &str) {
        let sql = match self {
            Self::File(_) => format!(
                "INSERT OR REPLACE INTO search (rowid, words) SELECT id, '{words}' FROM analyses WHERE {condition}"
            ),
            Self::Server(_) => format!(
                "INSERT INTO search (analysis, words) SELECT id, array_to_tsvector(string_to_array('{words}', ' ')) \
                 FROM analyses WHERE {condition} ON CONFLICT (analysis) DO UPDATE SET words = excluded.words"
            ),
        };
        self.execute(&sql).await;
    }

    /// The audit records of a call, the oldest first.
    pub(crate) async fn audit_of_call(&self, tenant: &TenantId, call_id: &CallId) -> Vec<AuditRecord> {
        let sql = format!(
            "SELECT CAST(at AS text), subject, request_id, action FROM audit \
             WHERE tenant = '{tenant}' AND call_id = '{call_id}' ORDER BY id"
        );
        let record = |row: Row| {
            let [at, subject, request_id, action] = row.try_into().unwrap();
            let at = Timestamp::from_millis(number(at));
            AuditRecord { at, subject, request_id: request_id.unwrap(), action: action.unwrap() }
        };
        self.select(&sql).await.into_iter().map(record).collect()
    }

    /// The number of rows of a table.
    pub(crate) async fn count(&self, table: &str) -> u64 {
        let sql = format!("SELECT CAST(count(*) AS text) FROM {table}");
        let [counted] = self.select(&sql).await.pop().unwrap().try_into().unwrap();
        number(counted)
    }

    /// The learned processing time of a tenant.
    pub(crate) async fn pace(&self, tenant: &TenantId) -> Option<Pace> {
        let sql = format!(
            "SELECT CAST(first_poll_after_ms AS text), CAST(slowest_ms AS text), CAST(samples AS text), CAST(learned_at AS text) FROM paces \
             WHERE tenant = '{tenant}'"
        );
        let [first_poll_after, slowest, samples, learned_at] =
            self.select(&sql).await.pop()?.try_into().unwrap();
        Some(Pace {
            first_poll_after: Duration::from_millis(number(first_poll_after)),
            slowest: Duration::from_millis(number(slowest)),
            samples: number(samples),
            learned_at: Timestamp::from_millis(number(learned_at)),
        })
    }
}

/// Opens a file that a busy gateway may lock for a while.
fn open(path: &Path) -> rusqlite::Connection {
    let file = rusqlite::Connection::open(path).unwrap();
    file.busy_timeout(PATIENCE).unwrap();
    file
}

/// The deliveries of a call, the oldest first.
pub(crate) async fn deliveries_of_call(
    store: &dyn Store,
    tenant: &TenantId,
    call_id: &CallId,
) -> Vec<RecordedDelivery> {
    let filter = DeliveryFilter { call_id: Some(call_id.clone()), ..DeliveryFilter::default() };
    let page = DeliveryQuery { filter, after: None, limit: 1000 };
    let mut deliveries = readable(patiently(|| store.list_deliveries(tenant, page.clone())).await);
    deliveries.reverse();
    deliveries
}

/// The last attempts of a delivery, the oldest first; empty if the tenant has no such delivery.
pub(crate) async fn attempts_of(
    store: &dyn Store,
    tenant: &TenantId,
    delivery: DeliveryId,
) -> Vec<RecordedAttempt> {
    let found = patiently(|| store.find_delivery(tenant, delivery)).await;
    found.map(|found| found.attempts).unwrap_or_default()
}

/// The rows of a list that has no unreadable rows.
pub(crate) fn readable<T, E: std::fmt::Debug>(rows: Vec<Result<T, E>>) -> Vec<T> {
    rows.into_iter().map(Result::unwrap).collect()
}

fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(text: Option<String>) -> T {
    text.unwrap().parse().unwrap()
}
