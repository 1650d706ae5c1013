//! A disk without room, played by a limit on the size of files.

use alovoice_gateway::sandbox::stand_in::Operation;
use serde_json::json;

use super::ledger::Ledger;
use crate::gateway::{Serving, within};
use crate::stage::{SCOPES, Stage};

/// In blocks of 512 bytes, or of 1,024 where `sh` is bash: room for an empty store and not for many calls.
const BLOCKS: &str = "1600";

#[tokio::test]
async fn what_cannot_be_written_is_not_promised() {
    let (stage, mut ledger) = (Stage::set_up().await, Ledger::default());
    let mut limited = stage.program("sh".as_ref());
    // Without the trap, the first write too many would kill the process instead of failing.
    limited.args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", BLOCKS, crate::stage::BINARY, "serve"]);
    let gateway = Serving::start(limited, &stage.client).await;

    let mut refused = 0;
    for call in 0..200 {
        let call_id = format!("bulky-{call}");
        let mut submission = stage.submission(&call_id);
        submission["metadata"] = json!({"padding": "x".repeat(4000)});
        ledger.sent(&call_id);
        let url = gateway.api.join("v1/analyses").unwrap();
        let request = stage.client.post(url).header("content-type", "application/json");
        let request = request.bearer_auth(stage.token(SCOPES)).body(submission.to_string());
        let answer = within("an answer", request.send()).await.unwrap();
        match answer.status().as_u16() {
            202 => ledger.promised(&call_id),
            503 => {
                assert!(answer.headers().contains_key("retry-after"));
                refused += 1;
            }
            other => panic!("{other} without room on the disk"),
        }
    }
    println!("{refused} of 200 submissions refused with 503");
    assert!(refused > 0, "the limit was never reached");
    assert!(gateway.process.stderr.line("the reason", |line| line.contains("store")).await.contains("store"));
    gateway.kill();

    let tally = ledger.settle(&stage, stage.serve().await).await;
    println!("after a full disk: {tally}");
    assert!(stage.vendor.calls().iter().any(|request| request.operation == Operation::Submit));
}
