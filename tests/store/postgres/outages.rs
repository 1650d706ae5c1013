//! Outages of the server and of the network.

use std::time::Duration;

use alovoice_gateway::store::{Change, StoreContext};
use tokio::join;
use tokio::task::yield_now;

use super::{expect_change, is_unavailable, open_at, open_limited, settings, within};
use crate::harness::{Harness, acme, call_id, submission};
use crate::patience::{PATIENCE, patiently};
use crate::postgres_server::database::Database;
use crate::postgres_server::link::{Link, Passage};
use crate::postgres_server::server::{Options, Server, Shutdown};

/// A replica that connects through a link, and one that connects directly.
async fn linked() -> (Harness, Link, Harness, Database) {
    linked_with(PATIENCE).await
}

/// The same as [`linked`]. The first replica has this time limit of an operation.
async fn linked_with(operation_timeout: Duration) -> (Harness, Link, Harness, Database) {
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let link = Link::to(server.port(), Passage::Open).await;
    let url = database.url_through(&link);
    let behind = open_limited(&settings(&url), &url, operation_timeout, ()).await;
    let beside = open_at(database.url(), ()).await;
    (behind, link, beside, database)
}

#[tokio::test]
async fn requests_wait_for_a_restarting_server() {
    let mut server = Server::start(Options::default()).await;
    let database = server.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    harness.submit(submission("1")).await;
    for (how, call) in [(Shutdown::Fast, "2"), (Shutdown::Kill, "3")] {
        server.stop(how).await;
        // The request is sent while the server is down, and succeeds when the server is up.
        let (_, found) = join!(server.start_again(), harness.submit(submission(call)));
        assert_eq!(found.analysis.call_id, call_id(call));
        harness.find("1").await;
    }
}

#[tokio::test]
async fn a_reconnect_announces_that_anything_may_have_changed() {
    let (behind, link, beside, _database) = linked().await;
    link.set(Passage::Cut);
    beside.submit(submission("1")).await;
    join!(expect_change(&behind, Change::Everything), async { link.set(Passage::Open) });
    behind.find("1").await;
}

#[tokio::test]
async fn a_silent_connection_makes_the_store_not_current() {
    let (behind, link, _beside, _database) = linked_with(StoreContext::OPERATION_TIMEOUT).await;
    let current = async {
        while !behind.store.is_current() {
            yield_now().await;
        }
    };
    within("a current store", current).await;
    link.set(Passage::Nothing);
    // The time limit ends the request, because the network may never report the loss.
    let outcome =
        within("the time limit of the request", behind.store.find_analysis(&acme(), &call_id("1"))).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
    assert!(!behind.store.is_current());

    join!(expect_change(&behind, Change::Everything), async { link.set(Passage::Open) });
    // The store is current only after the announcement that anything may have changed.
    within("an answering connection", async {
        while !behind.store.is_current() {
            yield_now().await;
        }
    })
    .await;
    let (tenant, call) = (acme(), call_id("1"));
    assert_eq!(patiently(|| behind.store.find_analysis(&tenant, &call)).await, None);
}

#[tokio::test]
async fn a_commit_with_a_lost_response_is_not_repeated() {
    let (behind, link, beside, _database) = linked().await;
    // Prepares the statement on this connection, so that the next submission is a single request.
    behind.submit(submission("0")).await;
    link.set(Passage::Requests);
    let (found, ()) = join!(behind.submit(submission("1")), async {
        link.until(|traffic| traffic.waiting > 0).await;
        link.set(Passage::Cut);
        link.set(Passage::Open);
    });
    assert_eq!(found.analysis.call_id, call_id("1"));
    let stats = beside.store.stats_across_tenants(&[acme()]).await.unwrap();
    assert_eq!(stats[&acme()].unfinished.values().sum::<u64>(), 2);
}

#[tokio::test]
async fn a_cancelled_change_announces_that_anything_may_have_changed() {
    let (behind, link, _beside, _database) = linked().await;
    // Opens several connections, so that one is free although another one checks that notices arrive.
    let submit = |call: &str| behind.submit(submission(call));
    join!(submit("a"), submit("b"), submit("c"));
    behind.changes();
    link.set(Passage::Requests);
    tokio::select! {
        biased;
        _ = behind.submit(submission("1")) => panic!("the response was blocked"),
        () = link.until(|traffic| traffic.waiting > 0) => {}
    }
    assert!(behind.changes().contains(&Change::Everything));
}
