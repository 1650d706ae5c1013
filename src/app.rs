//! The composition root: builds everything once, runs it, and takes it down in order.
//!
//! Down means: not ready at once, no new work claimed, waits ended early; requests are still taken for a while, until
//! whoever sends them has learned of it; then requests and work under way finish within the grace period; then leases
//! are given back; and the admin port is the last to go.

mod attach;
mod series;
mod servers;
mod shared;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::web;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

pub use self::attach::attach;
use self::servers::{serve_admin, serve_api};
use self::shared::Shared;
use crate::auth::{Refresh, RefreshOutcome, Verifier};
use crate::config::{Settings, SettingsProblems};
use crate::http::admin::Readiness;
use crate::secrets::Encryption;
use crate::store::Store;
use crate::store::{postgres, sqlite};
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::CollectorHeaders;
use crate::tenants::{DefaultLimits, Tenants};
use crate::workers::{self, Wakes};

/// Of the grace period, what is kept for giving leases back and closing the store.
const CLOSING_SHARE: Duration = Duration::from_secs(1);
/// The longest that a collector of traces holds up the end.
const FLUSH_PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks whether the store is in use.
const RELEASE_PAUSE: Duration = Duration::from_millis(1);

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings name something that is not there or not usable.
    #[error(transparent)]
    Settings(#[from] SettingsProblems),
    /// The store's file cannot be opened.
    #[error("store: {0}")]
    File(#[from] sqlite::OpenError),
    /// The store's server cannot be used.
    #[error("store: {0}")]
    Server(#[from] postgres::OpenError),
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
        matches!(self, Self::Settings(_) | Self::Server(postgres::OpenError::Settings(_)))
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
    crew: TaskTracker,
    work: TaskTracker,
    loops: TaskTracker,
    /// Requests that go on without their callers.
    keyed: TaskTracker,
    store: Arc<dyn Store>,
    telemetry: Telemetry,
    grace: Duration,
    delay: Duration,
}

/// Looks up an environment variable.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The tenants of the settings, with their secrets.
///
/// # Errors
/// If a secret cannot be read.
pub fn tenants(settings: &Settings, variables: Variables<'_>) -> Result<Tenants, SettingsProblems> {
    let defaults = DefaultLimits {
        max_concurrency: settings.vendor.max_concurrency,
        rate_limit: settings.rate_limit.clone(),
    };
    Tenants::load(&settings.tenants, &defaults, variables)
}

/// The keys that seal.
///
/// # Errors
/// If their file cannot be read.
pub fn encryption(settings: &Settings) -> Result<Encryption, SettingsProblems> {
    Encryption::load(&settings.encryption)
}

/// The headers for the collector of traces.
///
/// # Errors
/// If their file cannot be read.
pub fn collector_headers(settings: &Settings) -> Result<CollectorHeaders, SettingsProblems> {
    CollectorHeaders::load(&settings.traces)
}

/// Builds everything, opens the store and listens. Returns when requests are answered.
///
/// # Errors
/// [`StartError`] says what stood in the way.
pub async fn start(
    settings: &Settings,
    variables: Variables<'_>,
    telemetry: Telemetry,
) -> Result<Gateway, StartError> {
    let shared = Shared::build(settings, variables, &telemetry).await?;
    let verifier =
        Verifier::new(&settings.auth, shared.env.wall_clock.clone(), refresh_observer(&shared.env.metrics))?;
    let verifier = Arc::new(verifier);
    let (draining, stopping) = (CancellationToken::new(), CancellationToken::new());
    let (wakes, crew) = (Wakes::default(), TaskTracker::new());
    let (work, loops, keyed) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
    let analyses = Arc::new(shared.analyses(settings, &draining));
    let feed = Arc::new(shared.feed(settings, &draining));
    let posts = shared.crew(settings, &verifier, &wakes)?;
    let state = web::Data::new(shared.state(settings, &analyses, &feed, verifier, &keyed));

    // Subscribed before anybody can make a change: a missed one would leave an old answer in the cache.
    let (for_wakes, for_cache) = (shared.store.changes(), shared.store.changes());
    loops.spawn(wakes.follow(for_wakes, shared.vendor_permits.clone(), stopping.clone()));
    let (for_streams, streams_until) = (shared.store.changes(), stopping.clone());
    loops.spawn(async move { feed.follow_changes(for_streams, streams_until).await });
    let until = stopping.clone();
    loops.spawn(async move { analyses.follow_changes(for_cache, until).await });

    let readiness = Readiness::default();
    let (api_server, api) = serve_api(settings, &state, &draining, &loops)?;
    let (admin_server, admin) = serve_admin(settings, &state, &readiness, &loops)?;
    for post in posts {
        crew.spawn(workers::run(post, work.clone(), draining.clone()));
    }
    readiness.set(true);
    tracing::info!(%api, %admin, "ready");
    let (grace, delay) = (settings.server.shutdown_grace, settings.server.shutdown_delay);
    Ok(Gateway {
        api,
        admin,
        readiness,
        draining,
        stopping,
        api_server,
        admin_server,
        crew,
        work,
        loops,
        keyed,
        store: shared.store,
        telemetry,
        grace,
        delay,
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
        let began = Instant::now();
        tracing::info!("draining");
        self.readiness.set(false);
        self.draining.cancel();
        for tasks in [&self.crew, &self.work, &self.loops] {
            tasks.close();
        }
        let finished = async {
            let work = async {
                // A claim that is under way still starts its work: first the claims end, then the work.
                self.crew.wait().await;
                self.work.wait().await;
            };
            let requests = async {
                tokio::time::sleep(self.delay).await;
                self.api_server.stop(true).await;
                self.keyed.close();
                self.keyed.wait().await;
            };
            tokio::join!(requests, work);
        };
        let patience = self.grace.saturating_sub(CLOSING_SHARE);
        let in_time = tokio::time::timeout(patience, finished).await.is_ok();
        if !in_time {
            tracing::warn!("the grace period ended before the work did");
            self.api_server.stop(false).await;
        }
        // Every span has ended, but for those of work that did not.
        let left = self.grace.saturating_sub(began.elapsed()).clamp(CLOSING_SHARE, FLUSH_PATIENCE);
        let release = tokio::time::timeout(CLOSING_SHARE, self.store.release_across_tenants());
        let (released, ()) = tokio::join!(release, self.telemetry.flush(left));
        match released {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "leases could not be given back; they will run out"),
            Err(_) => tracing::error!("leases could not be given back in time; they will run out"),
        }
        self.stopping.cancel();
        self.admin_server.stop(true).await;
        self.loops.wait().await;
        // The servers' threads drop what they share a little after they have said that they ended.
        let released = async {
            while Arc::strong_count(&self.store) > 1 {
                tokio::time::sleep(RELEASE_PAUSE).await;
            }
        };
        if tokio::time::timeout(CLOSING_SHARE, released).await.is_err() {
            tracing::debug!("the store is still in use");
        }
        tracing::info!("stopped");
        in_time
    }
}

fn refresh_observer(metrics: &Arc<Metrics>) -> impl Fn(&Refresh) + Send + Sync + 'static {
    let metrics = Arc::clone(metrics);
    move |refresh: &Refresh| {
        let outcome = match &refresh.outcome {
            RefreshOutcome::Updated => {
                tracing::info!(issuer = refresh.issuer, "issuer's keys changed");
                "updated"
            }
            RefreshOutcome::Unchanged => "unchanged",
            RefreshOutcome::Failed(error) => {
                tracing::error!(issuer = refresh.issuer, %error, "failed to load the issuer's keys");
                "failed"
            }
        };
        metrics.jwks_refreshes.with_label_values(&[outcome]).inc();
    }
}
