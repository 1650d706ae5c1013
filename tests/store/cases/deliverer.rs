//! The deliverer: attempts that send nothing.

use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::analyses::{MemoryBudget, RENDERING, RENDERINGS};
use alovoice_gateway::app;
use alovoice_gateway::callbacks::Sender;
use alovoice_gateway::config::{self, NetworkSettings, Settings};
use alovoice_gateway::domain::analysis::Submission;
use alovoice_gateway::domain::clock::SystemEntropy;
use alovoice_gateway::domain::public_url::PublicUrl;
use alovoice_gateway::domain::receivers::Receivers;
use alovoice_gateway::domain::transforms::{OnUnknown, Transform};
use alovoice_gateway::env::Env;
use alovoice_gateway::http_client::Network;
use alovoice_gateway::store::{RecordedAttempt, StoreError};
use alovoice_gateway::telemetry::metrics::Metrics;
use alovoice_gateway::workers::{Deliverer, OutcomeWriter, Wake, Worker};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::deliveries::A;
use crate::clock::ManualClock;
use crate::harness::{Harness, LEASE, acme, call_id, delivered, with_callback};
use crate::rows::{attempts_of, deliveries_of_call};

/// Settings with a short deadline of requests. The tenant has a callback secret if `is_signing`.
fn settings(is_signing: bool) -> Settings {
    let mut settings = vec![
        ("VENDOR__BASE_URL", "http://127.0.0.1:9".to_owned()),
        ("STORE__URL", "sqlite:///unused/gateway.db".to_owned()),
        ("CALLBACKS__TIMEOUT", "1ms".to_owned()),
        ("AUTH__ISSUERS__0__ISSUER", "https://issuer.test".to_owned()),
        ("AUTH__ISSUERS__0__AUDIENCES", "alovoice-gateway".to_owned()),
        ("AUTH__ISSUERS__0__ALGORITHMS", "RS256".to_owned()),
        ("AUTH__ISSUERS__0__JWKS_URL", "https://issuer.test/jwks.json".to_owned()),
        ("TENANTS__ACME__VENDOR_TOKEN_ENV", "TOKEN".to_owned()),
    ];
    if is_signing {
        settings.push(("TENANTS__ACME__CALLBACK_SECRET_ENV", "SECRET".to_owned()));
    }
    let settings = settings.into_iter().map(|(key, value)| (format!("GATEWAY_{key}"), value));
    config::load(None, settings).unwrap()
}

/// Lets a deliverer, whose clock is ahead of the clock of the store, take one step. Returns when its attempts have ended.
async fn deliver(harness: &Harness, ahead: Duration, is_signing: bool, renderings: Arc<MemoryBudget>) {
    let settings = settings(is_signing);
    let variables = |name: &str| match name {
        "SECRET" => Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
        _ => Some("vendor-token-of-acme".to_owned()),
    };
    let clock = Arc::new(ManualClock::starting_at(harness.now() + ahead));
    let env = Env {
        clock: clock.clone(),
        wall_clock: clock,
        entropy: Arc::new(SystemEntropy),
        encryption: Arc::default(),
        metrics: Arc::new(Metrics::new().unwrap()),
        public_url: PublicUrl::default(),
    };
    let network = Network::new(&NetworkSettings::default()).unwrap();
    let deliverer = Deliverer::new(
        &settings.callbacks,
        env.clone(),
        harness.store.clone(),
        (Sender::new(&settings.callbacks, &network).unwrap(), Arc::new(Receivers::default())),
        Arc::new(app::tenants(&settings, &variables).unwrap()),
        renderings,
        (Wake::default(), OutcomeWriter::new(env, CancellationToken::new())),
    );
    let tasks = TaskTracker::new();
    Arc::new(deliverer).run_once(&tasks).await.unwrap();
    tasks.close();
    tasks.wait().await;
}

fn renderings() -> Arc<MemoryBudget> {
    let metrics = Arc::new(Metrics::new().unwrap());
    Arc::new(MemoryBudget::new(("renderings", RENDERINGS), metrics, [&acme()]))
}

fn with_transform(call: &str, on_unknown: OnUnknown) -> Submission {
    let mut submission = with_callback(call, A);
    submission.callback.as_mut().unwrap().transform = Some(Transform {
        preset: Some("markdown".to_owned()),
        on_unknown: Some(on_unknown),
        ..Transform::default()
    });
    submission
}

/// The attempts of the only delivery of a call.
async fn attempts(harness: &Harness, call: &str) -> Vec<RecordedAttempt> {
    let deliveries = deliveries_of_call(&*harness.store, &acme(), &call_id(call)).await;
    attempts_of(&*harness.store, &acme(), deliveries[0].id).await
}

pub(crate) async fn a_postponed_delivery_has_no_attempt_and_ends_its_lease(harness: Harness) {
    harness.announce("1", &[A]).await;
    let claimed = harness.claim_delivery().await;
    let due = harness.now() + Duration::from_secs(60);
    harness.store.postpone_delivery(claimed.lease, due).await.unwrap();
    let again = harness.store.postpone_delivery(claimed.lease, due).await;
    assert!(matches!(again, Err(StoreError::LeaseLost)), "{again:?}");
    let late = harness.store.finish_attempt(claimed.lease, delivered()).await;
    assert!(matches!(late, Err(StoreError::LeaseLost)), "{late:?}");
    assert_eq!(harness.deliveries("1").await, [("pending".to_owned(), 0)]);
    assert_eq!(harness.rows.count("attempts").await, 0);
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 0);
    harness.advance(60);
    let claimed = harness.claim_delivery().await;
    assert_eq!((claimed.delivery.attempts, claimed.delivery.attempts_of_round()), (1, 1));
    harness.store.finish_attempt(claimed.lease, delivered()).await.unwrap();
    assert_eq!(harness.deliveries("1").await, [("delivered".to_owned(), 1)]);
}

pub(crate) async fn a_delivery_is_postponed_if_its_lease_ends_before_the_deadline(harness: Harness) {
    harness.announce("1", &[A]).await;
    deliver(&harness, LEASE, true, renderings()).await;
    // The delivery was due before the step.
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 0);
    assert_eq!(harness.deliveries("1").await, [("pending".to_owned(), 0)]);
    assert_eq!(harness.rows.count("attempts").await, 0);
}

pub(crate) async fn a_delivery_is_postponed_if_other_renderings_leave_no_permit(harness: Harness) {
    harness.complete(with_transform("1", OnUnknown::GiveUp), "salom").await;
    let renderings = renderings();
    let held = renderings.try_take(Some(&acme()), 2 * RENDERING).unwrap();
    deliver(&harness, Duration::ZERO, true, renderings).await;
    drop(held);
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 0);
    assert_eq!(harness.deliveries("1").await, [("pending".to_owned(), 0)]);
    assert_eq!(harness.rows.count("attempts").await, 0);
    harness.advance(60);
    let claimed = harness.claim_delivery().await;
    assert_eq!((claimed.delivery.attempts, claimed.follows_unknown), (1, false));
}

pub(crate) async fn an_unknown_outcome_is_examined_before_the_credentials(harness: Harness) {
    harness.complete(with_transform("1", OnUnknown::GiveUp), "salom").await;
    // The process of the first attempt ends without an outcome.
    harness.claim_delivery().await;
    harness.advance(LEASE.as_secs() + 1);
    deliver(&harness, Duration::ZERO, false, renderings()).await;
    assert_eq!(harness.deliveries("1").await, [("failed".to_owned(), 2)]);
    let outcomes: Vec<_> = attempts(&harness, "1").await.into_iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [None, Some("unknown".to_owned())]);
}
