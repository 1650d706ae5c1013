//! From a file to a server: everything arrives, whatever happens on the way, or it is said what did not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::config::{PostgresUrl, StoreSettings, StoreUrl};
use alovoice_gateway::domain::analysis::Obtained;
use alovoice_gateway::domain::clock::{Clock, SystemEntropy, Timestamp};
use alovoice_gateway::domain::ids::TenantId;
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step};
use alovoice_gateway::domain::retries::{GiveUpReason, Next};
use alovoice_gateway::store::copy::{Beginning, Comparison, CopyError, StoreCopy};
use alovoice_gateway::store::postgres::{self, PostgresStore};
use alovoice_gateway::store::sqlite::{self, SqliteStore};
use alovoice_gateway::store::{FinishedAttempt, Found, Queue, RecordedAttempt, RecordedDelivery, Store};
use bytes::Bytes;
use futures_util::future::join_all;
use tempfile::TempDir;

use crate::harness::{
    Harness, LEASE, acme, call_id, delivered, finished, globex, obtained, slots, submission, surroundings,
    trace, with_callback, with_metadata,
};
use crate::postgres_server::database::Database;
use crate::postgres_server::server::Server;

const A: &str = "https://a.example/";
const B: &str = "https://b.example/";

/// A file, and a database to copy it into.
struct Move {
    folder: TempDir,
    database: Database,
    /// When the file was left.
    now: Timestamp,
}

impl Move {
    /// From a file that a gateway has worked on.
    async fn of<F: Future<Output = ()>>(work: impl FnOnce(Arc<Harness>) -> F) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (surroundings, clock) = surroundings();
        let store = Arc::new(SqliteStore::open(&file_in(&folder), surroundings).unwrap());
        work(Arc::new(Harness::new(store, clock.clone(), ()))).await;
        Self { folder, database: empty().await, now: clock.now() }
    }

    fn url(&self) -> PostgresUrl {
        self.database.url().to_owned().into()
    }

    async fn open(&self) -> Result<StoreCopy, CopyError> {
        StoreCopy::open(&file_in(&self.folder), &self.url(), None, self.now).await
    }

    /// Copies all that is left, and leaves it at that.
    async fn carry(&self) -> StoreCopy {
        let mut copy = self.open().await.unwrap();
        copy.begin(&SystemEntropy).await.unwrap();
        while copy.step().await.unwrap().is_some() {}
        copy
    }

    async fn serve(&self) -> Result<Harness, postgres::OpenError> {
        let (surroundings, clock) = surroundings();
        clock.advance(self.now.since(clock.now()));
        let store = PostgresStore::open(&self.url(), &self.settings(), surroundings, |_| {}).await?;
        Ok(Harness::new(Arc::new(store), clock, ()))
    }

    fn settings(&self) -> StoreSettings {
        StoreSettings {
            url: StoreUrl::Postgres(self.url()),
            password_file: None,
            max_connections: 4,
            retention: Duration::from_secs(1),
        }
    }

    /// A gateway on the same content, in a file of its own.
    fn twin(&self) -> Harness {
        let path = self.folder.path().join("twin.db");
        for ending in ["", "-wal"] {
            let name = |name: &str| self.folder.path().join(format!("{name}{ending}"));
            if name("store.db").exists() {
                std::fs::copy(name("store.db"), name("twin.db")).unwrap();
            }
        }
        let (surroundings, clock) = surroundings();
        clock.advance(self.now.since(clock.now()));
        Harness::new(Arc::new(SqliteStore::open(&path, surroundings).unwrap()), clock, ())
    }
}

async fn empty() -> Database {
    Server::shared().await.fresh_database().await
}

fn file_in(folder: &TempDir) -> PathBuf {
    folder.path().join("store.db")
}

fn reopen(path: &Path) -> Result<(), sqlite::OpenError> {
    SqliteStore::open(path, surroundings().0).map(|_| ())
}

