//! The composition root: builds every component once, in the order of [`start`], and runs the gateway.
//!
//! [`Gateway::drain`] shuts down in this order:
//! 1. Readiness is switched off, workers claim no more work, and waiting requests are answered early.
//! 2. After `server.shutdown_delay`, the API server accepts no more requests.
//! 3. Requests and work in progress finish within the grace period.
//! 4. The leases are released, and then the admin port closes.

mod clocks;
mod gateway;
mod key_refreshes;
mod series;
mod servers;
mod start_error;
mod store;

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use tokio::runtime::Handle;
use tracing::field::display;

pub use self::gateway::Gateway;
use self::gateway::Tasks;
use self::servers::{serve_admin, serve_api};
pub use self::start_error::StartError;
pub use self::store::attach;
use crate::alovoice::{VendorClient, VendorPermits};
use crate::analyses::{Analyses, Feed, MemoryBudget, Prober, RENDERINGS, Webhooks};
use crate::auth::Verifier;
use crate::callbacks::Sender;
use crate::config::{NetworkSettings, Settings, SettingsProblems, StoreUrl};
use crate::domain::clock::{Clock, SteadyClock, SystemClock, SystemEntropy};
use crate::domain::public_url::PublicUrl;
use crate::domain::receivers::Receivers;
use crate::env::Env;
use crate::http::admin::Readiness;
use crate::http::answer_body::SMALL_ANSWERS;
use crate::http::audio::RECORDINGS;
use crate::http::body::{SMALL_BODIES, large_bodies};
use crate::http::connection::WRITE_BUFFERS;
use crate::http::connection_limits::ConnectionLimits;
use crate::http::idempotency::KeyedRequests;
use crate::http::rate_limits::RateLimits;
use crate::http::refusals::RefusalLog;
use crate::http::state::ApiState;
use crate::http_client::Network;
use crate::secrets::Encryption;
use crate::store::{KeyTerms, Queue};
use crate::telemetry::Telemetry;
use crate::tenants::{DefaultLimits, Tenants};
use crate::workers::{
    self, AttributeIndexer, Deliverer, KeyRefresher, OutcomeWriter, Replayer, Retention, SecretRefresher,
    TokenWatcher, VendorWorker, Wake, Wakes, Worker,
};

/// Duration for which an `Idempotency-Key` is remembered, unless `store.retention` is shorter.
const KEY_RETENTION: Duration = Duration::from_hours(24);
/// Time for which a component waits for the store. This time exceeds the time for which the store retries an operation.
const STORE_PATIENCE: Duration = Duration::from_secs(20);
/// Size of the memory budget of answers in bytes. This budget suffices for four reads of the largest page of events.
const ANSWERS: usize = 32 << 20;

/// Function that looks up an environment variable.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Loads the tenants of the settings with their secrets.
///
/// # Errors
/// [`SettingsProblems`] lists every secret that cannot be used.
pub fn tenants(settings: &Settings, variables: Variables<'_>) -> Result<Tenants, SettingsProblems> {
    let defaults = DefaultLimits {
        max_concurrency: settings.vendor.max_concurrency,
        rate_limit: settings.rate_limit.clone(),
    };
    Tenants::load(&settings.tenants, &defaults, variables)
}

