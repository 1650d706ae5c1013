//! Starts a gateway on free ports, with stand-ins for the vendor and the receivers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alovoice_gateway::app::{self, Gateway, StartError};
use alovoice_gateway::auth::DevelopmentToken;
use alovoice_gateway::config::{self, Settings, SettingsProblems};
use alovoice_gateway::domain::analysis::Work;
use alovoice_gateway::domain::clock::{Clock, SystemClock};
use alovoice_gateway::domain::ids::{CallId, TenantId};
use alovoice_gateway::http_client::Network;
use alovoice_gateway::sandbox::receiver::{Receiver, ReceiverOptions};
use alovoice_gateway::sandbox::stand_in::{VendorOptions, VendorStandIn};
use alovoice_gateway::store::postgres::PostgresOpenError;
use alovoice_gateway::store::{RecordedAttempt, RecordedDelivery, Store, StoredAnalysis};
use alovoice_gateway::telemetry::Telemetry;
use jsonwebtoken::Algorithm;
use tempfile::TempDir;
use tokio::sync::broadcast::error::RecvError;

use crate::caller::Caller;
use crate::patience::{PATIENCE, patiently};
use crate::postgres::database::Database;
use crate::postgres::server::Server;
use crate::rows::{Rows, attempts_of, deliveries_of_call};

pub(crate) const ISSUER: &str = "https://issuer.test";
pub(crate) const AUDIENCE: &str = "alovoice-gateway";
pub(crate) const HMAC: &str = "a shared secret of at least thirty-two bytes";
pub(crate) const EVERY_SCOPE: &str = "analyses:read analyses:write audio:read webhooks:manage";
/// Base64 of 32 bytes.
pub(crate) const ENCRYPTION_KEY: &str = "bm8gc2VjcmV0OiBhIGtleSBvZiB0aGlydHktdHdvIGI=";
/// Callback secret of `acme`.
pub(crate) const ACME_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Callback secret of `globex`. The tenant `initech` has no callback secret, so the gateway refuses its callbacks.
pub(crate) const GLOBEX_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Vendor tokens of `acme`, `globex` and `initech`.
pub(crate) const VENDOR_TOKENS: [&str; 3] =
    ["vendor-token-of-acme", "vendor-token-of-globex", "vendor-token-of-initech"];

/// Value that removes a setting.
pub(crate) const UNSET: &str = "(none)";

/// A duration longer than any test, for events that must not happen during the test.
pub(crate) const LATER: &str = "1h";

/// The parts of a [`Stage`] that remain after the gateway has drained.
pub(crate) struct Remains {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) receiver: Receiver,
    _home: TempDir,
    _database: Option<Database>,
}

pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) vendor: VendorStandIn,
    pub(crate) receiver: Receiver,
    pub(crate) home: TempDir,
    http: reqwest::Client,
    settings: Vec<(String, String)>,
    database: Option<Database>,
}

impl Stage {
    /// Starts a gateway with short polling and retry intervals, without the poll after completion, and with limits and time limits that
    /// no test reaches by accident, even if the machine is busy.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a gateway with changed settings, such as `("VENDOR__POLLING__DEADLINE", "200ms")`. [`UNSET`] removes a setting.
    pub(crate) async fn with(changes: &[(&str, &str)]) -> Self {
        let on_server = std::env::var("TEST_STORE").is_ok_and(|store| store == "postgres");
        let database = if on_server { Some(Server::shared().await.fresh_database().await) } else { None };
        Self::on(database, changes).await
    }

    /// Starts a gateway with this database, or with a SQLite file if there is none.
    pub(crate) async fn on(database: Option<Database>, changes: &[(&str, &str)]) -> Self {
        let tokens = VENDOR_TOKENS.map(str::to_owned).to_vec();
        let vendor =
            VendorStandIn::start(VendorOptions { tokens, ..VendorOptions::default() }).await.unwrap();
        let receiver = Receiver::start(ReceiverOptions::default()).await.unwrap();
        let home = TempDir::new().unwrap();
        let mut settings = defaults(&home, &vendor);
        if let Some(database) = &database {
            set(&mut settings, "STORE__URL", database.url());
        }
        for (key, value) in changes {
            set(&mut settings, key, value);
        }
        let gateway = start(&settings).await;
        // The admin server closes connections after five seconds. A request on such a connection would fail.
        let http =
            reqwest::Client::builder().no_gzip().pool_idle_timeout(Duration::from_secs(2)).build().unwrap();
        Self { gateway, vendor, receiver, home, http, settings, database }
    }