/// Everything that the store shows of a call.
#[derive(Debug, PartialEq)]
struct Shown {
    found: Option<Found>,
    vendor_answer: Option<Bytes>,
    deliveries: Vec<(RecordedDelivery, Vec<RecordedAttempt>)>,
}

async fn shown(store: &dyn Store, tenant: &TenantId, call: &str) -> Shown {
    let call = call_id(call);
    let mut deliveries = Vec::new();
    for delivery in store.deliveries_of_call(tenant, &call).await.unwrap() {
        let attempts = store.attempts(tenant, delivery.id).await.unwrap();
        deliveries.push((delivery, attempts));
    }
    Shown {
        found: store.find_analysis(tenant, &call).await.unwrap(),
        vendor_answer: store.find_vendor_answer(tenant, &call).await.unwrap(),
        deliveries,
    }
}

/// Calls and deliveries in every state there is.
async fn every_kind_of_row(harness: Arc<Harness>) {
    for (call, outcome) in [
        ("delivered", delivered()),
        ("retried", finished("refused", Some(503), Next::RetryAt(Timestamp::from_millis(1 << 50)))),
        ("given-up", finished("gone", Some(410), Next::GiveUp(GiveUpReason::Gone))),
    ] {
        harness.announce(call, &[A]).await;
        let claimed = harness.claim_delivery().await;
        let attempt = FinishedAttempt {
            detail: Some("a NUL \0 in it".to_owned()),
            response: b"not UTF-8: \xff\xfe\0".to_vec(),
            ..outcome
        };
        harness.store.finish_attempt(claimed.lease, attempt).await.unwrap();
    }
    harness.complete(with_metadata("metadata", "Ўзбекча \u{0} \"' \\u0000 % 🙂"), "aʼlo \u{0} 🙂").await;
    for (call, size) in [("bytes", 1), ("large", 3 << 20), ("larger", 6 << 20)] {
        let vendor_answer = b"\xc3\x28\0\xff".repeat(size).into();
        let large = Box::new(Obtained { vendor_answer, ..*obtained(&"so'z ".repeat(size / 8)) });
        harness.store.adopt(&acme(), &call_id(call), trace(), large).await.unwrap();
    }
    harness.submit(with_callback("rejected", B)).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    let rejected = Step::Polled(PollOutcome::Rejected(400));
    harness.store.apply(claimed.lease, rejected).await.unwrap();
    harness.submit(with_callback("handed-over", B)).await;
    harness.hand_over().await;
    harness.submit(with_callback("leased", A)).await;
    assert_eq!(harness.claim(Queue::Submits).await.len(), 1);
    // Begun, and its end never told.
    assert_eq!(harness.claim_deliveries(1, 1).await.len(), 1);
    harness.submit(with_callback("queued", A)).await;
    harness.store.submit(&globex(), with_metadata("queued", "G-1")).await.unwrap();
}

const CALLS: [&str; 11] = [
    "delivered",
    "retried",
    "given-up",
    "metadata",
    "bytes",
    "large",
    "larger",
    "rejected",
    "handed-over",
    "leased",
    "queued",
];

/// Calls enough for several batches of every table.
async fn many_rows(harness: Arc<Harness>) {
    let calls: Vec<String> = (0..1100).map(|number| format!("call-{number}")).collect();
    join_all(calls.iter().map(async |call| {
        harness.store.adopt(&acme(), &call_id(call), trace(), obtained(call)).await.unwrap();
        for url in [A, B] {
            harness.submit(with_callback(call, url)).await;
        }
    }))
    .await;
    assert_eq!(harness.claim_deliveries(1000, 1000).await.len(), 1000);
}

async fn one_row(harness: Arc<Harness>) {
    harness.announce("1", &[A]).await;
}

