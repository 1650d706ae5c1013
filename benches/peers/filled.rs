//! Stores with many calls, for the real gateway.

use std::time::Instant;

use alovoice_gateway::domain::clock::{Clock, SystemClock};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::fill::Calls;
use crate::gateway::{self, Gateway, Options};
use crate::postgres::database::Database;
use crate::postgres::server::Server;

/// Calls that the first retention pass deletes.
pub(crate) const EXPIRED: i64 = 200;
/// Unfinished calls that no step of this run touches, per finished call.
const UNFINISHED: f64 = 0.2;

/// A filled store. Dropping it removes the store.
pub(crate) struct Filled {
    pub(crate) calls: Calls<'static>,
    place: Place,
}

enum Place {
    Sqlite(TempDir),
    Postgres(Database),
}

/// Drops all indexes that belong to no constraint, because the creation of an index is much faster than a million inserts. Foreign keys
/// are not checked.
const BEFORE_POSTGRES: &str = "SET session_replication_role = replica; SET synchronous_commit = off; SET maintenance_work_mem = '512MB'; \
     SET work_mem = '256MB'; CREATE TEMPORARY TABLE dropped AS SELECT indexname, indexdef FROM pg_indexes \
     WHERE schemaname = current_schema() AND indexname NOT IN (SELECT conname FROM pg_constraint); \
     DO $$ DECLARE name text; BEGIN FOR name IN SELECT indexname FROM dropped LOOP EXECUTE 'DROP INDEX ' || name; END LOOP; END $$;";
const AFTER_POSTGRES: &str = "DO $$ DECLARE statement text; BEGIN FOR statement IN SELECT indexdef FROM dropped LOOP EXECUTE statement; END LOOP; END $$; \
     DROP TABLE dropped;";
const BEFORE_SQLITE: &str = "PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA cache_size = -1000000; \
     PRAGMA temp_store = MEMORY;";

impl Filled {
    /// Creates a store with this number of finished calls that do not expire. `server` is the PostgreSQL server, or `None` for SQLite.
    /// `options` starts a gateway on the empty store, which creates the tables.
    pub(crate) async fn create(finished: i64, server: Option<&Server>, options: Options<'_>) -> Self {
        let began = Instant::now();
        let newest = SystemClock.now().as_millis() - 1000;
        let unfinished = (finished as f64 * UNFINISHED) as i64;
        let calls = Calls { tenant: "acme", finished: finished + EXPIRED, unfinished, newest };
        let is_sqlite = server.is_none();
        let sql = calls.sql(is_sqlite) + &calls.history_sql(is_sqlite, EXPIRED);
        let place = match server {
            None => {
                let home = gateway::start(Options { postgres: None, ..options }).await.into_home();
                fill_sqlite(&Connection::open(Gateway::database(home.path())).expect("a database"), &sql)
                    .expect("SQLite takes the rows");
                Place::Sqlite(home)
            }
            Some(server) => {
                let database = server.fresh_database().await;
                drop(gateway::start(Options { postgres: Some(database.url()), ..options }).await);
                let client = database.connect().await;
                for sql in [BEFORE_POSTGRES, &sql, AFTER_POSTGRES, "VACUUM ANALYZE", "CHECKPOINT"] {
                    client.batch_execute(sql).await.expect("PostgreSQL takes the rows");
                }
                Place::Postgres(database)
            }
        };
        eprintln!("a store was filled with {finished} calls in {} s", began.elapsed().as_secs());
        Self { calls, place }
    }

    /// The URL of the store in the settings of the gateway.
    pub(crate) fn url(&self) -> String {
        match &self.place {
            Place::Sqlite(home) => format!("sqlite://{}", Gateway::database(home.path()).display()),
            Place::Postgres(database) => database.url().to_owned(),
        }
    }
}

fn fill_sqlite(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.execute_batch(BEFORE_SQLITE)?;
    let indexes: Vec<(String, String)> = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (name, _) in &indexes {
        connection.execute_batch(&format!("DROP INDEX {name}"))?;
    }
    connection.execute_batch(&format!("BEGIN; {sql} COMMIT;"))?;
    for (_, create) in &indexes {
        connection.execute_batch(create)?;
    }
    connection.execute_batch("PRAGMA journal_mode = WAL;")
}
