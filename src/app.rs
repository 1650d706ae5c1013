//! The composition root: builds everything once, runs it, and takes it down in order.
//!
//! Down means: not ready at once, no new work claimed, waits ended early; then requests and work under way finish
//! within the grace period; then leases are given back; and the admin port is the last to go.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::analyses::{Analyses, Parts};
use crate::auth::{Refresh, RefreshOutcome, Verifier, VerifierError};
use crate::callbacks::{Guard, Sender};
use crate::config::{Problems, Settings, StoreUrl};
use crate::domain::clock::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::domain::retries::RetrySchedule;
use crate::http::admin::{self, Readiness};
use crate::http::observe::observe;
use crate::http::state::{ApiState, RateLimits};
use crate::metrics::Metrics;
use crate::store::sqlite::{OpenError, SqliteStore};
use crate::store::{Queue, Store, Surroundings};
use crate::tenants::{DefaultLimits, Tenants};
use crate::vendor::{VendorClient, VendorSlots};
use crate::workers::{self, Deliverer, KeyRefresher, SecretRefresher, VendorWorker, Wake, Wakes, Worker};

/// How long a client may take for a request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long an idle connection is kept; longer than the idle time-outs of ingresses (60 s), so that they close first.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Of the grace period, what is kept for giving leases back and closing the store.
const CLOSING_SHARE: Duration = Duration::from_secs(1);

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings name something that is not there or not usable.
    #[error(transparent)]
    Settings(#[from] Problems),
    /// A key file of an issuer cannot be used.
    #[error(transparent)]
    Issuers(#[from] VerifierError),
    /// The store cannot be opened.
    #[error("store: {0}")]
    Store(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A part could not be built: TLS without root certificates, say.
    #[error("cannot build {part}: {source}")]
    Part {
        /// Which.
        part: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StartError {
    /// Whether the settings are at fault, rather than the moment.
    pub const fn is_of_settings(&self) -> bool {
        matches!(self, Self::Settings(_) | Self::Issuers(_))
    }

    fn part<E: Into<Box<dyn std::error::Error + Send + Sync>>>(part: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Part { part, source: source.into() }
    }
}

/// A running gateway.
pub struct Gateway {
    api: Url,
    admin: Url,
    readiness: Readiness,
    draining: CancellationToken,
    stopping: CancellationToken,
    api_server: ServerHandle,
    admin_server: ServerHandle,
    work: TaskTracker,
    loops: TaskTracker,
    store: Arc<dyn Store>,
    grace: Duration,
}

/// Looks up an environment variable.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The tenants of the settings, with their secrets.
///
/// # Errors
/// If a secret cannot be read.
pub fn tenants(settings: &Settings, variables: Variables<'_>) -> Result<Tenants, Problems> {
    let defaults = DefaultLimits {
        max_concurrency: settings.vendor.max_concurrency,
        rate_limit: settings.rate_limit.clone(),
    };
    Tenants::load(&settings.tenants, &defaults, variables)
}

/// Builds everything, opens the store and listens. Returns when requests are answered.
///
/// # Errors
/// [`StartError`] says what stood in the way.
pub async fn start(settings: &Settings, variables: Variables<'_>) -> Result<Gateway, StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let metrics = Arc::new(Metrics::new().map_err(StartError::part("the metrics"))?);
    let tenants = Arc::new(tenants(settings, variables)?);
    let verifier = Verifier::new(&settings.auth, Arc::clone(&clock), refresh_observer(&metrics))?;
    let verifier = Arc::new(verifier);
    let vendor =
        VendorClient::new(&settings.vendor, Arc::clone(&clock), Arc::clone(&entropy), Arc::clone(&metrics))
            .map_err(StartError::part("the vendor's client"))?;
    let vendor = Arc::new(vendor);
    let slots = tenants.ids().filter_map(|id| Some((id.clone(), tenants.get(id)?.max_concurrency())));
    let vendor_slots = Arc::new(VendorSlots::new(slots));
    let sender = Sender::new(&settings.callbacks).map_err(StartError::part("the callbacks' client"))?;

    let surroundings = Surroundings {
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        policy: settings.vendor.polling.clone(),
    };
    let StoreUrl::Sqlite(path) = &settings.store.url;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(path, surroundings)?);

    let (draining, stopping) = (CancellationToken::new(), CancellationToken::new());
    let parts = Parts {
        store: Arc::clone(&store),
        vendor: Arc::clone(&vendor),
        vendor_slots: Arc::clone(&vendor_slots),
        guard: Arc::new(Guard::new(&settings.callbacks)),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&metrics),
        draining: draining.clone(),
    };
    let analyses = Arc::new(Analyses::new(parts, &settings.cache));

    let (wakes, work, loops) = (Wakes::default(), TaskTracker::new(), TaskTracker::new());
    let vendor_worker = |queue, wake: &Wake| VendorWorker {
        queue,
        store: Arc::clone(&store),
        vendor: Arc::clone(&vendor),
        slots: Arc::clone(&vendor_slots),
        tenants: Arc::clone(&tenants),
        request_timeout: settings.vendor.request_timeout,
        wake: wake.clone(),
        metrics: Arc::clone(&metrics),
    };
    let deliverer = Deliverer {
        store: Arc::clone(&store),
        sender,
        schedule: RetrySchedule::new(settings.callbacks.retry_schedule.clone()),
        tenants: Arc::clone(&tenants),
        timeout: settings.callbacks.timeout,
        busy: Mutex::default(),
        wake: wakes.deliverer.clone(),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        metrics: Arc::clone(&metrics),
    };
    let secret_refresher = SecretRefresher {
        tenants: Arc::clone(&tenants),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&metrics),
    };
    let crew: [(Arc<dyn Worker>, Wake); 5] = [
        (Arc::new(vendor_worker(Queue::Submits, &wakes.submitter)), wakes.submitter.clone()),
        (Arc::new(vendor_worker(Queue::Polls, &wakes.poller)), wakes.poller.clone()),
        (Arc::new(deliverer), wakes.deliverer.clone()),
        (Arc::new(KeyRefresher { verifier: Arc::clone(&verifier) }), Wake::default()),
        (Arc::new(secret_refresher), Wake::default()),
    ];

    let limits = tenants.ids().filter_map(|id| tenants.get(id)).collect::<Vec<_>>();
    let limits = RateLimits::new(limits.iter().map(|tenant| (tenant.id().clone(), tenant.rate_limit())));
    let state = web::Data::new(ApiState {
        analyses: Arc::clone(&analyses),
        verifier,
        tenants,
        limits,
        store: Arc::clone(&store),
        max_body_bytes: settings.server.max_body_bytes,
        clock: Arc::clone(&clock),
        entropy,
        metrics,
    });
    let readiness = Readiness::default();
    let (api_server, api) = serve_api(settings, &state, &loops)?;
    let (admin_server, admin) = serve_admin(settings, &state, &readiness, &loops)?;

    // Those who listen for changes begin before those who make them.
    loops.spawn(wakes.follow(Arc::clone(&store), stopping.clone()));
    let follower = Arc::clone(&analyses);
    let until = stopping.clone();
    loops.spawn(async move { follower.follow_changes(until).await });
    for (worker, wake) in crew {
        loops.spawn(workers::run(worker, wake, Arc::clone(&clock), work.clone(), draining.clone()));
    }
    readiness.set(true);
    tracing::info!(%api, %admin, "ready");
    let grace = settings.server.shutdown_grace;
    Ok(Gateway {
        api,
        admin,
        readiness,
        draining,
        stopping,
        api_server,
        admin_server,
        work,
        loops,
        store,
        grace,
    })
}

impl Gateway {
    /// Where the API is.
    pub const fn api(&self) -> &Url {
        &self.api
    }

    /// Where metrics and probes are.
    pub const fn admin(&self) -> &Url {
        &self.admin
    }

    /// The store, for tests and tools that look on.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Stops in order; whether everything under way was finished within the grace period.
    pub async fn drain(self) -> bool {
        tracing::info!("draining");
        self.readiness.set(false);
        self.draining.cancel();
        self.work.close();
        self.loops.close();
        let finished = async {
            tokio::join!(self.api_server.stop(true), self.work.wait());
        };
        let patience = self.grace.saturating_sub(CLOSING_SHARE);
        let in_time = tokio::time::timeout(patience, finished).await.is_ok();
        if !in_time {
            tracing::warn!("the grace period ended before the work did");
            self.api_server.stop(false).await;
        }
        if let Err(error) = self.store.release_across_tenants().await {
            tracing::error!(%error, "leases could not be given back; they will run out");
        }
        self.stopping.cancel();
        self.admin_server.stop(true).await;
        self.loops.wait().await;
        tracing::info!("stopped");
        in_time
    }
}

fn refresh_observer(metrics: &Arc<Metrics>) -> impl Fn(&Refresh) + Send + Sync + 'static {
    let metrics = Arc::clone(metrics);
    move |refresh: &Refresh| {
        let outcome = match &refresh.outcome {
            RefreshOutcome::Updated => {
                tracing::info!(issuer = refresh.issuer, "an issuer's keys changed");
                "updated"
            }
            RefreshOutcome::Unchanged => "unchanged",
            RefreshOutcome::Failed(error) => {
                tracing::error!(issuer = refresh.issuer, %error, "an issuer's keys cannot be had");
                "failed"
            }
        };
        metrics.jwks_refreshes.with_label_values(&[outcome]).inc();
    }
}

