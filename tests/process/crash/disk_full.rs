//! A full disk, simulated by a limit on the size of files.

use alovoice_gateway::sandbox::stand_in::Operation;
use serde_json::json;

use super::ledger::Ledger;
use crate::gateway::{Serving, within};
use crate::stage::{SCOPES, Stage};
use crate::store::Store;

/// File size limit in blocks of 512 bytes (1,024 bytes where `sh` is bash). An empty store fits, and many calls do not.
const BLOCKS: &str = "1600";

/// Submits a call with large metadata. Returns whether the gateway stored it.
async fn submit_bulky(stage: &Stage, gateway: &Serving, ledger: &mut Ledger, call: usize) -> bool {
    let call_id = format!("bulky-{call}");
    let mut submission = stage.submission(&call_id);
    submission["metadata"] = json!({"padding": "x".repeat(4000)});
    ledger.sent(&call_id);
    let url = gateway.api.join("v1/analyses").unwrap();
    let request = stage.client.post(url).header("content-type", "application/json");
    let request = request.bearer_auth(stage.token(SCOPES)).body(submission.to_string());
    let answer = within("an answer", request.send()).await.unwrap();
    match answer.status().as_u16() {
        202 => ledger.acknowledged(&call_id),
        503 => assert!(answer.headers().contains_key("retry-after")),
        other => panic!("status {other} on a full disk"),
    }
    answer.status() == 202
}

#[tokio::test]
async fn submissions_that_cannot_be_stored_are_refused() {
    let (mut stage, mut ledger) = (Stage::set_up().await, Ledger::default());
    stage.shorten_leases();
    let mut limited = stage.program("sh".as_ref());
    // Without the trap, a write beyond the limit would kill the process instead of failing.
    limited.args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", BLOCKS, crate::stage::BINARY, "serve"]);
    let gateway = Serving::start(limited, &stage.client).await;

    let mut refused = 0;
    for call in 0..200 {
        refused += usize::from(!submit_bulky(&stage, &gateway, &mut ledger, call).await);
    }
    println!("{refused} of 200 submissions refused with 503");
    assert!(refused > 0, "the limit was never reached");
    assert!(
        gateway
            .process
            .stderr
            .line("the log line of the store's error", |line| line.contains("store"))
            .await
            .contains("store")
    );
    gateway.kill();

    let tally = ledger.settle(&stage, stage.serve().await).await;
    println!("after a full disk: {tally}");
    assert!(stage.vendor.calls().iter().any(|request| request.operation == Operation::Submit));
}

/// Makes the database larger by 13.5 MB.
fn fill_database(stage: &Stage) {
    let Store::File(path) = &stage.store else { panic!("the store is no file") };
    let database = rusqlite::Connection::open(path).unwrap();
    let fill = "CREATE TABLE filling (content BLOB); INSERT INTO filling VALUES (zeroblob(13500000))";
    database.execute_batch(fill).unwrap();
}

/// The log of SQLite has room for a checkpoint (16.5 MB), and the database does not.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_checkpoint_that_fails_again_and_again_is_not_a_lost_file() {
    let (mut stage, mut ledger) = (Stage::set_up().await, Ledger::default());
    stage.shorten_leases();
    stage.serve().await.stop().await;
    fill_database(&stage);
    let mut shell = stage.program("sh".as_ref());
    shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "serve", crate::stage::BINARY, "serve"]);
    let gateway = Serving::start(shell, &stage.client).await;
    gateway.process.limit_files("18000000");
    let failed = |line: &&String| line.contains("failed to copy the write-ahead log to the database");
    let filling = async {
        let mut calls = 0..;
        while gateway.process.stderr.so_far().iter().filter(failed).count() < 3 {
            submit_bulky(&stage, &gateway, &mut ledger, calls.next().unwrap()).await;
        }
    };
    within("failed checkpoints", filling).await;
    assert!(stage.metrics(&gateway).await.contains("\nalovoice_gateway_store_file_lost 0\n"));
    gateway.process.limit_files("unlimited");
    ledger.submit(&stage, &gateway, "with-room-again").await;
    let tally = ledger.settle(&stage, gateway).await;
    println!("after failed checkpoints: {tally}");
}
