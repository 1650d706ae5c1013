//! Several replicas on one database: announcements, and shared work.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::domain::lifecycle::{Step, SubmitOutcome};
use alovoice_gateway::domain::usage::Day;
use alovoice_gateway::store::{Change, Queue, StoreError};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tokio::join;
use tokio::task::yield_now;

use super::webhook_locks::waiters;
use super::{expect_change, open_at, within};
use crate::cases::delivery_rates::limited;
use crate::cases::webhooks::events;
use crate::harness::{
    Harness, LEASE, acme, call_id, ready, reanalysis, slots, slots_of, submission, trace, with_callback,
    with_metadata,
};
use crate::postgres_server::database::Database;
use crate::postgres_server::server::Server;

async fn pair() -> (Harness, Harness, Database) {
    let database = Server::shared().await.fresh_database().await;
    let (one, other) = join!(open_at(database.url(), ()), open_at(database.url(), ()));
    (one, other, database)
}

fn analysis(call: &str) -> Change {
    Change::Analysis(acme(), call_id(call))
}

#[tokio::test]
async fn work_on_one_replica_wakes_the_others() {
    let (one, other, _database) = pair().await;
    join!(
        expect_change(&other, Change::Work(Queue::Submits)),
        one.submit(with_callback("1", "https://a.example/"))
    );
    let accept = async {
        let claimed = one.claim_one(Queue::Submits).await;
        one.store.apply(claimed.lease, Step::Submitted(SubmitOutcome::Accepted).into()).await.unwrap();
    };
    join!(expect_change(&other, Change::Work(Queue::Polls)), accept);
    one.advance(10);
    let complete = async {
        let claimed = one.claim_one(Queue::Polls).await;
        one.store.apply(claimed.lease, ready("salom").into()).await.unwrap();
    };
    join!(expect_change(&other, Change::Delivery), expect_change(&other, analysis("1")), complete);
    within("current stores", async {
        // A busy database may delay the notice that shows it.
        while !(one.store.is_current() && other.store.is_current()) {
            yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn changes_of_cached_analyses_are_announced_with_the_commit() {
    let (one, other, database) = pair().await;
    one.complete(submission("1"), "salom").await;
    // The notice is part of the transaction: its reader sees the change, and it is sent even if the process dies.
    join!(expect_change(&other, analysis("1")), one.submit(with_metadata("1", "T-2")));
    assert_eq!(other.find("1").await.analysis.metadata, crate::harness::metadata("T-2"));

    one.complete(submission("2"), "salom").await;
    one.advance(120);
    let mut due = one.claim(Queue::Polls).await;
    due.retain(|work| work.analysis.call_id == call_id("2"));
    let settle = due.remove(0);
    join!(expect_change(&other, analysis("2")), async {
        one.store.apply(settle.lease, ready("yana").into()).await.unwrap()
    });
    one.advance(1_000_000);
    let before = alovoice_gateway::domain::clock::Clock::now(&*one.clock);
    join!(expect_change(&other, analysis("2")), async {
        one.store.delete_expired_across_tenants(before, 10).await.unwrap()
    });
    drop(database);
}

#[tokio::test]
async fn a_replica_releases_only_its_own_leases() {
    let (one, other, _database) = pair().await;
    for call in ["1", "2"] {
        one.submit(submission(call)).await;
    }
    let claim = |harness: Arc<Harness>| async move {
        harness
            .store
            .claim_work_across_tenants(Queue::Submits, vec![slots_of(acme(), 1)], LEASE)
            .await
            .unwrap()
            .claimed
    };
    let (one, other) = (Arc::new(one), Arc::new(other));
    let mine = claim(one.clone()).await.remove(0);
    let theirs = claim(other.clone()).await.remove(0);
    one.store.release_across_tenants().await.unwrap();
    let accepted = Step::Submitted(SubmitOutcome::Accepted);
    let lost = one.store.apply(mine.lease, accepted.clone().into()).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    other.store.apply(theirs.lease, accepted.into()).await.unwrap();
    assert_eq!(other.claim_one(Queue::Polls).await.analysis.call_id, mine.analysis.call_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_share_the_work_without_duplicates() {
    const CALLS: usize = 120;
    let database = Server::shared().await.fresh_database().await;
    let replicas: Vec<Arc<Harness>> =
        join_all((0..3).map(async |_| Arc::new(open_at(database.url(), ()).await))).await;
    let calls: Vec<String> = (0..CALLS).map(|number| number.to_string()).collect();
    let prepare = async |(number, call): (usize, &String)| {
        let replica = &replicas[number % 3];
        let result = crate::harness::obtained("salom");
        replica.store.adopt(&acme(), &call_id(call), trace(), result).await.unwrap();
        replica.submit(with_callback(call, &format!("https://{}.example/", number % 7))).await;
        replica.submit(reanalysis(call)).await;
    };
    stream::iter(calls.iter().enumerate()).for_each_concurrent(16, prepare).await;
    let work = replicas.iter().cycle().take(12).map(|replica| {
        let replica = Arc::clone(replica);
        tokio::spawn(async move {
            let (mut submits, mut deliveries) = (Vec::new(), Vec::new());
            for _ in 0..10 {
                let claims =
                    replica.store.claim_work_across_tenants(Queue::Submits, vec![slots_of(acme(), 5)], LEASE);
                submits.extend(claims.await.unwrap().claimed.into_iter().map(|work| work.lease));
                let claims = replica.store.claim_deliveries_across_tenants(slots(5, 1000, 1000), LEASE);
                deliveries.extend(claims.await.unwrap().claimed.into_iter().map(|work| work.lease));
            }
            (submits, deliveries)
        })
    });
    let (mut submits, mut deliveries) = (Vec::new(), Vec::new());
    for done in join_all(work).await {
        let (more_submits, more_deliveries) = done.unwrap();
        submits.extend(more_submits);
        deliveries.extend(more_deliveries);
    }
    assert_eq!((submits.len(), deliveries.len()), (CALLS, CALLS));
    assert_eq!(submits.into_iter().collect::<HashSet<_>>().len(), CALLS);
    assert_eq!(deliveries.into_iter().collect::<HashSet<_>>().len(), CALLS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_the_tokens_of_a_webhook() {
    const TOKENS: u32 = 60;
    let (one, other, _database) = pair().await;
    limited(&one, 0.01, TOKENS).await;
    events(&one, "event", 100).await;
    let replicas = [Arc::new(one), Arc::new(other)];
    let work = replicas.iter().map(|replica| {
        let replica = Arc::clone(replica);
        tokio::spawn(async move {
            let mut claimed = Vec::new();
            loop {
                let claims = replica.store.claim_deliveries_across_tenants(slots(3, 1000, 1000), LEASE);
                let claims = claims.await.unwrap();
                // A claim that got nothing because of the other replica is repeated soon.
                let soon = replica.now() + Duration::from_secs(1);
                if claims.claimed.is_empty() && claims.next_due > Some(soon) {
                    return claimed;
                }
                claimed.extend(claims.claimed.into_iter().map(|work| work.lease));
            }
        })
    });
    let claimed: Vec<_> = join_all(work).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(
        (claimed.len(), claimed.iter().collect::<HashSet<_>>().len()),
        (TOKENS as usize, TOKENS as usize)
    );
}

/// The locks are those of a claim of another replica.
#[tokio::test]
async fn a_claim_that_gets_nothing_because_of_another_replica_is_repeated_after_a_pause() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    limited(&harness, 0.01, 3).await;
    events(&harness, "event", 3).await;
    let other = database.connect().await;
    for table in ["deliveries", "webhooks"] {
        other.batch_execute(&format!("BEGIN; SELECT FROM {table} FOR UPDATE")).await.unwrap();
        let claims = harness.store.claim_deliveries_across_tenants(slots(9, 9, 9), LEASE).await.unwrap();
        let pause = claims.next_due.unwrap().since(harness.now());
        assert!(claims.claimed.is_empty() && (10..=50).contains(&pause.as_millis()), "{table}: {pause:?}");
        other.batch_execute("ROLLBACK").await.unwrap();
    }
    assert_eq!(harness.claim_deliveries(9, 9).await.len(), 3);
}

/// A flush of counted usage is in progress while a caller disconnects and others read.
#[tokio::test]
async fn usage_is_complete_although_its_write_is_in_progress() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    let (locker, watcher) = (database.connect().await, database.connect().await);
    harness.submit(submission("1")).await;
    locker.batch_execute("BEGIN; LOCK TABLE usage IN EXCLUSIVE MODE").await.unwrap();

    let today = Day::of(harness.now());
    let submissions = async || {
        let days = harness.store.usage(&acme(), today, today).await.unwrap();
        days.into_iter().map(|(_, usage)| usage.unwrap().submissions).sum::<u64>()
    };
    let mut abandoned = Box::pin(submissions());
    tokio::select! {
        early = &mut abandoned => panic!("{early} submissions before the write"),
        () = waiters(&watcher, 1) => {}
    }
    drop(abandoned);
    let unlock = async {
        waiters(&watcher, 1).await;
        locker.batch_execute("COMMIT").await.unwrap();
    };
    let (read, ()) = join!(submissions(), unlock);
    assert_eq!(read, 1);
}