fn serve_api(
    settings: &Settings,
    state: &web::Data<ApiState>,
    loops: &TaskTracker,
) -> Result<(ServerHandle, Url), StartError> {
    let (address, public_url) = (settings.server.listen, settings.server.public_url.clone());
    let state = state.clone();
    let server = HttpServer::new(move || {
        let public_url = public_url.clone();
        App::new()
            .app_data(state.clone())
            .wrap(from_fn(observe))
            .configure(move |config| crate::http::configure(config, public_url.as_ref()))
    })
    .client_request_timeout(HEAD_PATIENCE)
    .keep_alive(KEEP_ALIVE)
    .shutdown_timeout(settings.server.shutdown_grace.as_secs())
    .disable_signals()
    .bind(address)
    .map_err(|source| StartError::Listen { address, source })?;
    let url = url_of(&server.addrs());
    let server = server.run();
    let handle = server.handle();
    loops.spawn(log_end(server));
    Ok((handle, url))
}

fn serve_admin(
    settings: &Settings,
    state: &web::Data<ApiState>,
    readiness: &Readiness,
    loops: &TaskTracker,
) -> Result<(ServerHandle, Url), StartError> {
    let address = settings.server.admin_listen;
    let (state, readiness) = (state.clone(), web::Data::new(readiness.clone()));
    let server = HttpServer::new(move || {
        App::new().app_data(state.clone()).app_data(readiness.clone()).configure(admin::configure)
    })
    .workers(1)
    .shutdown_timeout(1)
    .disable_signals()
    .bind(address)
    .map_err(|source| StartError::Listen { address, source })?;
    let url = url_of(&server.addrs());
    let server = server.run();
    let handle = server.handle();
    loops.spawn(log_end(server));
    Ok((handle, url))
}

async fn log_end(server: actix_web::dev::Server) {
    if let Err(error) = server.await {
        tracing::error!(%error, "a server failed");
    }
}

/// Where a server that was just bound is to be found from this machine.
fn url_of(addresses: &[SocketAddr]) -> Url {
    let mut url = Url::parse("http://127.0.0.1").unwrap_or_else(|_| unreachable!("a constant"));
    if let Some(address) = addresses.first() {
        if !address.ip().is_unspecified() {
            let _ = url.set_ip_host(address.ip());
        }
        let _ = url.set_port(Some(address.port()));
    }
    url
}