#[tokio::test]
async fn everything_that_the_api_shows_arrives() {
    let moved = Move::of(every_kind_of_row).await;
    let before = moved.twin();
    let copy = moved.carry().await;
    let comparisons = copy.finish().await.unwrap();
    assert!(comparisons.iter().all(|Comparison { file, database, .. }| file == database));
    drop(copy);

    let after = moved.serve().await.unwrap();
    for tenant in [acme(), globex()] {
        for call in CALLS {
            let (old, new) = (&*before.store, &*after.store);
            let expected = shown(old, &tenant, call).await;
            assert_eq!(expected.found.is_some(), tenant == acme() || call == "queued");
            assert!(shown(new, &tenant, call).await == expected, "{tenant} {call}");
        }
    }
    let learned = before.store.pace(&acme()).await.unwrap();
    assert!(learned.is_some());
    assert_eq!(after.store.pace(&acme()).await.unwrap(), learned);
    // What is due, and the leases that ended with the process.
    for queue in [Queue::Submits, Queue::Polls] {
        let work = async |harness: &Harness| {
            let mut claimed = harness.claim(queue).await;
            claimed.sort_by(|a, b| a.analysis.call_id.as_str().cmp(b.analysis.call_id.as_str()));
            claimed.into_iter().map(|claimed| (claimed.lease, claimed.analysis)).collect::<Vec<_>>()
        };
        let expected = work(&before).await;
        assert!(!expected.is_empty());
        assert_eq!(work(&after).await, expected);
    }
    let deliveries = async |harness: &Harness| {
        let claims =
            harness.store.claim_deliveries_across_tenants(slots(100, 100, 100), LEASE).await.unwrap();
        let mut claimed: Vec<_> = claims
            .claimed
            .into_iter()
            .map(|claimed| (format!("{:?}", claimed.delivery), claimed.body))
            .collect();
        claimed.sort();
        claimed
    };
    let expected = deliveries(&before).await;
    assert!(!expected.is_empty());
    assert!(deliveries(&after).await == expected);
}

#[tokio::test]
async fn what_comes_afterwards_gets_numbers_of_its_own() {
    let moved = Move::of(one_row).await;
    moved.carry().await.finish().await.unwrap();
    let after = moved.serve().await.unwrap();
    after.announce("2", &[A, B]).await;
    assert_eq!(after.deliveries("2").await.len(), 2);
}

/// Who has read the feed up to a number must not miss what is given a lower one later.
#[tokio::test]
async fn a_number_of_an_event_that_was_deleted_is_not_given_again() {
    let moved = Move::of(many_rows).await;
    let file = rusqlite::Connection::open(file_in(&moved.folder)).unwrap();
    file.execute_batch("PRAGMA foreign_keys = ON; DELETE FROM events").unwrap();
    drop(file);
    moved.carry().await.finish().await.unwrap();
    moved.serve().await.unwrap().announce("new", &[]).await;
    let events = moved.database.connect().await.query("SELECT seq FROM events", &[]).await.unwrap();
    assert_eq!(events.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1101]);
}

#[tokio::test]
async fn a_nul_in_a_plain_text_arrives_as_a_mark_in_its_place() {
    let moved = Move::of(every_kind_of_row).await;
    moved.carry().await.finish().await.unwrap();
    let details = "SELECT DISTINCT detail FROM attempts WHERE detail IS NOT NULL";
    let details = moved.database.connect().await.query(details, &[]).await.unwrap();
    assert_eq!(details.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), ["a NUL \u{fffd} in it"]);
}

#[tokio::test]
async fn a_copy_that_was_interrupted_after_any_batch_goes_on() {
    let moved = Move::of(many_rows).await;
    let before = moved.twin();
    let mut beginnings = Vec::new();
    let mut batches = Vec::new();
    loop {
        let mut copy = moved.open().await.unwrap();
        beginnings.push(copy.begin(&SystemEntropy).await.unwrap());
        let Some(batch) = copy.step().await.unwrap() else { break };
        batches.push(batch);
        drop(copy);
        let closed = moved.serve().await.map(|_| ());
        assert!(matches!(closed, Err(postgres::OpenError::UnfinishedCopy)), "{closed:?}");
    }
    assert_eq!(beginnings[0], Beginning::New);
    assert!(beginnings[1..].iter().all(|beginning| *beginning == Beginning::Resumed));
    let rows = |table| {
        batches.iter().filter(|batch| batch.table == table).map(|batch| batch.rows).collect::<Vec<_>>()
    };
    assert_eq!(rows("analyses"), [500, 500, 100]);
    assert_eq!(rows("callbacks"), [500, 500, 500, 500, 200]);
    assert_eq!(rows("attempts"), [500, 500]);

    let closed = postgres::inspect(&moved.url(), &moved.settings()).await;
    assert!(matches!(closed, Err(postgres::OpenError::UnfinishedCopy)), "{closed:?}");
    moved.open().await.unwrap().finish().await.unwrap();
    postgres::inspect(&moved.url(), &moved.settings()).await.unwrap();
    let after = moved.serve().await.unwrap();
    for number in [0, 499, 500, 501, 1099] {
        let call = format!("call-{number}");
        assert_eq!(shown(&*after.store, &acme(), &call).await, shown(&*before.store, &acme(), &call).await);
    }
}

