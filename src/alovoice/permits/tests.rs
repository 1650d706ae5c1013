//! Tests of taking, waiting for and releasing permits.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::FutureExt;

use super::*;
use crate::domain::clock::{Clock, Entropy};
use crate::domain::public_url::PublicUrl;
use crate::telemetry::metrics::Metrics;

const START: i64 = 1_716_207_617_000; // 2024-05-20T12:20:17Z
const LIMIT: usize = 8;
const DOWN: VendorHealth =
    VendorHealth::Failing { token_refused: false, is_throttled: false, retry_after: None };

/// A clock that the test advances.
struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Entropy that repeats one byte. With 0, pauses have no jitter and therefore their minimum length.
struct Constant(u8);

impl Entropy for Constant {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn globex() -> TenantId {
    TenantId::parse("globex").unwrap()
}

fn call() -> &'static CallId {
    static CALL: LazyLock<CallId> = LazyLock::new(|| CallId::parse("1").unwrap());
    &CALL
}

/// Creates the permits of two tenants. Pauses start at five seconds.
fn permits() -> (VendorPermits, Arc<ManualClock>) {
    permits_with(Constant(0))
}

fn permits_with(entropy: Constant) -> (VendorPermits, Arc<ManualClock>) {
    let policy = PollingPolicy::default();
    let clock = Arc::new(ManualClock(AtomicI64::new(START)));
    let env = Env {
        clock: clock.clone(),
        wall_clock: clock.clone(),
        entropy: Arc::new(entropy),
        encryption: Arc::default(),
        metrics: Arc::new(Metrics::new().unwrap()),
        public_url: PublicUrl::default(),
    };
    (VendorPermits::new([(acme(), LIMIT), (globex(), LIMIT)], &policy, &env), clock)
}

async fn free(permits: &VendorPermits, tenant: &TenantId) -> usize {
    let free = permits.free().await;
    free.by_tenant.iter().find(|(id, ..)| id == tenant).map_or(0, |(_, count, _)| *count)
}

async fn take(permits: &VendorPermits) -> VendorPermit {
    permits.free().await.take(&acme(), false).unwrap()
}

/// Records failures for acme until its circuit opens.
async fn open_circuit(permits: &VendorPermits) {
    for _ in 0..5 {
        take(permits).await.record(DOWN);
    }
}

#[tokio::test]
async fn a_taken_permit_is_not_free_until_it_is_released() {
    let (permits, _) = permits();
    let taken = [take(&permits).await, take(&permits).await];
    assert_eq!((free(&permits, &acme()).await, free(&permits, &globex()).await), (LIMIT - 2, LIMIT));
    drop(taken);
    assert_eq!(free(&permits, &acme()).await, LIMIT);
    permits.released().await;
}

#[tokio::test]
async fn lookups_use_a_share_of_the_permits() {
    let acme = acme();
    let (permits, _) = permits();
    let first = permits.acquire_for_lookup(&acme, call()).await.unwrap();
    let _second = permits.acquire_for_lookup(&acme, call()).await.unwrap();
    let mut third = Box::pin(permits.acquire_for_lookup(&acme, call()));
    assert!((&mut third).now_or_never().is_none());
    assert_eq!(free(&permits, &acme).await, LIMIT - 2);
    drop(first);
    assert!(third.await.is_ok());
}

#[tokio::test]
async fn a_released_permit_is_reserved_for_a_waiting_lookup() {
    let acme = acme();
    let (permits, _) = permits();
    let mut taken = Vec::new();
    for _ in 0..LIMIT {
        taken.push(take(&permits).await);
    }
    let mut waiting = Box::pin(permits.acquire_for_lookup(&acme, call()));
    assert!((&mut waiting).now_or_never().is_none());
    taken.pop();
    assert_eq!(free(&permits, &acme).await, 0);
    assert!(waiting.await.is_ok());
}

#[tokio::test]
async fn a_cancelled_lookup_reserves_nothing() {
    let acme = acme();
    let (permits, _) = permits();
    let mut taken = Vec::new();
    for _ in 0..LIMIT {
        taken.push(take(&permits).await);
    }
    let mut waiting = Box::pin(permits.acquire_for_lookup(&acme, call()));
    assert!((&mut waiting).now_or_never().is_none());
    drop(waiting);
    taken.pop();
    assert_eq!(free(&permits, &acme).await, 1);
}

