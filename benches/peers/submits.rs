//! Durable submissions, against inserts of the same row by the tools of each database.

use std::cell::Cell;
use std::fs;
use std::process::Command;

use alovoice_gateway::sandbox::stand_in::Ready;
use jsonwebtoken::Algorithm;
use tokio::runtime::Runtime;

use crate::bare;
use crate::gateway::{self, Gateway, HELD, Options};
use crate::load::{CONNECTIONS, Load, Measured, SECONDS};
use crate::postgres::database::Database;
use crate::postgres::server::Server;
use crate::process::pinned;
use crate::report::{Report, Side};
use crate::signer::Signer;

pub(crate) fn measure(report: &mut Report, runtime: &Runtime) {
    let signer = Signer::new(Algorithm::HS256);
    let start = |postgres: Option<&str>| {
        let options =
            Options { signer: &signer, postgres, processing: Ready::AfterPolls(2), settings: &HELD };
        runtime.block_on(gateway::start(options))
    };
    let submit = |postgres: Option<&str>, connections: u32| {
        let gateway = start(postgres);
        gateway.vendor.set_held(true);
        Load::submit(&gateway.url("analyses"), &gateway.token, connections).on(&gateway.process).run()
    };
    let inserts = || {
        let home = start(None).into_home();
        bare::inserts(&Gateway::database(home.path()))
    };
    report.compare(
        "a durable submission, SQLite",
        Side(", 32 connections", Box::new(|| submit(None, CONNECTIONS))),
        vec![(Side("bare inserts, 32 per commit, same table and indexes", Box::new(inserts)), 0.35)],
    );
    report.compare(
        "a durable submission, SQLite",
        Side(", 512 connections", Box::new(|| submit(None, 512))),
        vec![(Side("the gateway, 32 connections", Box::new(|| submit(None, CONNECTIONS))), 0.0)],
    );
    let server = runtime.block_on(gateway::durable_postgres());
    let database = Cell::new(None);
    let fresh = || {
        let fresh: Database = runtime.block_on(server.fresh_database());
        let url = fresh.url().to_owned();
        database.set(Some(fresh));
        url
    };
    let pgbench = || {
        let url = fresh();
        drop(start(Some(&url)));
        pgbench(&server, &url, INSERT)
    };
    report.compare(
        "a durable submission, PostgreSQL",
        Side(", 32 connections", Box::new(|| submit(Some(&fresh()), CONNECTIONS))),
        vec![(Side("pgbench, inserts of one row, 32 clients", Box::new(pgbench)), 0.9)],
    );
    report.comparisons("Submissions");
}

/// Inserts the row of a submission.
const INSERT: &str = "\\set number random(1, 1000000000000)\n\
     INSERT INTO analyses (tenant, call_id, status, revision, submitted_at, metadata, trace, stage, due_at, started_at) \
     VALUES ('acme', '1795374000-' || :number, 'queued', 0, 1795374000000, '{}', \
     '{\"trace_id\":101518349412345678901234567890,\"flags\":0}', 'submit', 1795374000000, 1795374000000);\n";

/// Runs a script of pgbench with each transaction. Returns transactions per second.
pub(crate) fn pgbench(server: &Server, url: &str, transaction: &str) -> Measured {
    let home = tempfile::tempdir().expect("a temporary folder");
    let script = home.path().join("transaction.sql");
    fs::write(&script, transaction).expect("a file");
    let mut command: Command = pinned(server.program("pgbench"));
    command.args([
        "-n",
        "-M",
        "prepared",
        "-j",
        "1",
        "-c",
        &CONNECTIONS.to_string(),
        "-T",
        &SECONDS.to_string(),
        "-f",
    ]);
    let output = command.arg(script).arg(url).output().expect("pgbench is needed");
    let text = String::from_utf8_lossy(&output.stdout);
    let rate =
        text.lines().find_map(|line| line.strip_prefix("tps = ")).and_then(|it| it.split_whitespace().next());
    Measured::rate(
        rate.and_then(|rate| rate.parse().ok())
            .unwrap_or_else(|| panic!("pgbench printed {text} {}", String::from_utf8_lossy(&output.stderr))),
    )
}
