//! The order of the feed with overlapping transactions, and outcomes that share transactions.

use std::sync::atomic::{AtomicUsize, Ordering};

use alovoice_gateway::domain::feed::FeedPosition;
use alovoice_gateway::store::{Change, Queue};
use futures_util::future::join_all;
use tokio::join;
use tokio_postgres::Client;

use super::{expect_change, open_at, within};
use crate::cases::feed::calls;
use crate::harness::{acme, globex, ready, submission};
use crate::postgres_server::server::Server;

/// Writes an event in an open transaction, as a replica does.
pub(super) async fn write(client: &Client, number: u32) {
    let id = format!("evt_018f95f0000070008000{number:012}");
    let call = format!("by-hand-{number}");
    let body = format!(r#"{{"type":"analysis.completed","data":{{"call_id":"{call}"}}}}"#);
    client
        .execute(
            "INSERT INTO events (id, tenant, call_id, kind, at, body) \
             VALUES ($1, 'acme', $2, 'analysis.completed', 1716207617000, $3)",
            &[&id, &call, &body.as_bytes()],
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn events_appear_in_the_feed_in_the_order_of_their_commits() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    let (slow, slower) = (database.connect().await, database.connect().await);
    for (client, number) in [(&slower, 1), (&slow, 2)] {
        client.batch_execute("BEGIN").await.unwrap();
        write(client, number).await;
    }
    harness.adopt(&acme(), "quick").await;
    let first = harness.feed(&acme(), FeedPosition::BEGINNING).await;
    assert_eq!(calls(&first), ["quick"], "the feed waited for open transactions");

    slow.batch_execute("COMMIT").await.unwrap();
    harness.adopt(&acme(), "quick-too").await;
    let second = harness.feed(&acme(), first[0].position).await;
    assert_eq!(calls(&second), ["by-hand-2", "quick-too"]);

    slower.batch_execute("COMMIT").await.unwrap();
    let third = harness.feed(&acme(), second[1].position).await;
    assert_eq!(calls(&third), ["by-hand-1"]);
    assert_eq!(harness.feed(&acme(), third[0].position).await, []);
    // The order does not change once it was read, by cursor and by event.
    let all = harness.feed(&acme(), FeedPosition::BEGINNING).await;
    assert_eq!(all, [first, second, third].concat());
    for event in all {
        assert_eq!(harness.store.feed_position(&acme(), event.id).await.unwrap(), event.position);
    }
}

/// Outcomes that are written at the same time share transactions.
#[tokio::test]
async fn a_locked_call_delays_no_outcome_of_another_call() {
    const CALLS: usize = 60;
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    for number in 0..CALLS {
        harness.submit(submission(&number.to_string())).await;
    }
    harness.submit_queued().await;
    harness.advance(10);
    let claimed = harness.claim(Queue::Polls).await;
    assert_eq!(claimed.len(), CALLS);
    let locked = claimed[CALLS / 2].lease;
    let holder = database.connect().await;
    let id = claimed[CALLS / 2].analysis.call_id.as_str();
    holder.batch_execute("BEGIN").await.unwrap();
    holder.execute("SELECT FROM analyses WHERE call_id = $1 FOR UPDATE", &[&id]).await.unwrap();
    let others = AtomicUsize::new(CALLS - 1);
    let applied = join_all(claimed.iter().map(async |work| {
        harness.store.apply(work.lease, ready("salom").into()).await.unwrap();
        // Only the last of the other outcomes ends the lock.
        if work.lease != locked && others.fetch_sub(1, Ordering::Relaxed) == 1 {
            holder.batch_execute("COMMIT").await.unwrap();
        }
    }));
    within("the outcomes of the other calls", applied).await;
    assert_eq!(harness.metrics.store_errors.get(), 0, "a group that stops is not a failure");
}

#[tokio::test]
async fn a_rollback_leaves_no_gap_in_the_feed() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    let client = database.connect().await;
    client.batch_execute("BEGIN").await.unwrap();
    write(&client, 1).await;
    harness.adopt(&acme(), "1").await;
    client.batch_execute("ROLLBACK").await.unwrap();
    harness.adopt(&acme(), "2").await;
    let places: Vec<_> = harness.feed(&acme(), FeedPosition::BEGINNING).await;
    assert_eq!(places.iter().map(|event| event.position.number()).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn events_from_before_the_feed_are_numbered_when_it_is_read() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    let client = database.connect().await;
    for number in 0..5000 {
        write(&client, number).await;
    }
    assert_eq!(harness.store.feed_end(&acme()).await.unwrap(), FeedPosition::new(5000));
    assert_eq!(harness.store.feed_end(&globex()).await.unwrap(), FeedPosition::BEGINNING);
    // As after a copy without the counters.
    client.batch_execute("DELETE FROM feeds").await.unwrap();
    harness.adopt(&acme(), "next").await;
    assert_eq!(calls(&harness.feed(&acme(), FeedPosition::new(5000)).await), ["next"]);
}

#[tokio::test]
async fn an_event_is_announced_to_other_replicas() {
    let database = Server::shared().await.fresh_database().await;
    let (one, other) = join!(open_at(database.url(), ()), open_at(database.url(), ()));
    let tenant = acme();
    join!(expect_change(&other, Change::Event(acme())), one.adopt(&tenant, "1"));
    assert_eq!(calls(&other.feed(&acme(), FeedPosition::BEGINNING).await), ["1"]);
}

/// The reason why the feed does not depend on the oldest open transaction: that transaction may belong to another database.
#[tokio::test]
async fn a_long_transaction_in_another_database_does_not_delay_the_feed() {
    let server = Server::shared().await;
    let (database, others) = (server.fresh_database().await, server.fresh_database().await);
    let harness = open_at(database.url(), ()).await;
    let (ours, theirs) = (database.connect().await, others.connect().await);
    theirs.batch_execute("BEGIN").await.unwrap();
    let under_way: String = theirs.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap().get(0);
    harness.adopt(&acme(), "1").await;
    let oldest = "SELECT pg_snapshot_xmin(pg_current_snapshot()) <= $1::text::xid8";
    assert!(ours.query_one(oldest, &[&under_way]).await.unwrap().get::<_, bool>(0));
    assert_eq!(calls(&harness.feed(&acme(), FeedPosition::BEGINNING).await), ["1"]);
    theirs.batch_execute("COMMIT").await.unwrap();
}
