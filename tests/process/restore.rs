//! Restore of a store from a backup. Calls submitted to the vendor after the backup are not submitted again.

use std::path::Path;
use std::process::Command;

use crate::gateway::within;
use crate::postgres::server::Server;
use crate::stage::{Stage, id};
use crate::store::Store;

/// The statement of docs/operating.md that ends every restore.
fn statement() -> &'static str {
    let handbook = include_str!("../../docs/operating.md");
    let found: Vec<_> =
        handbook.match_indices("UPDATE analyses").map(|(place, _)| &handbook[place..]).collect();
    let statements: Vec<_> = found.iter().map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(statements.len() == 2 && statements[0] == statements[1], "{statements:?}");
    statements[0]
}

fn run(program: &Path, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Backs the store up with the commands of docs/operating.md.
async fn back_up(stage: &Stage) {
    let copy = stage.home.path().join("backup");
    match &stage.store {
        Store::File(path) => {
            run(Path::new("sqlite3"), &[path.to_str().unwrap(), &format!(".backup '{}'", copy.display())]);
        }
        Store::Database(database) => {
            let file = format!("--file={}", copy.display());
            run(&Server::shared().await.program("pg_dump"), &["--format=custom", &file, database.url()]);
        }
    }
}

async fn restore(stage: &mut Stage) {
    let copy = stage.home.path().join("backup");
    match &stage.store {
        Store::File(path) => {
            for ending in ["", "-wal", "-shm"] {
                // SQLite removes these files with the last connection.
                let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
            }
            std::fs::copy(copy, path).unwrap();
            run(Path::new("sqlite3"), &[path.to_str().unwrap(), statement()]);
        }
        Store::Database(_) => {
            let restored = Server::shared().await.fresh_database().await;
            let into = format!("--dbname={}", restored.url());
            run(
                &Server::shared().await.program("pg_restore"),
                &["--exit-on-error", "--no-owner", &into, copy.to_str().unwrap()],
            );
            restored.connect().await.batch_execute(statement()).await.unwrap();
            stage.set("STORE__URL", restored.url());
            stage.store = Store::Database(restored);
        }
    }
}

async fn check_single_submit(mut stage: Stage) {
    const CALLS: [&str; 4] = ["finished", "in-flight", "waiting-1", "waiting-2"];
    // The backup has the leases of the work in progress, and after the restore this work waits for their end.
    stage.shorten_leases();
    stage.set("TENANTS__ACME__MAX_CONCURRENCY", "1");
    let gateway = stage.serve().await;
    stage.submit(&gateway, "finished").await.unwrap();
    stage.completed(&gateway, "finished").await;
    // The vendor holds the submit of one call, and the other calls wait for it.
    stage.vendor.set_held(true);
    stage.submit(&gateway, "in-flight").await.unwrap();
    let is_there = |calls: &[alovoice_gateway::sandbox::stand_in::VendorRequest]| {
        calls.iter().any(|call| call.call_id == id("in-flight"))
    };
    within("a submit", stage.vendor.wait_for(is_there)).await;
    for call_id in ["waiting-1", "waiting-2"] {
        stage.submit(&gateway, call_id).await.unwrap();
    }
    back_up(&stage).await;
    stage.vendor.set_held(false);
    for call_id in CALLS {
        stage.completed(&gateway, call_id).await;
        assert_eq!(stage.vendor.accepted_submits(&id(call_id)), 1, "{call_id} before the restore");
    }
    gateway.stop().await;

    restore(&mut stage).await;
    let waiting = "SELECT count(*) FROM analyses WHERE stage = 'confirm'";
    assert!(
        stage.store.count(waiting).await >= 2,
        "the backup must contain calls that wait for confirmation"
    );
    let gateway = stage.serve().await;
    for call_id in CALLS {
        stage.completed(&gateway, call_id).await;
        assert_eq!(stage.vendor.accepted_submits(&id(call_id)), 1, "{call_id} after the restore");
        assert_eq!(stage.store.events_of(call_id).await, 1, "events of {call_id}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_submitted_after_a_sqlite_backup_are_not_submitted_again() {
    check_single_submit(Stage::set_up().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_submitted_after_a_postgres_backup_are_not_submitted_again() {
    check_single_submit(Stage::set_up_on_postgres().await).await;
}
