//! A harness around a store of either engine with a manual clock, and builders for test data.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alovoice_gateway::domain::analysis::{
    AnalysisResult, Metadata, Submission, SubmissionCallback, VendorResult,
};
use alovoice_gateway::domain::call_facts::CallFacts;
use alovoice_gateway::domain::callback_url::CallbackUrl;
use alovoice_gateway::domain::claim_order::ClaimOrder;
use alovoice_gateway::domain::clock::{Clock, Entropy, Timestamp};
use alovoice_gateway::domain::clock_status::ClockStatus;
use alovoice_gateway::domain::event_payload::EventPayload;
use alovoice_gateway::domain::ids::{CallId, TenantId};
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step, SubmitOutcome};
use alovoice_gateway::domain::polling::PollingPolicy;
use alovoice_gateway::domain::public_url::PublicUrl;
use alovoice_gateway::domain::retries::RetryDecision;
use alovoice_gateway::domain::trace::TraceContext;
use alovoice_gateway::domain::transcript::{Speaker, Turn};
use alovoice_gateway::env::Env;
use alovoice_gateway::store::{
    Change, ClaimedDelivery, ClaimedWork, DeliverySlots, FinishedAttempt, Queue, Store, StoreContext,
    StoredAnalysis, WorkSlots,
};
use alovoice_gateway::telemetry::metrics::Metrics;
use tokio::sync::broadcast;

use crate::clock::ManualClock;
use crate::patience::PATIENCE;
use crate::rows::{Rows, deliveries_of_call};

pub(crate) const START: Timestamp = Timestamp::from_millis(1_716_207_617_000); // 2024-05-20T12:20:17Z
pub(crate) const LEASE: Duration = Duration::from_secs(30);
const TRACEPARENT: &str = "00-fbf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Entropy that counts up, so that ids are unique across all harnesses.
pub(crate) struct CountingEntropy(AtomicU64);

impl CountingEntropy {
    pub(crate) fn starting_at(count: u64) -> Self {
        Self(AtomicU64::new(count))
    }
}

impl Entropy for CountingEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        for (byte, next) in bytes.iter_mut().rev().zip(count.iter().rev().chain(std::iter::repeat(&0))) {
            *byte = *next;
        }
    }
}

/// The context to open a store with, and its clock.
pub(crate) fn store_context() -> (StoreContext, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::starting_at(START));
    static HARNESSES: AtomicU64 = AtomicU64::new(0);
    let first = HARNESSES.fetch_add(1 << 32, Ordering::Relaxed);
    let entropy = Arc::new(CountingEntropy(AtomicU64::new(first)));
    let metrics = Arc::new(Metrics::new().unwrap());
    let public_url = PublicUrl::default();
    let env = Env {
        clock: clock.clone(),
        wall_clock: clock.clone(),
        entropy,
        encryption: Arc::default(),
        metrics,
        public_url,
    };
    (StoreContext { env, policy: PollingPolicy::default(), operation_timeout: PATIENCE }, clock)
}

/// The status of a clock without doubt.
pub(crate) fn certain_clock() -> Arc<ClockStatus> {
    let status = ClockStatus::default();
    status.set(None, Timestamp::from_millis(0));
    Arc::new(status)
}

/// A store with its clock and its rows. Each case gets a new one.
pub(crate) struct Harness {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) rows: Rows,
    changes: Mutex<broadcast::Receiver<Change>>,
    /// Resources that must live as long as the store.
    _keep: Box<dyn Send + Sync>,
}

impl Harness {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<ManualClock>,
        metrics: Arc<Metrics>,
        rows: Rows,
        keep: impl Send + Sync + 'static,
    ) -> Self {
        let changes = Mutex::new(store.changes());
        Self { store, clock, metrics, rows, changes, _keep: Box::new(keep) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// The changes announced since the last call.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let mut changes = self.changes.lock().unwrap();
        std::iter::from_fn(|| changes.try_recv().ok()).collect()
    }

    pub(crate) async fn submit(&self, submission: Submission) -> StoredAnalysis {
        self.store.submit(&acme(), submission).await.unwrap()
    }

    pub(crate) async fn find(&self, call: &str) -> StoredAnalysis {
        self.store.find_analysis(&acme(), &call_id(call)).await.unwrap().unwrap()
    }

    /// Claims the due work of the tenant acme.
    pub(crate) async fn claim(&self, queue: Queue) -> Vec<ClaimedWork> {
        let slots = vec![slots_of(acme(), 100)];
        self.store.claim_work_across_tenants(queue, slots, LEASE).await.unwrap().claimed
    }

    /// Claims the only due work of the tenant acme.
    pub(crate) async fn claim_one(&self, queue: Queue) -> ClaimedWork {
        let [claimed] = <[ClaimedWork; 1]>::try_from(self.claim(queue).await).unwrap();
        claimed
    }

    /// Submits every queued call to the vendor.
    pub(crate) async fn submit_queued(&self) {
        for claimed in self.claim(Queue::Submits).await {
            self.store.apply(claimed.lease, Step::Submitted(SubmitOutcome::Accepted).into()).await.unwrap();
        }
    }

    /// Submits a call and completes it with a transcript of these words. Its settle poll is still pending.
    pub(crate) async fn complete(&self, submission: Submission, words: &str) -> StoredAnalysis {
        let call = submission.call_id.clone();
        self.submit(submission).await;
        self.submit_queued().await;
        self.advance(10);
        let claimed = self.claim_one(Queue::Polls).await;
        self.store.apply(claimed.lease, ready(words).into()).await.unwrap();
        self.find(call.as_str()).await
    }

    /// Completes a call with these callbacks.
    pub(crate) async fn announce(&self, call: &str, callbacks: &[&str]) {
        for callback in callbacks {
            self.submit(with_callback(call, callback)).await;
        }
        self.complete(submission(call), "salom").await;
    }

    pub(crate) async fn claim_deliveries(&self, total: usize, per_receiver: usize) -> Vec<ClaimedDelivery> {
        let slots = slots(total, usize::MAX, per_receiver);
        self.store.claim_deliveries_across_tenants(slots, LEASE).await.unwrap().claimed
    }

    pub(crate) async fn claim_delivery(&self) -> ClaimedDelivery {
        let [claimed] = <[ClaimedDelivery; 1]>::try_from(self.claim_deliveries(100, 100).await).unwrap();
        claimed
    }

    /// The `status` and `attempts` of a call's deliveries.
    pub(crate) async fn deliveries(&self, call: &str) -> Vec<(String, u32)> {
        let deliveries = deliveries_of_call(&*self.store, &acme(), &call_id(call)).await;
        deliveries.into_iter().map(|delivery| (delivery.status, delivery.attempts)).collect()
    }
}

