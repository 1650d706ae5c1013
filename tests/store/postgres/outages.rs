//! A server that goes away, and a network that does.

use std::time::Duration;

use alovoice_gateway::domain::clock::{Clock, SystemClock};
use alovoice_gateway::store::Change;
use alovoice_gateway::store::postgres::PostgresStore;
use tokio::join;
use tokio::runtime::Builder;
use tokio::sync::mpsc::unbounded_channel;

use super::{hears, is_unavailable, open_at, settings, within};
use crate::harness::{Harness, acme, call_id, submission, surroundings};
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
    assert!(behind.store.is_current());
    assert_eq!(behind.store.find_analysis(&acme(), &call_id("1")).await.unwrap(), None);
}

/// As SIGSTOP does it: the server has answered meanwhile, long ago.
#[expect(clippy::disallowed_methods, reason = "what runs on this thread is to be held up")]
fn hold_up_this_thread() {
    std::thread::sleep(Duration::from_secs(3));
}

/// Its clock would be late by as much, and it would hold leases for its own that others have taken over.
#[tokio::test]
async fn a_process_that_was_stopped_is_not_told_the_time_of_then() {
    // The network goes on while the process is stopped.
    let network = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let link = network.spawn(Link::to(server.port(), Passage::Open)).await.unwrap();
    let (url, (surroundings, _)) = (database.url_through(&link), surroundings());
    let (told, mut lateness) = unbounded_channel();
    let follow = move |time| told.send(SystemClock.now().since(time)).unwrap_or_default();
    let store =
        PostgresStore::open(&url.clone().into(), &settings(&url), surroundings, follow).await.unwrap();
    lateness.recv().await.unwrap();

    link.set(Passage::Requests);
    within("a question for the time", link.until(|traffic| traffic.waiting > 0)).await;
    link.set(Passage::Open);
    hold_up_this_thread();
    let late = within("the time", lateness.recv()).await.unwrap();
    assert!(late < Duration::from_secs(2), "told the time of {late:?} ago");
    drop(store);
    network.shutdown_background();
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
    let stats = beside.store.stats_across_tenants().await.unwrap();
    assert_eq!(stats.analyses.values().sum::<u64>(), 2);
}