#[tokio::test]
async fn large_rows_make_small_batches() {
    let moved = Move::of(every_kind_of_row).await;
    let mut copy = moved.open().await.unwrap();
    copy.begin(&SystemEntropy).await.unwrap();
    let mut results = Vec::new();
    while let Some(batch) = copy.step().await.unwrap() {
        if batch.table == "results" {
            results.push(batch.rows);
        }
    }
    // 12 MiB and 24 MiB of an answer; what comes before the first of them goes along.
    assert_eq!(results.len(), 2, "{results:?}");
}

#[tokio::test]
async fn a_database_that_holds_anything_else_is_refused() {
    let moved = Move::of(one_row).await;
    let other = moved.serve().await.unwrap();
    other.submit(submission("theirs")).await;
    let in_use = moved.open().await;
    assert!(matches!(in_use, Err(CopyError::DatabaseInUse)), "{in_use:?}");
    let theirs = other.find("theirs").await;
    drop(other);

    let refused = moved.open().await.unwrap().begin(&SystemEntropy).await;
    assert!(matches!(&refused, Err(CopyError::NotEmpty(tables)) if tables == &["analyses"]), "{refused:?}");
    // Neither side has taken harm.
    reopen(&file_in(&moved.folder)).unwrap();
    assert_eq!(moved.serve().await.unwrap().find("theirs").await, theirs);
}

