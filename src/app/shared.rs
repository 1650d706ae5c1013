//! The parts of the house, each built once from the settings.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{StartError, Variables, encryption, series, tenants};
use crate::alovoice::{VendorClient, VendorPermits};
use crate::analyses::{Analyses, Feed, Webhooks};
use crate::auth::Verifier;
use crate::callbacks::Sender;
use crate::config::{Settings, StoreSettings, StoreUrl};
use crate::domain::clock::{Clock, SteadyClock, SystemClock, SystemEntropy};
use crate::domain::retries::RetrySchedule;
use crate::env::Env;
use crate::http::audit::Operations;
use crate::http::idempotency::KeyedRequests;
use crate::http::rate_limits::RateLimits;
use crate::http::state::ApiState;
use crate::secrets::Encryption;
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{KeyTerms, Queue, Store, Surroundings};
use crate::telemetry::Telemetry;
use crate::telemetry::spans::CollectorHeaders;
use crate::tenants::Tenants;
use crate::workers::{
    ClockKeeper, Deliverer, KeyRefresher, Post, Replayer, Retention, SecretRefresher, VendorWorker, Wake,
    Wakes,
};

/// How long requests are remembered by their `Idempotency-Key`, if `store.retention` is not shorter.
const KEYS_KEPT_FOR: Duration = Duration::from_hours(24);
/// More than the store perseveres before it says that it cannot be used.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

/// What several parts of the house use, built once.
pub(super) struct Shared {
    pub(super) env: Env,
    /// The clock of schedules and leases, to be set.
    steady: Arc<SteadyClock>,
    tenants: Arc<Tenants>,
    encryption: Arc<Encryption>,
    collector_headers: Arc<CollectorHeaders>,
    vendor: Arc<VendorClient>,
    pub(super) vendor_permits: Arc<VendorPermits>,
    pub(super) store: Arc<dyn Store>,
}

impl Shared {
    pub(super) async fn build(
        settings: &Settings,
        variables: Variables<'_>,
        telemetry: &Telemetry,
    ) -> Result<Self, StartError> {
        let steady = Arc::new(SteadyClock::starting_at(SystemClock.now()));
        let env = Env {
            clock: steady.clone(),
            wall_clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            metrics: telemetry.metrics.clone(),
        };
        let tenants = Arc::new(tenants(settings, variables)?);
        series::begin(&env.metrics, &tenants);
        let encryption = Arc::new(encryption(settings)?);
        let vendor = VendorClient::new(&settings.vendor, env.clone())
            .map_err(StartError::part("the vendor's client"))?;
        let limits = tenants.all().map(|tenant| (tenant.id().clone(), tenant.max_concurrency()));
        let policy = settings.vendor.polling.clone();
        let vendor_permits = Arc::new(VendorPermits::new(limits, &policy, &env));
        let Env { clock, entropy, metrics, .. } = env.clone();
        let surroundings = Surroundings { clock, entropy, policy, metrics };
        let store = open(&settings.store, surroundings, steady.clone()).await?;
        Ok(Self {
            env,
            steady,
            tenants,
            encryption,
            collector_headers: telemetry.collector_headers.clone(),
            vendor: Arc::new(vendor),
            vendor_permits,
            store,
        })
    }

    pub(super) fn analyses(&self, settings: &Settings, draining: &CancellationToken) -> Analyses {
        let vendor = (self.vendor.clone(), self.vendor_permits.clone());
        Analyses::new(settings, self.env.clone(), self.store.clone(), vendor, draining.clone())
    }

    pub(super) fn feed(&self, settings: &Settings, draining: &CancellationToken) -> Feed {
        Feed::new(&settings.events, self.env.clone(), self.store.clone(), draining.clone())
    }

    fn webhooks(&self, settings: &Settings) -> Webhooks {
        Webhooks::new(&settings.callbacks, self.env.clone(), self.store.clone(), self.encryption.clone())
    }

