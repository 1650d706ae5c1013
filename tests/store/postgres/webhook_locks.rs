//! Webhooks and replays on PostgreSQL: stored attempts, and the order of locks.

use alovoice_gateway::domain::events::EventKind;
use alovoice_gateway::domain::webhooks::{EventFilter, Webhook};
use alovoice_gateway::store::ReplayBegin;
use tokio::join;
use tokio_postgres::Client;

use super::commits::write;
use super::{open_at, within};
use crate::cases::replays::{begin, check_unreadable_replay, replay_to};
use crate::cases::webhooks::{attempt_repeatedly, deliveries_to, events, new_webhook, registered};
use crate::harness::{acme, delivered};
use crate::postgres_server::server::Server;

const A: &str = "https://a.example/";

/// Waits until this number of sessions wait for a lock in the database.
pub(super) async fn waiters(client: &Client, count: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waited = async { while client.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < count {} };
    within("sessions that wait for a lock", waited).await;
}

#[tokio::test]
async fn the_last_hundred_attempts_are_kept() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    harness.announce("1", &[A]).await;
    attempt_repeatedly(&harness, 104).await;
    let client = database.connect().await;
    let kept = client.query_one("SELECT min(number), count(*) FROM attempts", &[]).await.unwrap();
    assert_eq!((kept.get::<_, i64>(0), kept.get::<_, i64>(1)), (5, 100));
}

#[tokio::test]
async fn an_unreadable_replay_does_not_block_others() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    let client = database.connect().await;
    check_unreadable_replay(&harness, async |id| {
        let damage = "UPDATE replays SET trace = '[]' WHERE id = $1";
        assert_eq!(client.execute(damage, &[&id]).await.unwrap(), 1);
    })
    .await;
}

/// The lock on the attempts holds back a read that has already begun. The end of an attempt commits meanwhile.
#[tokio::test]
async fn a_delivery_and_its_attempts_are_read_in_one_snapshot() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    harness.announce("1", &[A]).await;
    let claimed = harness.claim_delivery().await;
    let (attempt, watcher) = (database.connect().await, database.connect().await);
    attempt.batch_execute("BEGIN; LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let end = async {
        waiters(&watcher, 1).await;
        let outcome = "UPDATE attempts SET outcome = 'delivered'; \
             UPDATE deliveries SET status = 'delivered', leased = FALSE; COMMIT";
        attempt.batch_execute(outcome).await.unwrap();
    };
    let acme = acme();
    let (found, ()) = join!(harness.store.find_delivery(&acme, claimed.delivery.id), end);
    let found = found.unwrap().unwrap();
    let outcomes: Vec<_> = found.attempts.iter().map(|attempt| attempt.outcome.as_deref()).collect();
    assert_eq!((found.delivery.status.as_str(), &outcomes[..]), ("delivered", &[Some("delivered")][..]));
}

/// A step locks its replay, then a delivery. The end of an attempt locks the delivery, then the webhook. So a change of the
/// webhook must not hold the lock on the webhook while it waits for the replay.
#[tokio::test]
async fn a_replay_an_attempt_and_a_change_do_not_deadlock() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    let webhook = registered(&harness, A).await;
    events(&harness, "event", 1).await;
    let claimed = harness.claim_delivery().await;
    harness.store.finish_attempt(claimed.lease, delivered()).await.unwrap();
    assert_eq!(begin(&harness, &replay_to(&harness, webhook.id, 1)).await, ReplayBegin::Begun);

    let (attempt, watcher) = (database.connect().await, database.connect().await);
    attempt.batch_execute("BEGIN; SELECT FROM deliveries FOR UPDATE").await.unwrap();
    let change = async {
        waiters(&watcher, 1).await;
        harness.store.change_webhook(&acme(), webhook.clone(), true).await.unwrap()
    };
    let end = async {
        waiters(&watcher, 2).await;
        attempt.batch_execute("SELECT FROM webhooks FOR NO KEY UPDATE NOWAIT; COMMIT").await.unwrap();
    };
    let (advanced, changed, ()) = join!(harness.store.advance_replays_across_tenants(), change, end);
    assert_eq!((advanced.unwrap().sent, changed), (1, true));
}

/// This also holds for event types that the webhook does not subscribe to.
#[tokio::test]
async fn a_replay_waits_for_events_that_are_being_written() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    let wants_failures = EventFilter::new(&[EventKind::AnalysisFailed]).unwrap();
    let webhook = Webhook { events: wants_failures, ..new_webhook(&harness, A) };
    assert!(harness.store.add_webhook(&acme(), webhook.clone()).await.unwrap());
    let (writer, watcher) = (database.connect().await, database.connect().await);
    let shares = "BEGIN; SELECT pg_advisory_xact_lock_shared(hashtext('alovoice-gateway webhooks'), \
         hashtext(current_schema() || ' acme'))";
    writer.batch_execute(shares).await.unwrap();
    write(&writer, 1).await;
    let replay = replay_to(&harness, webhook.id, 1);
    let commit = async {
        waiters(&watcher, 1).await;
        writer.batch_execute("COMMIT").await.unwrap();
    };
    let begun = async {
        let begun = begin(&harness, &replay).await;
        harness.store.advance_replays_across_tenants().await.unwrap();
        begun
    };
    assert_eq!(join!(begun, commit).0, ReplayBegin::Begun);
    assert_eq!(deliveries_to(&harness, webhook.id).await.len(), 1);
}
