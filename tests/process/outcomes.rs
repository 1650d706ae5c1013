//! Outcomes of requests that the store cannot take for a while: the disk is full, or the database is away.

use crate::gateway::{Serving, within};
use crate::postgres::link::{Link, Passage};
use crate::postgres::server::Server;
use crate::stage::{Stage, id};
use crate::store::Store;

/// Waits until this number of outcomes could not be stored.
async fn unstored(gateway: &Serving, outcomes: usize) {
    let is_meant = |line: &str| line.contains("failed to store the outcome");
    gateway.process.stderr.repeated("an outcome that was not stored", outcomes, is_meant).await;
}

/// Interrupts the store after the vendor got a submit, and after the receiver got a callback. The gateway repeats neither.
async fn check_outcomes(stage: &Stage, gateway: Serving, interrupt: impl Fn(&Serving, bool)) {
    stage.vendor.set_held(true);
    stage.receiver.set_held(true);
    assert_eq!(stage.submit(&gateway, "1").await.unwrap().status(), 202);
    within("the submit", stage.vendor.wait_for(|requests| !requests.is_empty())).await;
    interrupt(&gateway, true);
    stage.vendor.set_held(false);
    unstored(&gateway, 1).await;
    interrupt(&gateway, false);

    stage.completed(&gateway, "1").await;
    within("the callback", stage.receiver.wait_for(|received| !received.is_empty())).await;
    interrupt(&gateway, true);
    stage.receiver.set_held(false);
    unstored(&gateway, 2).await;
    interrupt(&gateway, false);

    let is_stored = |line: &str| line.contains("outcome stored after repeated writes");
    gateway.process.stderr.repeated("a stored outcome", 2, is_stored).await;
    assert_eq!(stage.store.attempts().await, [(1, true)]);
    assert_eq!((stage.receiver.received().len(), stage.vendor.submits(&id("1"))), (1, 1));
    assert!(!gateway.process.stderr.so_far().iter().any(|line| line.contains("outcome lost")));
    gateway.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_repeats_neither_a_submit_nor_a_callback() {
    let stage = Stage::set_up().await;
    let mut shell = stage.program("sh".as_ref());
    // Without the trap, a write beyond the limit would kill the process instead of failing.
    shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "serve", crate::stage::BINARY, "serve"]);
    let gateway = Serving::start(shell, &stage.client).await;
    let fill = |gateway: &Serving, full| gateway.process.limit_files(if full { "0" } else { "unlimited" });
    check_outcomes(&stage, gateway, fill).await;
}

/// The gateway's transactions wait longer for the database than it takes to reconnect, so each outage lasts until they have failed.
#[tokio::test]
async fn a_lost_database_repeats_neither_a_submit_nor_a_callback() {
    let mut stage = Stage::set_up_on_postgres().await;
    let link = Link::to(Server::shared().await.port(), Passage::Open).await;
    let Store::Database(database) = &stage.store else { panic!("the store is a database") };
    let url = database.url_through(&link);
    stage.set("STORE__URL", &url);
    let gateway = stage.serve().await;
    let cut = |_: &Serving, is_cut| link.set(if is_cut { Passage::Cut } else { Passage::Open });
    check_outcomes(&stage, gateway, cut).await;
}