    /// Starts one more gateway on the same store, which it reaches at this URL.
    pub(crate) async fn replica(&self, store_url: &str) -> Gateway {
        let mut settings = self.settings.clone();
        set(&mut settings, "STORE__URL", store_url);
        start(&settings).await
    }

    /// Starts one more gateway on the same store with one changed setting.
    pub(crate) async fn replica_with(&self, (key, value): (&str, &str)) -> Gateway {
        let mut settings = self.settings.clone();
        set(&mut settings, key, value);
        start(&settings).await
    }

    /// The PostgreSQL database of the store. Panics if the store is a file.
    pub(crate) fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    /// A caller of tenant `acme` at another gateway.
    pub(crate) fn acme_at(&self, gateway: &Gateway) -> Caller {
        Caller::new(self.http.clone(), gateway.api().clone(), &token("acme", EVERY_SCOPE))
    }

    /// Whether the store is a `SQLite` file.
    pub(crate) fn is_on_file(&self) -> bool {
        self.database.is_none()
    }

    /// Direct access to the rows of the store.
    pub(crate) fn rows(&self) -> Rows {
        match &self.database {
            Some(database) => Rows::of_server(database.url()),
            None => Rows::of_file(&self.home.path().join("gateway.db")),
        }
    }

    /// Drains the gateway and starts another one on the same store, with other ports.
    pub(crate) async fn restart(self) -> Self {
        assert!(self.gateway.drain().await, "the drain finished all work in time");
        let gateway = start(&self.settings).await;
        Self { gateway, ..self }
    }

    /// Restarts the gateway with one changed setting.
    pub(crate) async fn restart_with(mut self, (key, value): (&str, &str)) -> Self {
        set(&mut self.settings, key, value);
        self.restart().await
    }

    /// Restarts the gateway, and makes all waiting work due before it starts again.
    pub(crate) async fn restart_with_work_due(self) -> Self {
        let rows = self.rows();
        assert!(self.gateway.drain().await, "the drain finished all work in time");
        for table in ["analyses", "deliveries"] {
            rows.execute(&format!("UPDATE {table} SET due_at = 1716207617000 WHERE due_at IS NOT NULL"))
                .await;
        }
        let gateway = start(&self.settings).await;
        Self { gateway, ..self }
    }

    /// Restarts the gateway with a deadline that all its analyses have passed.
    pub(crate) async fn past_deadline(self) -> Self {
        self.restart_with(("VENDOR__POLLING__DEADLINE", "1ms")).await
    }

    /// Restarts the gateway without one of its settings.
    pub(crate) async fn restart_without(mut self, key: &str) -> Self {
        self.settings.retain(|(known, _)| *known != format!("GATEWAY_{key}"));
        self.restart().await
    }

    /// A caller of this tenant with every scope.
    pub(crate) fn caller(&self, tenant: &str) -> Caller {
        self.caller_with(&token(tenant, EVERY_SCOPE))
    }

    /// A caller with this token.
    pub(crate) fn caller_with(&self, token: &str) -> Caller {
        Caller::new(self.http.clone(), self.gateway.api().clone(), token)
    }

    pub(crate) fn acme(&self) -> Caller {
        self.caller("acme")
    }

    pub(crate) fn globex(&self) -> Caller {
        self.caller("globex")
    }

    pub(crate) fn initech(&self) -> Caller {
        self.caller("initech")
    }

    /// Status and body of a GET request to the admin port.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        let response = self.http.get(self.gateway.admin().join(path).unwrap()).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// URL of the receiver at which callbacks get this answer.
    pub(crate) fn hook(&self, answer: &str) -> String {
        self.receiver.hook(answer).into()
    }

