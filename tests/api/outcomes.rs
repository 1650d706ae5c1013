//! Outcomes of requests that the store does not take for a while, as if the disk were full.
//!
//! The leases last for minutes. Work that waits for the end of its lease is claimed a second time, and the tests count the claims.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;

use crate::patience::PATIENCE;
use crate::rows::Rows;
use crate::stage::{LATER, Stage, call};

/// Rejects each transaction that ends a lease on this table, as if the disk were full.
async fn reject_outcomes(stage: &Stage, table: &str) {
    reject_outcomes_with(stage, table, "RAISE(ABORT, 'the disk is full')", "disk_full").await;
}

/// Rejects each transaction that ends a lease on this table, with an expression that fails on SQLite, or an SQLSTATE of PostgreSQL.
async fn reject_outcomes_with(stage: &Stage, table: &str, expression: &str, state: &str) {
    let sql = if stage.is_on_file() {
        format!(
            "CREATE TRIGGER rejected BEFORE UPDATE ON {table} WHEN OLD.leased AND NOT NEW.leased \
             BEGIN SELECT {expression}; END"
        )
    } else {
        format!(
            "CREATE OR REPLACE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'rejected' USING ERRCODE = '{state}'; END $$; \
             CREATE TRIGGER rejected BEFORE UPDATE ON {table} FOR EACH ROW WHEN (OLD.leased AND NOT NEW.leased) \
             EXECUTE FUNCTION reject()"
        )
    };
    stage.rows().execute(&sql).await;
}

async fn accept_outcomes(rows: &Rows, table: &str) {
    let of = if rows.is_file() { String::new() } else { format!(" ON {table}") };
    rows.execute(&format!("DROP TRIGGER rejected{of}")).await;
}

/// Number of repeated transactions of this name.
async fn retries(stage: &Stage, transaction: &str) -> u64 {
    let name = format!("alovoice_gateway_store_transaction_retries_total{{transaction=\"{transaction}\"}} ");
    let page = stage.admin("metrics").await.1;
    let value = page.lines().find_map(|line| line.strip_prefix(&name));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Waits until transactions of this name were repeated this often.
async fn repeated(stage: &Stage, transaction: &str, times: u64) {
    while retries(stage, transaction).await < times {}
}

/// Submits a call whose first poll is due later, while the store does not take the outcome of the submit.
async fn submitted_without_outcome(stage: &Stage) {
    reject_outcomes(stage, "analyses").await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    repeated(stage, "apply", 3).await;
}

/// Number of claims of the only analysis.
async fn claims(stage: &Stage) -> u64 {
    stage.rows().number("SELECT fence FROM analyses").await
}

#[tokio::test]
async fn a_submit_whose_outcome_cannot_be_stored_for_a_while_is_neither_repeated_nor_unknown() {
    let stage = Stage::with(&[("VENDOR__POLLING__FIRST_AFTER", LATER)]).await;
    submitted_without_outcome(&stage).await;
    assert_eq!(claims(&stage).await, 1);
    accept_outcomes(&stage.rows(), "analyses").await;
    let work = stage.idle("1").await.analysis.work.unwrap();
    assert!(work.accepted_at.is_some(), "{work:?}");
    assert_eq!(claims(&stage).await, 1, "the first claim stored the outcome");
    assert_eq!((stage.vendor.submits(&call("1")), stage.vendor.polls(&call("1"))), (1, 0));
}

#[tokio::test]
async fn a_poll_whose_result_cannot_be_stored_for_a_while_is_not_repeated() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "changed~1", "callback": {"url": stage.hook("ok")}})).await;
    stage.acme().outcome("changed~1").await;
    stage.receiver.next().await;
    stage.idle("changed~1").await;
    let (polls, retries) = (stage.vendor.polls(&call("changed~1")), retries(&stage, "apply").await);
    reject_outcomes(&stage, "analyses").await;
    let refreshed = stage.acme().send(Method::POST, "/v1/analyses/changed~1/refresh", &[], "").await;
    assert_eq!(refreshed.status, 202);
    repeated(&stage, "apply", retries + 3).await;
    accept_outcomes(&stage.rows(), "analyses").await;
    stage.record("changed~1", |found| found.analysis.revision == 2).await;
    stage.receiver.next().await;
    assert_eq!(stage.vendor.polls(&call("changed~1")), polls + 1);
    assert_eq!(stage.vendor.submits(&call("changed~1")), 1);
}

#[tokio::test]
async fn a_callback_whose_outcome_cannot_be_stored_for_a_while_is_delivered_once() {
    let stage = Stage::start().await;
    reject_outcomes(&stage, "deliveries").await;
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    stage.receiver.next().await;
    repeated(&stage, "finish_attempt", 3).await;
    // The same worker delivers the callbacks of other calls.
    stage.acme().submitted(json!({"call_id": "2", "callback": {"url": stage.hook("ok")}})).await;
    stage.receiver.next().await;
    accept_outcomes(&stage.rows(), "deliveries").await;
    for call_id in ["1", "2"] {
        let delivery = loop {
            let delivery = stage.deliveries(call_id).await.remove(0);
            if delivery.status != "pending" {
                break delivery;
            }
        };
        assert_eq!((delivery.status.as_str(), delivery.attempts), ("delivered", 1));
    }
    assert_eq!(stage.receiver.received().len(), 2);
}

#[tokio::test]
async fn a_drain_waits_until_the_store_takes_an_outcome() {
    let stage = Stage::with(&[("VENDOR__POLLING__FIRST_AFTER", LATER)]).await;
    submitted_without_outcome(&stage).await;
    let rows = stage.rows();
    let readyz = stage.gateway.admin().join("readyz").unwrap();
    let draining = tokio::spawn(stage.gateway.drain());
    assert_eq!(reqwest::get(readyz).await.unwrap().status(), 503);
    accept_outcomes(&rows, "analyses").await;
    assert!(draining.await.unwrap(), "the drain finished all work in time");
    let stored = "SELECT count(*) FROM analyses WHERE NOT leased AND accepted_at IS NOT NULL AND fence = 1";
    assert_eq!(rows.number(stored).await, 1);
}

/// The writes end although the lease has not ended.
#[tokio::test]
async fn the_grace_period_ends_the_writes_of_an_outcome() {
    let stage = Stage::with(&[
        ("VENDOR__POLLING__FIRST_AFTER", LATER),
        // The shutdown reserves this whole period for its last step.
        ("SERVER__SHUTDOWN_GRACE", "1s"),
    ])
    .await;
    submitted_without_outcome(&stage).await;
    let store = Arc::downgrade(&stage.gateway.store());
    assert!(!stage.gateway.drain().await, "the drain reports unfinished work");
    let released = async {
        // The work has a reference to the store until it ends.
        while store.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, released).await.unwrap();
}

#[tokio::test]
async fn an_outcome_that_the_store_can_never_take_is_not_repeated() {
    let stage = Stage::with(&[("VENDOR__POLLING__FIRST_AFTER", LATER)]).await;
    // A value that exceeds the limits of SQLite (`SQLITE_TOOBIG`), and a value that PostgreSQL cannot represent.
    let (expression, state) = ("zeroblob(2000000000)", "numeric_value_out_of_range");
    reject_outcomes_with(&stage, "analyses", expression, state).await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    while stage.vendor.submits(&call("1")) == 0 {
        tokio::task::yield_now().await;
    }
    // A repeated write would last until the end of the grace period.
    assert!(stage.gateway.drain().await, "the drain finished all work in time");
}
