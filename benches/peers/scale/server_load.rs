//! The work of PostgreSQL and of the replicas.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::gateway::Gateway;
use crate::postgres::database::Database;
use crate::process::cpu_time;
use crate::report::grouped;

/// Counts the work on one database. It listens for the notices of the gateways.
pub(super) struct ServerLoad {
    client: Client,
    notices: Arc<AtomicU64>,
}

/// Work since the start of the processes, or between two moments.
pub(super) struct Work {
    gateway_cpu: f64,
    /// CPU time in seconds of each process of the server.
    server_cpu: HashMap<u32, f64>,
    transactions: f64,
    notices: f64,
    log_bytes: f64,
    table_bytes: f64,
    index_bytes: f64,
    /// Number of rows in `analyses`.
    pub(super) analyses: f64,
    pub(super) connections: f64,
}

/// The channel of `src/store/postgres/notices.rs`.
const LISTEN: &str = "LISTEN \"alovoice_gateway.public\"";
const READ: &str = "SELECT pg_stat_clear_snapshot()::text, (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())::float8, \
     pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8, \
     (SELECT sum(pg_table_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace)::float8, \
     (SELECT sum(pg_indexes_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace)::float8, \
     (SELECT count(*) FROM analyses)::float8, \
     (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid())::float8";

impl ServerLoad {
    pub(super) async fn start(database: &Database) -> Self {
        let (client, mut connection) =
            tokio_postgres::connect(database.url(), NoTls).await.expect("a connection");
        let notices = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&notices);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(_) = message {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        client.batch_execute(LISTEN).await.expect("notices");
        Self { client, notices }
    }

    pub(super) async fn work(&self, gateways: &[Gateway]) -> Work {
        let row = self.client.query_one(READ, &[]).await.expect("statistics");
        let pids =
            self.client.query("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()", &[]).await;
        let pids =
            pids.expect("processes").into_iter().filter_map(|row| u32::try_from(row.get::<_, i32>(0)).ok());
        Work {
            gateway_cpu: gateways.iter().map(|gateway| cpu_time(gateway.process.id())).sum(),
            server_cpu: pids.map(|pid| (pid, cpu_time(pid))).collect(),
            transactions: row.get(1),
            notices: self.notices.load(Ordering::Relaxed) as f64,
            log_bytes: row.get(2),
            table_bytes: row.get(3),
            index_bytes: row.get(4),
            analyses: row.get(5),
            connections: row.get(6),
        }
    }
}

impl Work {
    /// The names of the values of [`Work::each`].
    pub(super) const NAMES: [&str; 7] = [
        "CPU of all gateways (µs)",
        "CPU of PostgreSQL (µs)",
        "transactions",
        "notices of NOTIFY",
        "bytes of WAL",
        "bytes of tables",
        "bytes of indexes",
    ];

    pub(super) fn since(&self, before: &Self) -> Self {
        let server_cpu =
            self.server_cpu.iter().map(|(pid, cpu)| (*pid, cpu - before.server_cpu.get(pid).unwrap_or(&0.0)));
        Self {
            gateway_cpu: self.gateway_cpu - before.gateway_cpu,
            server_cpu: server_cpu.collect(),
            transactions: self.transactions - before.transactions,
            notices: self.notices - before.notices,
            log_bytes: self.log_bytes - before.log_bytes,
            table_bytes: self.table_bytes - before.table_bytes,
            index_bytes: self.index_bytes - before.index_bytes,
            analyses: self.analyses - before.analyses,
            connections: self.connections,
        }
    }

    /// Returns the work for each of `count` calls.
    pub(super) fn each(&self, count: f64) -> Vec<String> {
        let server_cpu: f64 = self.server_cpu.values().sum();
        let per = |value: f64| value / count;
        vec![
            grouped(per(self.gateway_cpu) * 1e6),
            grouped(per(server_cpu) * 1e6),
            format!("{:.2}", per(self.transactions)),
            format!("{:.3}", per(self.notices)),
            grouped(per(self.log_bytes)),
            grouped(per(self.table_bytes)),
            grouped(per(self.index_bytes)),
        ]
    }
}