    /// Every worker, with what wakes it.
    pub(super) fn crew(
        &self,
        settings: &Settings,
        verifier: &Arc<Verifier>,
        wakes: &Wakes,
    ) -> Result<Vec<Post>, StartError> {
        let submitter = self.vendor_worker(Queue::Submits, settings);
        let poller = self.vendor_worker(Queue::Polls, settings);
        let deliverer = self.deliverer(settings, &wakes.deliverer)?;
        let secrets = SecretRefresher {
            secrets: Arc::new(
                [
                    self.tenants.secrets(),
                    self.encryption.secrets(),
                    self.collector_headers.secrets(),
                    verifier.secrets(),
                ]
                .concat(),
            ),
            env: self.env.clone(),
        };
        let retention = Retention {
            store: self.store.clone(),
            period: settings.store.retention,
            clock: self.env.clock.clone(),
        };
        let keys = Arc::new(KeyRefresher { verifier: verifier.clone() });
        let post = |worker, wake: Wake| Post { worker, wake, clock: self.env.clock.clone() };
        let mut posts = vec![
            post(Arc::new(submitter), wakes.submitter.clone()),
            post(Arc::new(poller), wakes.poller.clone()),
            post(Arc::new(deliverer), wakes.deliverer.clone()),
            post(Arc::new(Replayer { store: self.store.clone() }), wakes.replayer.clone()),
            post(Arc::new(secrets), Wake::default()),
            post(Arc::new(retention), Wake::default()),
            Post { worker: keys, wake: Wake::default(), clock: self.env.wall_clock.clone() },
        ];
        if matches!(settings.store.url, StoreUrl::Sqlite(_)) {
            let (steady, wall) = (self.steady.clone(), self.env.wall_clock.clone());
            posts.push(post(Arc::new(ClockKeeper { steady, wall }), Wake::default()));
        }
        Ok(posts)
    }

    fn vendor_worker(&self, queue: Queue, settings: &Settings) -> VendorWorker {
        VendorWorker {
            queue,
            store: self.store.clone(),
            vendor: self.vendor.clone(),
            permits: self.vendor_permits.clone(),
            tenants: self.tenants.clone(),
            request_timeout: settings.vendor.request_timeout,
            env: self.env.clone(),
        }
    }

    fn deliverer(&self, settings: &Settings, wake: &Wake) -> Result<Deliverer, StartError> {
        Ok(Deliverer {
            store: self.store.clone(),
            sender: Sender::new(&settings.callbacks).map_err(StartError::part("the callbacks' client"))?,
            schedule: RetrySchedule::new(settings.callbacks.retry_schedule.clone()),
            tenants: self.tenants.clone(),
            encryption: self.encryption.clone(),
            timeout: settings.callbacks.timeout,
            busy: Mutex::default(),
            wake: wake.clone(),
            env: self.env.clone(),
        })
    }

    fn keyed_requests(&self, settings: &Settings, tasks: &TaskTracker) -> KeyedRequests {
        let longest = settings.vendor.request_timeout.max(settings.callbacks.timeout).max(STORE_PATIENCE);
        KeyedRequests {
            store: self.store.clone(),
            encryption: self.encryption.clone(),
            entropy: self.env.entropy.clone(),
            terms: KeyTerms {
                lease: longest * 2,
                // What an answer tells of goes when its retention ends, and not later.
                kept_for: KEYS_KEPT_FOR.min(settings.store.retention),
            },
            tasks: tasks.clone(),
            runtime: Handle::current(),
        }
    }

    pub(super) fn state(
        &self,
        settings: &Settings,
        analyses: &Arc<Analyses>,
        feed: &Arc<Feed>,
        verifier: Arc<Verifier>,
        keyed: &TaskTracker,
    ) -> ApiState {
        let limits = self.tenants.all().map(|tenant| (tenant.id().clone(), tenant.rate_limit()));
        ApiState {
            analyses: analyses.clone(),
            feed: feed.clone(),
            webhooks: self.webhooks(settings),
            verifier,
            limits: RateLimits::new(limits),
            operations: Operations::documented(),
            keyed: Arc::new(self.keyed_requests(settings, keyed)),
            tenants: self.tenants.clone(),
            encryption: self.encryption.clone(),
            public_url: settings.server.public_url.clone(),
            store: self.store.clone(),
            max_body_bytes: settings.server.max_body_bytes,
            body_timeout: settings.server.body_timeout,
            env: self.env.clone(),
        }
    }
}

/// The store that `store.url` names. Replicas on one server go by its clock.
async fn open(
    settings: &StoreSettings,
    surroundings: Surroundings,
    clock: Arc<SteadyClock>,
) -> Result<Arc<dyn Store>, StartError> {
    Ok(match &settings.url {
        StoreUrl::Sqlite(path) => Arc::new(SqliteStore::open(path, surroundings)?),
        StoreUrl::Postgres(url) => {
            let follow = move |now| clock.set(now);
            Arc::new(PostgresStore::open(url, settings, surroundings, follow).await?)
        }
    })
}
