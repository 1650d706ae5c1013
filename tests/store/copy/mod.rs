//! Copies of a `SQLite` file into PostgreSQL.

mod arrival;
mod interruptions;
mod refusals;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alovoice_gateway::config::{PostgresUrl, StoreSettings, StoreUrl};
use alovoice_gateway::domain::analysis::{Submission, VendorResult};
use alovoice_gateway::domain::clock::{Clock, SystemEntropy, Timestamp};
use alovoice_gateway::domain::ids::TenantId;
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step};
use alovoice_gateway::domain::retries::{GiveUpReason, RetryDecision};
use alovoice_gateway::store::copy::{CopyError, StoreCopy};
use alovoice_gateway::store::postgres::{self, PostgresStore};
use alovoice_gateway::store::sqlite::{self, SqliteStore};
use alovoice_gateway::store::{
    FinishedAttempt, Queue, RecordedAttempt, RecordedDelivery, ReplayBegin, Store, StoredAnalysis,
};
use bytes::Bytes;
use futures_util::future::join_all;
use tempfile::TempDir;

use crate::cases::{replays, webhooks};
use crate::harness::{
    Harness, acme, call_id, delivered, finished, globex, obtained, store_context, submission, trace,
    with_callback, with_metadata,
};
use crate::patience::PATIENCE;
use crate::postgres_server::database::Database;
use crate::postgres_server::server::Server;
use crate::rows::{Rows, attempts_of, deliveries_of_call};

const A: &str = "https://a.example/";
const B: &str = "https://b.example/";

/// A file, and a database to copy it into.
struct CopyFixture {
    folder: TempDir,
    database: Database,
    /// The time of the last write to the file.
    now: Timestamp,
}