    /// Writes a file in the gateway's home directory.
    pub(crate) fn write(&self, name: &str, content: &str) {
        write(&self.home, name, content);
    }

    /// The settings of this gateway with these changes.
    pub(crate) fn settings_with(&self, changes: &[(&str, &str)]) -> Result<Settings, SettingsProblems> {
        let mut settings = self.settings.clone();
        for (key, value) in changes {
            set(&mut settings, key, value);
        }
        config::load(None, settings.into_iter())
    }

    /// Waits until the stored analysis of a call of `acme` meets the condition.
    pub(crate) async fn record(
        &self,
        call_id: &str,
        is_so: impl Fn(&StoredAnalysis) -> bool,
    ) -> StoredAnalysis {
        let (store, tenant, call_id) = (self.gateway.store(), acme(), call(call_id));
        let mut changes = store.changes();
        loop {
            match patiently(|| store.find_analysis(&tenant, &call_id)).await {
                Some(found) if is_so(&found) => return found,
                _ => assert_ne!(changes.recv().await, Err(RecvError::Closed)),
            }
        }
    }

    /// Waits until a call of `acme` has no work that is due or in progress.
    pub(crate) async fn idle(&self, call_id: &str) -> StoredAnalysis {
        let is_waiting =
            |work: &Work| !work.leased && work.due_at > SystemClock.now() + Duration::from_mins(1);
        self.record(call_id, |found| found.analysis.work.as_ref().is_none_or(is_waiting)).await
    }

    /// Waits until a call of `acme` has no work left.
    pub(crate) async fn at_rest(&self, call_id: &str) -> StoredAnalysis {
        self.record(call_id, |found| found.analysis.work.is_none()).await
    }

    /// The deliveries of a call of `acme`.
    pub(crate) async fn deliveries(&self, call_id: &str) -> Vec<RecordedDelivery> {
        let call_id = CallId::parse(call_id).unwrap();
        deliveries_of_call(&*self.gateway.store(), &acme(), &call_id).await
    }

    /// Drains the gateway, so that no work is in progress, and returns the store and the receiver.
    pub(crate) async fn close(self) -> Remains {
        let store = self.gateway.store();
        assert!(self.gateway.drain().await, "the drain finished all work in time");
        Remains { store, receiver: self.receiver, _home: self.home, _database: self.database }
    }

    /// Waits until this number of requests is in flight.
    pub(crate) async fn in_flight(&self, requests: usize) {
        let line = format!("alovoice_gateway_http_requests_in_flight {requests}\n");
        while !self.admin("metrics").await.1.contains(&line) {}
    }
}

impl Remains {
    /// The only delivery of a call of `acme`, and its attempts.
    pub(crate) async fn delivery(&self, call_id: &str) -> (RecordedDelivery, Vec<RecordedAttempt>) {
        let tenant = acme();
        let deliveries = deliveries_of_call(&*self.store, &tenant, &call(call_id)).await;
        let [delivery] = &deliveries[..] else { panic!("expected one delivery: {deliveries:?}") };
        (delivery.clone(), attempts_of(&*self.store, &tenant, delivery.id).await)
    }
}

pub(crate) fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

pub(crate) fn call(text: &str) -> CallId {
    CallId::parse(text).unwrap()
}

/// A valid token with these scopes.
pub(crate) fn token(tenant: &str, scopes: &str) -> String {
    development_token(&TenantId::parse(tenant).unwrap(), scopes)
        .mint(HMAC.as_bytes(), SystemClock.now())
        .unwrap()
}

pub(crate) fn development_token<'a>(tenant: &'a TenantId, scopes: &'a str) -> DevelopmentToken<'a> {
    DevelopmentToken {
        algorithm: Algorithm::HS256,
        issuer: ISSUER,
        audience: AUDIENCE,
        tenant_claim: "tenant",
        tenant,
        scope_claim: "scope",
        scopes,
        subject: None,
        lifetime: Duration::from_hours(1),
    }
}