/// Slots for a tenant's work, without a limit of work in progress.
pub(crate) fn slots_of(tenant: TenantId, free: usize) -> WorkSlots {
    WorkSlots { tenant, free, most: usize::MAX, order: ClaimOrder::OldestFirst }
}

/// Slots for deliveries of both tenants, without a limit of bytes.
pub(crate) fn slots(total: usize, per_tenant: usize, per_receiver: usize) -> DeliverySlots {
    DeliverySlots {
        tenants: vec![acme(), globex()],
        total,
        bytes: usize::MAX,
        per_tenant,
        per_receiver,
        ..DeliverySlots::default()
    }
}

pub(crate) fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

pub(crate) fn globex() -> TenantId {
    TenantId::parse("globex").unwrap()
}

pub(crate) fn call_id(call: &str) -> CallId {
    CallId::parse(call).unwrap()
}

pub(crate) fn trace() -> TraceContext {
    TraceContext::parse(TRACEPARENT).unwrap()
}

pub(crate) fn submission(call: &str) -> Submission {
    Submission {
        call_id: call_id(call),
        callback: None,
        metadata: None,
        call: CallFacts::default(),
        reanalyze: false,
        trace: trace(),
    }
}

pub(crate) fn with_callback(call: &str, url: &str) -> Submission {
    with_payload(call, url, EventPayload::Full)
}

pub(crate) fn with_payload(call: &str, url: &str, payload: EventPayload) -> Submission {
    let url = CallbackUrl::parse(url).unwrap();
    let callback = SubmissionCallback { url, payload, transform: None };
    Submission { callback: Some(callback), ..submission(call) }
}

pub(crate) fn with_metadata(call: &str, ticket: &str) -> Submission {
    Submission { metadata: Some(metadata(ticket)), ..submission(call) }
}

pub(crate) fn reanalysis(call: &str) -> Submission {
    Submission { reanalyze: true, ..submission(call) }
}

pub(crate) fn metadata(ticket: &str) -> Metadata {
    let object = serde_json::json!({ "ticket": ticket });
    Metadata::parse(object.as_object().unwrap().clone()).unwrap()
}

pub(crate) fn obtained(words: &str) -> Box<VendorResult> {
    let turn = Turn {
        fragment_id: Some("664b423209f8892adba7206f".to_owned()),
        speaker: Speaker::Operator,
        begin_ms: 1120,
        end_ms: 2960,
        text: words.to_owned(),
    };
    let result = AnalysisResult {
        ai_call_id: Some("664b400ccccc3235a7cd17f".to_owned()),
        begin_time: Some(START),
        transcript: vec![turn],
        tags: Vec::new(),
        audio_path: Some("/stereo/1".to_owned()),
        warnings: Vec::new(),
    };
    Box::new(VendorResult { result, vendor_answer: format!("as said: {words}").into(), etag: None })
}

pub(crate) fn ready(words: &str) -> Step {
    Step::Polled(PollOutcome::Ready(obtained(words)))
}

pub(crate) fn finished(outcome: &'static str, status: Option<u16>, next: RetryDecision) -> FinishedAttempt {
    FinishedAttempt {
        outcome,
        webhook_version: None,
        status,
        latency: Duration::from_millis(42),
        detail: None,
        response: b"thanks".to_vec(),
        next,
    }
}

pub(crate) fn delivered() -> FinishedAttempt {
    finished("delivered", Some(204), RetryDecision::Delivered)
}

/// The `type` and the `data` of a delivery's event.
pub(crate) fn event_of(delivery: &ClaimedDelivery) -> (String, serde_json::Value) {
    let mut body: serde_json::Value = serde_json::from_slice(&delivery.body).unwrap();
    (body["type"].as_str().unwrap().to_owned(), body["data"].take())
}