impl CopyFixture {
    /// Creates a file with the rows that `work` writes.
    async fn of<F: Future<Output = ()>>(work: impl FnOnce(Arc<Harness>) -> F) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (context, clock) = store_context();
        let metrics = Arc::clone(&context.env.metrics);
        let path = file_in(&folder);
        let store = Arc::new(SqliteStore::open(&path, context).unwrap());
        work(Arc::new(Harness::new(store, clock.clone(), metrics, Rows::of_file(&path), ()))).await;
        Self { folder, database: empty().await, now: clock.now() }
    }

    fn url(&self) -> PostgresUrl {
        self.database.url().to_owned().into()
    }

    /// Opens the copy. Waits until the server notices that the previous user of the database is gone.
    async fn open(&self) -> Result<StoreCopy, CopyError> {
        let began = Instant::now();
        loop {
            match self.try_open().await {
                Err(CopyError::DatabaseInUse) if began.elapsed() < PATIENCE => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_open(&self) -> Result<StoreCopy, CopyError> {
        StoreCopy::open(&file_in(&self.folder), &self.url(), None, PATIENCE, self.now).await
    }

    /// Copies all remaining rows, without finishing the copy.
    async fn copy_rows(&self) -> StoreCopy {
        let mut copy = self.open().await.unwrap();
        copy.begin(&SystemEntropy).await.unwrap();
        while copy.step().await.unwrap().is_some() {}
        copy
    }

    /// Opens a store on the database. Waits until the server notices that the previous copy is gone.
    async fn serve(&self) -> Result<Harness, postgres::PostgresOpenError> {
        let began = Instant::now();
        loop {
            match self.try_serve().await {
                Err(error) if is_being_copied(&error) && began.elapsed() < PATIENCE => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_serve(&self) -> Result<Harness, postgres::PostgresOpenError> {
        let (context, clock) = store_context();
        let metrics = Arc::clone(&context.env.metrics);
        clock.advance(self.now.since(clock.now()));
        let store = PostgresStore::open(&self.url(), &self.settings(), context, |_| {}).await?;
        Ok(Harness::new(Arc::new(store), clock, metrics, Rows::of_server(self.database.url()), ()))
    }

    fn settings(&self) -> StoreSettings {
        StoreSettings {
            url: StoreUrl::Postgres(self.url()),
            listen_url: None,
            password_file: None,
            lock_timeout: None,
            max_connections: 4,
            retention: Duration::from_secs(1),
        }
    }

    /// Opens a store on a copy of the file, for comparison.
    fn twin(&self) -> Harness {
        let path = self.folder.path().join("twin.db");
        for ending in ["", "-wal"] {
            let name = |name: &str| self.folder.path().join(format!("{name}{ending}"));
            if name("store.db").exists() {
                std::fs::copy(name("store.db"), name("twin.db")).unwrap();
            }
        }
        let (context, clock) = store_context();
        let metrics = Arc::clone(&context.env.metrics);
        clock.advance(self.now.since(clock.now()));
        let store = Arc::new(SqliteStore::open(&path, context).unwrap());
        Harness::new(store, clock, metrics, Rows::of_file(&path), ())
    }
}

fn is_being_copied(error: &postgres::PostgresOpenError) -> bool {
    error.to_string().contains("being copied")
}

async fn empty() -> Database {
    Server::shared().await.fresh_database().await
}

fn file_in(folder: &TempDir) -> PathBuf {
    folder.path().join("store.db")
}

fn reopen(path: &Path) -> Result<(), sqlite::SqliteOpenError> {
    SqliteStore::open(path, store_context().0).map(|_| ())
}

/// All stored data of a call.
#[derive(Debug, PartialEq)]
struct StoredCall {
    found: Option<StoredAnalysis>,
    vendor_answer: Option<Bytes>,
    deliveries: Vec<(RecordedDelivery, Vec<RecordedAttempt>)>,
}

async fn stored_call(store: &dyn Store, tenant: &TenantId, call: &str) -> StoredCall {
    let call = call_id(call);
    let mut deliveries = Vec::new();
    for delivery in deliveries_of_call(store, tenant, &call).await {
        let mut attempts = attempts_of(store, tenant, delivery.id).await;
        for detail in attempts.iter_mut().filter_map(|attempt| attempt.detail.as_mut()) {
            // PostgreSQL cannot store NUL in a text.
            *detail = detail.replace('\0', "\u{fffd}");
        }
        deliveries.push((delivery, attempts));
    }
    StoredCall {
        found: store.find_analysis(tenant, &call).await.unwrap(),
        vendor_answer: store.find_vendor_answer(tenant, &call).await.unwrap(),
        deliveries,
    }
}

/// Writes calls and deliveries in every state.
async fn rows_of_every_kind(harness: Arc<Harness>) {
    for (call, outcome) in [
        ("delivered", delivered()),
        ("retried", finished("refused", Some(503), RetryDecision::RetryAt(Timestamp::from_millis(1 << 50)))),
        ("given-up", finished("gone", Some(410), RetryDecision::GiveUp(GiveUpReason::Gone))),
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
    for (call, size) in [("bytes", 4), ("large", 1 << 20)] {
        adopt_bytes(&harness, call, size).await;
    }
    harness.submit(with_callback("rejected", B)).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    let rejected = Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned()));
    harness.store.apply(claimed.lease, rejected.into()).await.unwrap();
    harness.submit(with_callback("handed-over", B)).await;
    harness.submit_queued().await;
    harness.submit(with_callback("leased", A)).await;
    assert_eq!(harness.claim(Queue::Submits).await.len(), 1);
    // An attempt without an outcome.
    assert_eq!(harness.claim_deliveries(1, 1).await.len(), 1);
    harness.submit(with_callback("queued", A)).await;
    let call = serde_json::json!({"agent": {"id": "17", "name": "Ўткир"}, "phone": "+998901234567", "crm": {"lead": "1"}});
    harness.submit(Submission { call: serde_json::from_value(call).unwrap(), ..submission("facts") }).await;
    harness.store.submit(&globex(), with_metadata("queued", "G-1")).await.unwrap();
    // A webhook with a test event and a replay.
    let webhook = webhooks::registered(&harness, A).await;
    harness.store.test_webhook(&acme(), webhook.id, trace()).await.unwrap();
    let replay = replays::replay_to(&harness, webhook.id, REPLAY);
    assert_eq!(harness.store.begin_replay(&acme(), replay).await.unwrap(), ReplayBegin::Begun);
    harness.store.advance_replays_across_tenants().await.unwrap();
}

/// Stores a vendor answer of `size` bytes that are not UTF-8.
async fn adopt_bytes(harness: &Harness, call: &str, size: usize) {
    let vendor_answer = b"\xc3\x28\0\xff".repeat(size / 4).into();
    let result = Box::new(VendorResult { vendor_answer, ..*obtained("so'z") });
    harness.store.adopt(&acme(), &call_id(call), trace(), result).await.unwrap();
}

/// The number in the id of the replay.
const REPLAY: u64 = 1;

const CALLS: [&str; 11] = [
    "delivered",
    "retried",
    "given-up",
    "metadata",
    "bytes",
    "large",
    "rejected",
    "handed-over",
    "leased",
    "queued",
    "facts",
];

/// Writes enough calls for several batches of every table.
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
