//! A server that goes away, and a network that does.

use alovoice_gateway::store::Change;
use tokio::join;
use tokio::task::yield_now;

use super::{hears, is_unavailable, open_at, within};
use crate::harness::{Harness, acme, call_id, submission};
use crate::postgres_server::database::Database;
use crate::postgres_server::link::{Link, Passage};
use crate::postgres_server::server::{Options, Server, Shutdown};

/// A replica behind a link, and one that is not.
async fn linked() -> (Harness, Link, Harness, Database) {
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let link = Link::to(server.port(), Passage::Open).await;
    let behind = open_at(&database.url_through(&link), ()).await;
    let beside = open_at(database.url(), ()).await;
    (behind, link, beside, database)
}

#[tokio::test]
async fn a_server_that_restarts_is_a_pause() {
    let mut server = Server::start(Options::default()).await;
    let database = server.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    harness.submit(submission("1")).await;
    for (how, call) in [(Shutdown::Fast, "2"), (Shutdown::Kill, "3")] {
        server.stop(how).await;
        // Asked while there is no server, answered when there is.
        let (_, found) = join!(server.start_again(), harness.submit(submission(call)));
        assert_eq!(found.analysis.call_id, call_id(call));
        harness.find("1").await;
    }
}

#[tokio::test]
async fn what_was_said_while_nobody_could_hear_counts_as_everything() {
    let (behind, link, beside, _database) = linked().await;
    link.set(Passage::Cut);
    beside.submit(submission("1")).await;
    join!(hears(&behind, Change::Everything), async { link.set(Passage::Open) });
    behind.find("1").await;
}

#[tokio::test]
async fn a_replica_in_a_silence_knows_that_it_may_miss_something() {
    let (behind, link, _beside, _database) = linked().await;
    assert!(behind.store.is_current());
    link.set(Passage::Nothing);
    // It gives up within seconds, and not when the network says so, which may be never.
    let outcome = within("an end of the patience", behind.store.find_analysis(&acme(), &call_id("1"))).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
    assert!(!behind.store.is_current());

    join!(hears(&behind, Change::Everything), async { link.set(Passage::Open) });
    // Not before it has been told that everything may have changed.
    within("an answering connection", async {
        while !behind.store.is_current() {
            yield_now().await;
        }
    })
    .await;
    assert_eq!(behind.store.find_analysis(&acme(), &call_id("1")).await.unwrap(), None);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_and_not_repeated() {
    let (behind, link, beside, _database) = linked().await;
    // The statement is known to the server on this connection: one request is all that is left to send.
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
async fn a_change_whose_caller_went_away_counts_as_everything() {
    let (behind, link, _beside, _database) = linked().await;
    behind.submit(submission("0")).await;
    behind.changes();
    link.set(Passage::Requests);
    tokio::select! {
        biased;
        _ = behind.submit(submission("1")) => panic!("its answer is held back"),
        () = link.until(|traffic| traffic.waiting > 0) => {}
    }
    assert!(behind.changes().contains(&Change::Everything));
}