/// Builds every component, opens the store and listens. Returns when the gateway is ready.
///
/// # Errors
/// [`StartError`] for the first component that cannot be built.
pub async fn start(
    settings: &Settings,
    variables: Variables<'_>,
    network: &Network,
    telemetry: Telemetry,
) -> Result<Gateway, StartError> {
    let steady_clock = Arc::new(SteadyClock::starting_at(SystemClock.now()));
    let env = Env {
        clock: steady_clock.clone(),
        wall_clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        encryption: Arc::new(Encryption::load(&settings.encryption)?),
        metrics: telemetry.metrics.clone(),
        public_url: PublicUrl::new(settings.server.public_url.as_ref()),
    };

    let tenants = Arc::new(tenants(settings, variables)?);
    series::create_series(&env.metrics, &tenants);
    tracing::info!(tenants = tenants.all().count(), "secrets loaded");

    let verifier = Arc::new(Verifier::new(
        &settings.auth,
        network,
        env.wall_clock.clone(),
        key_refreshes::observer(&env.metrics),
    )?);
    tracing::info!(issuers = settings.auth.issuers.len(), "token verifier built");

    let vendor = VendorClient::new(&settings.vendor, network, env.clone());
    let vendor = Arc::new(vendor.map_err(StartError::part("the vendor's client"))?);
    let limits = tenants.all().map(|tenant| (tenant.id().clone(), tenant.max_concurrency()));
    let vendor_permits = Arc::new(VendorPermits::new(limits, &settings.vendor.polling, &env));
    let sender =
        Sender::new(&settings.callbacks, network).map_err(StartError::part("the callbacks' client"))?;
    log_network(settings, network);
    tracing::info!(vendor_host = settings.vendor.base_url.host_str(), "HTTP clients built");

    let server_clock = Arc::new(SteadyClock::starting_at(SystemClock.now()));
    let store = store::open(settings, &env, server_clock.clone()).await?;
    let engine = if is_sqlite(settings) { "sqlite" } else { "postgresql" };
    tracing::info!(engine, "store opened");

    let clocks = (steady_clock, server_clock);
    let (clock_keeper, clock_status) =
        clocks::keep(settings, clocks, vendor.clone(), store.clone(), &env).await?;
    tracing::info!(now = %env.clock.now(), "clock started");

    let tasks = Tasks::default();
    let tenant_ids = || tenants.all().map(|tenant| tenant.id());
    let budget = |resource, bytes| MemoryBudget::new((resource, bytes), env.metrics.clone(), tenant_ids());
    let answers = Arc::new(budget("answers", ANSWERS));
    let renderings = Arc::new(budget("renderings", RENDERINGS));
    let prober = Arc::new(Prober::new(&settings.vendor, env.clone(), store.clone(), vendor.clone()));
    let vendor_access = (vendor.clone(), vendor_permits.clone(), prober.clone());
    let draining = &tasks.draining;
    let budgets = (answers.clone(), renderings.clone());
    let analyses =
        Analyses::new(settings, env.clone(), store.clone(), budgets, vendor_access, draining.clone());
    let analyses = Arc::new(analyses);
    let feed =
        Arc::new(Feed::new(&settings.events, env.clone(), store.clone(), answers.clone(), draining.clone()));
    let receivers = Arc::new(Receivers::default());
    let shared = (receivers.clone(), renderings.clone());
    let webhooks = Webhooks::new(&settings.callbacks, env.clone(), store.clone(), shared);

    // The subscription begins before any component can change the store, because a missed change would leave a stale answer in
    // the cache.
    let wakes = Wakes::default();
    let stopping = &tasks.stopping;
    tasks.background.spawn(wakes.clone().follow(store.changes(), vendor_permits.clone(), stopping.clone()));
    tasks.background.spawn(feed.clone().follow_changes(store.changes(), stopping.clone()));
    tasks.background.spawn(analyses.clone().follow_changes(store.changes(), stopping.clone()));

    let longest_request = settings.vendor.request_timeout.max(settings.callbacks.timeout).max(STORE_PATIENCE);
    let keyed = KeyedRequests {
        store: store.clone(),
        encryption: env.encryption.clone(),
        entropy: env.entropy.clone(),
        terms: KeyTerms {
            lease: longest_request * 2,
            // A stored answer must not outlive the data that it contains.
            kept_for: KEY_RETENTION.min(settings.store.retention),
        },
        tasks: tasks.keyed_requests.clone(),
        runtime: Handle::current(),
    };
    let rate_limits = tenants.all().map(|tenant| (tenant.id().clone(), tenant.rate_limit()));
    let state = web::Data::new(ApiState {
        audit: telemetry.audit.clone(),
        analyses,
        feed,
        webhooks,
        verifier: verifier.clone(),
        limits: RateLimits::new(rate_limits),
        refusals: RefusalLog::new(env.clock.clone()),
        keyed: Arc::new(keyed),
        tenants: tenants.clone(),
        store: store.clone(),
        clock_status: clock_status.clone(),
        connections: ConnectionLimits::new(settings.server.max_connections, tenant_ids()),
        small_bodies: budget("small_bodies", SMALL_BODIES),
        large_bodies: budget("large_bodies", large_bodies(settings.server.max_body_bytes)),
        small_answers: budget("small_answers", SMALL_ANSWERS),
        answers,
        recordings: budget("recordings", RECORDINGS),
        write_buffers: Arc::new(budget("write_buffers", WRITE_BUFFERS)),
        max_body_bytes: settings.server.max_body_bytes,
        body_timeout: settings.server.body_timeout,
        env: env.clone(),
    });
    let readiness = Readiness::default();
    let (api_server, api) = serve_api(settings, &state, &tasks.draining, &tasks.background)?;
    tracing::info!(%api, "API server listening");
    let (admin_server, admin) = serve_admin(settings, &state, &readiness, &tasks.background)?;
    tracing::info!(%admin, "admin server listening");

    let outcomes = OutcomeWriter::new(env.clone(), tasks.grace_over.clone());
    let token_watcher = Arc::new(TokenWatcher::new(
        tenants.clone(),
        store.clone(),
        vendor_permits.clone(),
        wakes.token_watcher.clone(),
    ));
    let submitter = VendorWorker {
        queue: Queue::Submits,
        store: store.clone(),
        vendor,
        prober,
        permits: vendor_permits.clone(),
        tenants: tenants.clone(),
        polling: settings.vendor.polling.clone(),
        request_timeout: settings.vendor.request_timeout,
        token_watcher: token_watcher.clone(),
        outcomes: outcomes.clone(),
        env: env.clone(),
    };
    let poller = VendorWorker { queue: Queue::Polls, ..submitter.clone() };
    let deliverer = Deliverer::new(
        &settings.callbacks,
        env.clone(),
        store.clone(),
        (sender, receivers),
        tenants.clone(),
        renderings,
        (wakes.deliverer.clone(), outcomes),
    );
    let secrets = SecretRefresher {
        secrets: Arc::new(
            [
                tenants.secrets(),
                env.encryption.secrets(),
                verifier.secrets(),
                telemetry.collector_headers.secrets(),
                network.secrets(),
            ]
            .concat(),
        ),
        token_watcher: wakes.token_watcher.clone(),
        env: env.clone(),
    };
    let retention = Retention {
        store: store.clone(),
        period: settings.store.retention,
        clock: env.clock.clone(),
        clock_status,
    };
    let run = |worker: Arc<dyn Worker>, wake: Wake| {
        let (work, draining) = (tasks.work.clone(), tasks.draining.clone());
        tasks.workers.spawn(workers::run(worker, wake, env.clock.clone(), work, draining));
    };
    run(Arc::new(submitter), wakes.submitter);
    run(Arc::new(poller), wakes.poller);
    run(Arc::new(deliverer), wakes.deliverer);
    run(Arc::new(Replayer { store: store.clone() }), wakes.replayer);
    run(Arc::new(AttributeIndexer { store: store.clone() }), Wake::default());
    run(Arc::new(secrets), Wake::default());
    run(token_watcher, wakes.token_watcher);
    run(Arc::new(KeyRefresher { verifier, env: env.clone() }), Wake::default());
    run(Arc::new(retention), Wake::default());
    run(Arc::new(clock_keeper), wakes.clock_keeper);
    tracing::info!(workers = tasks.workers.len(), "workers started");

    readiness.set(true);
    tracing::info!(%api, %admin, "ready");
    Ok(Gateway {
        api,
        admin,
        api_server,
        admin_server,
        readiness,
        tasks,
        store,
        telemetry,
        grace: settings.server.shutdown_grace,
        delay: settings.server.shutdown_delay,
    })
}

/// Logs the proxies in use, and settings that make connections less secure.
fn log_network(settings: &Settings, network: &Network) {
    let NetworkSettings { https_proxy, http_proxy, .. } = &settings.network;
    if https_proxy.is_some() || http_proxy.is_some() {
        let (https_proxy, http_proxy) = (https_proxy.as_ref().map(display), http_proxy.as_ref().map(display));
        let proxy_callbacks = settings.network.proxy_callbacks;
        tracing::info!(https_proxy, http_proxy, proxy_callbacks, "forward proxy in use");
    }
    for warning in network.warnings() {
        tracing::warn!(warning, "certificate authority skipped");
    }
    if settings.vendor.exposes_tokens() {
        tracing::warn!("vendor tokens are sent without TLS: vendor.base_url is not https");
    }
}

const fn is_sqlite(settings: &Settings) -> bool {
    matches!(settings.store.url, StoreUrl::Sqlite(_))
}