#[tokio::test]
async fn an_open_circuit_gives_no_permits_to_its_tenant() {
    let (permits, _) = permits();
    open_circuit(&permits).await;
    let until = Some(Timestamp::from_millis(START + 5000));
    let free = permits.free().await;
    assert_eq!(
        (&free.by_tenant, &free.open_circuits),
        (&vec![(globex(), LIMIT, ClaimOrder::OldestFirst)], &vec![acme()])
    );
    assert_eq!(free.next_probe, until);
    drop(free);
    assert_eq!(permits.acquire_for_lookup(&acme(), call()).await.err(), Some(CircuitOpen { until }));
    assert!(permits.acquire_for_lookup(&globex(), call()).await.is_ok());
}

#[tokio::test]
async fn after_the_pause_workers_and_lookups_share_one_probe_at_a_time() {
    let acme = acme();
    let (permits, clock) = permits();
    open_circuit(&permits).await;
    clock.0.fetch_add(5000, Ordering::Relaxed);
    assert_eq!(free(&permits, &acme).await, 1);
    let probe = take(&permits).await;
    assert_eq!(free(&permits, &acme).await, 0);
    let mut lookup = Box::pin(permits.acquire_for_lookup(&acme, call()));
    assert!((&mut lookup).now_or_never().is_none());
    probe.record(DOWN);
    drop(probe);
    assert!(lookup.await.is_err(), "the circuit is open again");

    clock.0.fetch_add(5000, Ordering::Relaxed);
    let probe = permits.acquire_for_lookup(&acme, call()).await.unwrap();
    assert_eq!(free(&permits, &acme).await, 0);
    probe.record(VendorHealth::Answering);
    drop(probe);
    assert_eq!(free(&permits, &acme).await, 2);
}

fn breakers_open(permits: &VendorPermits) -> i64 {
    permits.env.metrics.breakers_open.with_label_values(&["acme"]).get()
}

#[tokio::test]
async fn open_circuits_are_counted_in_a_metric() {
    let (permits, clock) = permits();
    open_circuit(&permits).await;
    assert_eq!(breakers_open(&permits), 1);
    clock.0.fetch_add(5000, Ordering::Relaxed);
    take(&permits).await.record(DOWN);
    assert_eq!(breakers_open(&permits), 1);
    clock.0.fetch_add(60_000, Ordering::Relaxed);
    take(&permits).await.record(VendorHealth::Answering);
    assert_eq!(breakers_open(&permits), 0);
}

async fn order(permits: &VendorPermits) -> ClaimOrder {
    permits.free().await.by_tenant.iter().find(|(id, ..)| *id == acme()).unwrap().2
}

#[tokio::test]
async fn calls_that_failed_share_a_lower_limit_and_come_last() {
    let (permits, _) = permits();
    assert_eq!(order(&permits).await, ClaimOrder::OldestFirst);
    take(&permits).await.record(VendorHealth::Answering);
    take(&permits).await.record(DOWN);
    // The random number is 0, so the newest calls are next.
    let with = |max_failed| ClaimOrder::UnfailedFirst { max_failed, newest: true };
    assert_eq!(order(&permits).await, with(LIMIT / 2));
    let retry = permits.free().await.take(&acme(), true).unwrap();
    assert_eq!(order(&permits).await, with(LIMIT / 2 - 1));
    retry.record(VendorHealth::Answering);
    drop(retry);
    assert_eq!(order(&permits).await, ClaimOrder::OldestFirst);
}

#[tokio::test]
async fn a_call_that_has_not_failed_probes_before_the_pause_ends() {
    let (permits, clock) = permits_with(Constant(0xff));
    open_circuit(&permits).await;
    let failed = call();
    for _ in 0..2 {
        clock.0.fetch_add(60_000, Ordering::Relaxed);
        permits.acquire_for_lookup(&acme(), failed).await.unwrap().record(DOWN);
    }
    clock.0.fetch_add(5000, Ordering::Relaxed);
    assert_eq!(order(&permits).await, ClaimOrder::UnfailedFirst { max_failed: 0, newest: true });
    let refused = permits.acquire_for_lookup(&acme(), failed).await.err();
    assert!(refused.is_some_and(|circuit| circuit.until > Some(permits.env.clock.now())));
    let other = CallId::parse("2").unwrap();
    assert!(permits.acquire_for_lookup(&acme(), &other).await.is_ok());
}