/// Starts a gateway. Repeats the start if a busy database does not answer in time.
async fn start(settings: &[(String, String)]) -> Gateway {
    let settings = config::load(None, settings.iter().cloned()).unwrap();
    let network = Network::new(&settings.network).unwrap();
    let began = Instant::now();
    loop {
        match app::start(&settings, &|_| None, &network, Telemetry::metrics_only().unwrap()).await {
            Err(StartError::Server(PostgresOpenError::Store(_) | PostgresOpenError::Unsuitable(_)))
                if began.elapsed() < PATIENCE => {}
            started => return started.unwrap(),
        }
    }
}

fn set(settings: &mut Vec<(String, String)>, key: &str, value: &str) {
    let key = format!("GATEWAY_{key}");
    settings.retain(|(known, _)| *known != key);
    if value != UNSET {
        settings.push((key, value.to_owned()));
    }
}

fn write(home: &TempDir, name: &str, content: &str) -> String {
    // A rename is atomic, so the gateway never reads a partial file.
    let path = home.path().join(name);
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, &path).unwrap();
    path.display().to_string()
}

fn defaults(home: &TempDir, vendor: &VendorStandIn) -> Vec<(String, String)> {
    let [acme, globex, initech] = VENDOR_TOKENS;
    let pairs = [
        ("SERVER__LISTEN", "127.0.0.1:0".to_owned()),
        ("SERVER__ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
        ("SERVER__SHUTDOWN_GRACE", "10m".to_owned()),
        ("SERVER__HEAD_TIMEOUT", "5m".to_owned()),
        ("SERVER__BODY_TIMEOUT", "1h".to_owned()),
        ("VENDOR__REQUEST_TIMEOUT", "2m".to_owned()),
        ("CALLBACKS__TIMEOUT", "2m".to_owned()),
        ("VENDOR__BASE_URL", vendor.base_url().into()),
        ("VENDOR__POLLING__FIRST_AFTER", "2ms".to_owned()),
        ("VENDOR__POLLING__MIN_INTERVAL", "2ms".to_owned()),
        ("VENDOR__POLLING__MAX_INTERVAL", "20ms".to_owned()),
        ("VENDOR__POLLING__EMPTY_GRACE", LATER.to_owned()),
        ("VENDOR__POLLING__NOT_FOUND_GRACE", LATER.to_owned()),
        ("VENDOR__POLLING__SETTLE_AFTER", LATER.to_owned()),
        ("STORE__URL", format!("sqlite://{}", home.path().join("gateway.db").display())),
        ("CALLBACKS__ALLOW_HTTP", "true".to_owned()),
        ("CALLBACKS__ALLOW_TEMPLATES", "true".to_owned()),
        ("CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8".to_owned()),
        ("CALLBACKS__RETRY_SCHEDULE", "1ms,1ms".to_owned()),
        ("RATE_LIMIT__REQUESTS_PER_SECOND", "1000000".to_owned()),
        ("RATE_LIMIT__BURST", "1000000".to_owned()),
        ("AUTH__ISSUERS__0__ISSUER", ISSUER.to_owned()),
        ("AUTH__ISSUERS__0__AUDIENCES", AUDIENCE.to_owned()),
        ("AUTH__ISSUERS__0__ALGORITHMS", "HS256".to_owned()),
        ("ENCRYPTION__KEY_FILE", write(home, "encryption-key", ENCRYPTION_KEY)),
        ("AUTH__ISSUERS__0__HMAC_SECRET_FILE", write(home, "hmac", HMAC)),
        ("TENANTS__ACME__VENDOR_TOKEN_FILE", write(home, "acme-token", acme)),
        ("TENANTS__ACME__CALLBACK_SECRET_FILE", write(home, "acme-secret", ACME_SECRET)),
        ("TENANTS__GLOBEX__VENDOR_TOKEN_FILE", write(home, "globex-token", globex)),
        ("TENANTS__GLOBEX__CALLBACK_SECRET_FILE", write(home, "globex-secret", GLOBEX_SECRET)),
        ("TENANTS__INITECH__VENDOR_TOKEN_FILE", write(home, "initech-token", initech)),
    ];
    pairs.map(|(key, value)| (format!("GATEWAY_{key}"), value)).to_vec()
}