#[tokio::test]
async fn a_copy_of_another_file_is_not_gone_on_with() {
    let first = Move::of(one_row).await;
    drop(first.carry().await);
    let second = Move { database: first.database, ..Move::of(one_row).await };
    let refused = second.open().await.unwrap().begin(&SystemEntropy).await;
    assert!(matches!(refused, Err(CopyError::OfAnotherFile)), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_was_worked_on_in_between_is_another_file() {
    let moved = Move::of(many_rows).await;
    let mut copy = moved.open().await.unwrap();
    copy.begin(&SystemEntropy).await.unwrap();
    copy.step().await.unwrap();
    drop(copy);
    reopen(&file_in(&moved.folder)).unwrap();
    let refused = moved.open().await.unwrap().begin(&SystemEntropy).await;
    assert!(matches!(refused, Err(CopyError::OfAnotherFile)), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_a_gateway_works_on_is_refused() {
    let moved = Move::of(one_row).await;
    let gateway = SqliteStore::open(&file_in(&moved.folder), surroundings().0).unwrap();
    let refused = moved.open().await;
    assert!(matches!(refused, Err(CopyError::File(sqlite::OpenError::InUse(_)))), "{refused:?}");
    drop(gateway);

    // And the other way round.
    let copy = moved.open().await.unwrap();
    let refused = reopen(&file_in(&moved.folder));
    assert!(matches!(refused, Err(sqlite::OpenError::InUse(_))), "{refused:?}");
    let refused = moved.serve().await.map(|_| ());
    assert!(refused.is_err_and(|error| error.to_string().contains("being copied")));
    drop(copy);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_not_made() {
    let moved = Move::of(one_row).await;
    std::fs::remove_file(file_in(&moved.folder)).unwrap();
    let refused = moved.open().await;
    assert!(matches!(refused, Err(CopyError::File(sqlite::OpenError::Io { .. }))), "{refused:?}");
    assert!(!file_in(&moved.folder).exists());
}

#[tokio::test]
async fn a_difference_is_found_and_keeps_the_database_closed() {
    let moved = Move::of(every_kind_of_row).await;
    let copy = moved.carry().await;
    let other = moved.database.connect().await;
    for (damage, repair, tables) in [
        (
            "UPDATE analyses SET polls = polls + 1 WHERE id = 2",
            "UPDATE analyses SET polls = polls - 1 WHERE id = 2",
            &["analyses"][..],
        ),
        ("UPDATE results SET vendor_answer = vendor_answer || '\\x00' WHERE analysis = 1", "", &["results"]),
        ("DELETE FROM attempts WHERE delivery = 1", "", &["attempts", "results"]),
        ("DELETE FROM events WHERE seq = 1", "", &["attempts", "deliveries", "events", "results"]),
    ] {
        other.batch_execute(damage).await.unwrap();
        for outcome in [copy.verify().await, copy.finish().await] {
            let Err(CopyError::Differs(found)) = outcome else { panic!("{damage}: {outcome:?}") };
            let mut names: Vec<_> = found.iter().map(|comparison| comparison.table).collect();
            names.sort_unstable();
            assert_eq!(names, tables, "{damage}");
        }
        other.batch_execute(repair).await.unwrap();
    }
    drop(copy);
    let closed = moved.serve().await.map(|_| ());
    assert!(matches!(closed, Err(postgres::OpenError::UnfinishedCopy)), "{closed:?}");
    reopen(&file_in(&moved.folder)).unwrap();
}

#[tokio::test]
async fn after_the_copy_the_work_is_the_databases_alone() {
    let moved = Move::of(one_row).await;
    moved.carry().await.finish().await.unwrap();
    for outcome in [reopen(&file_in(&moved.folder)), sqlite::inspect(&file_in(&moved.folder))] {
        assert!(matches!(outcome, Err(sqlite::OpenError::Moved(_))), "{outcome:?}");
    }
    let again = moved.open().await.unwrap();
    assert_eq!(again.begin(&SystemEntropy).await.unwrap(), Beginning::Finished);
    drop(again);

    // Nor does a second database get it.
    let second = Move { database: empty().await, ..moved };
    let refused = second.open().await.unwrap().begin(&SystemEntropy).await;
    assert!(matches!(refused, Err(CopyError::File(sqlite::OpenError::Moved(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_hand_over_that_was_interrupted_is_finished_by_the_next_run() {
    let moved = Move::of(one_row).await;
    moved.carry().await.finish().await.unwrap();
    // As if the process had died between the two marks.
    moved.database.connect().await.batch_execute("UPDATE gateway_copy SET finished_at = NULL").await.unwrap();
    let mut again = moved.open().await.unwrap();
    assert_eq!(again.begin(&SystemEntropy).await.unwrap(), Beginning::Resumed);
    assert_eq!(again.step().await.unwrap(), None);
    again.finish().await.unwrap();
    drop(again);
    moved.serve().await.unwrap().find("1").await;
}

#[tokio::test]
async fn a_file_of_an_older_version_is_copied_and_one_of_a_newer_refused() {
    let moved = Move::of(one_row).await;
    let file = rusqlite::Connection::open(file_in(&moved.folder)).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    let refused = moved.open().await;
    assert!(matches!(refused, Err(CopyError::File(sqlite::OpenError::TooNew { .. }))), "{refused:?}");

    for table in ["attempts", "deliveries", "events", "callbacks", "results", "analyses"] {
        file.execute_batch(&format!("DROP TABLE {table}")).unwrap();
    }
    file.execute_batch("DROP TABLE IF EXISTS paces").unwrap();
    file.execute_batch(include_str!("../../src/store/sqlite/schema.sql")).unwrap();
    file.pragma_update(None, "user_version", 1).unwrap();
    drop(file);
    moved.carry().await.finish().await.unwrap();
}
