//! The environment of a process: vendor stand-in, receiver, files, settings, and a caller with tokens.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use alovoice_gateway::auth::DevelopmentToken;
use alovoice_gateway::domain::clock::{Clock, SystemClock, Timestamp};
use alovoice_gateway::domain::ids::{CallId, TenantId};
use alovoice_gateway::sandbox::receiver::{Receiver, ReceiverOptions};
use alovoice_gateway::sandbox::stand_in::{VendorOptions, VendorStandIn};
use jsonwebtoken::Algorithm;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::gateway::{Serving, within};
use crate::postgres::database::Database;
use crate::postgres::server::Server;
use crate::store::Store;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_alovoice-gateway");
pub(crate) const ISSUER: &str = "https://issuer.test";
pub(crate) const AUDIENCE: &str = "alovoice-gateway";
/// Time for which a client keeps an idle connection.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);
/// Subject of the tokens.
pub(crate) const SUBJECT: &str = "agent-7";
pub(crate) const HMAC_SECRET: &str = "hmac-secret-of-the-issuer-0123456789abcdef";
/// Base64 of 32 bytes.
pub(crate) const ENCRYPTION_KEY: &str = "ZW5jcnlwdGlvbi1rZXktY2FuYXJ5LTAxMjM0NTY3ODk=";
pub(crate) const CALLBACK_SECRET: &str = "whsec_Y2FsbGJhY2stc2VjcmV0LWNhbmFyeS0wMTIzNDU2Nzg5";
pub(crate) const SCOPES: &str = "analyses:read analyses:write webhooks:manage";

pub(crate) struct Stage {
    pub(crate) home: TempDir,
    pub(crate) store: Store,
    pub(crate) vendor: VendorStandIn,
    pub(crate) receiver: Receiver,
    pub(crate) client: Client,
    settings: BTreeMap<String, String>,
}

impl Stage {
    /// An environment with a SQLite store.
    pub(crate) async fn set_up() -> Self {
        Self::with_vendor_token(VendorOptions::TOKEN).await
    }

    /// An environment with a fresh database on the shared PostgreSQL server.
    pub(crate) async fn set_up_on_postgres() -> Self {
        Self::on(Server::shared().await.fresh_database().await).await
    }

    /// An environment with this database, for tests that stop or kill its server.
    pub(crate) async fn on(database: Database) -> Self {
        Self::build(TempDir::new().unwrap(), Store::Database(database), VendorOptions::TOKEN).await
    }

    pub(crate) async fn with_vendor_token(token: &str) -> Self {
        let home = TempDir::new().unwrap();
        let store = Store::File(home.path().join("gateway.db"));
        Self::build(home, store, token).await
    }

    async fn build(home: TempDir, store: Store, token: &str) -> Self {
        let vendor = VendorOptions { tokens: vec![token.to_owned()], ..VendorOptions::default() };
        let mut stage = Self {
            home,
            store,
            vendor: VendorStandIn::start(vendor).await.unwrap(),
            receiver: Receiver::start(ReceiverOptions::default()).await.unwrap(),
            // The gateway closes a connection that was idle for 75 seconds, so the client must not use it any more.
            client: Client::builder().no_proxy().pool_idle_timeout(IDLE_CONNECTION).build().unwrap(),
            settings: BTreeMap::new(),
        };
        stage.set_defaults(token);
        stage
    }

    /// Short intervals, so that a kill interrupts work in progress, and long time limits, so that a busy machine exceeds none.
    fn set_defaults(&mut self, vendor_token: &str) {
        let store = self.store.url();
        let vendor = self.vendor.base_url().to_string();
        let retries = ["50ms"; 32].join(",");
        for (key, value) in [
            ("SERVER__LISTEN", "127.0.0.1:0"),
            ("SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
            ("SERVER__HEAD_TIMEOUT", "5m"),
            ("SERVER__BODY_TIMEOUT", "5m"),
            ("SERVER__SHUTDOWN_GRACE", "5m"),
            ("STORE__URL", &store),
            ("VENDOR__BASE_URL", &vendor),
            ("VENDOR__REQUEST_TIMEOUT", "1m"),
            ("VENDOR__POLLING__FIRST_AFTER", "10ms"),
            ("VENDOR__POLLING__MIN_INTERVAL", "10ms"),
            ("VENDOR__POLLING__MAX_INTERVAL", "100ms"),
            ("CALLBACKS__TIMEOUT", "1m"),
            ("CALLBACKS__ALLOW_HTTP", "true"),
            ("CALLBACKS__ALLOW_TEMPLATES", "true"),
            ("CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8"),
            ("CALLBACKS__RETRY_SCHEDULE", &retries),
            ("RATE_LIMIT__REQUESTS_PER_SECOND", "1000000"),
            ("RATE_LIMIT__BURST", "1000000"),
            ("AUTH__ISSUERS__0__ISSUER", ISSUER),
            ("AUTH__ISSUERS__0__AUDIENCES", AUDIENCE),
            ("AUTH__ISSUERS__0__ALGORITHMS", "HS256"),
        ] {
            self.set(key, value);
        }
        for (key, content) in [
            ("AUTH__ISSUERS__0__HMAC_SECRET_FILE", HMAC_SECRET),
            ("ENCRYPTION__KEY_FILE", ENCRYPTION_KEY),
            ("TENANTS__ACME__VENDOR_TOKEN_FILE", vendor_token),
            ("TENANTS__ACME__CALLBACK_SECRET_FILE", CALLBACK_SECRET),
        ] {
            self.set_file(key, content);
        }
    }

    /// Limits each request to the vendor and to receivers to two seconds. The work of a killed replica continues six seconds later.
    pub(crate) fn shorten_leases(&mut self) {
        self.set("VENDOR__REQUEST_TIMEOUT", "2s");
        self.set("CALLBACKS__TIMEOUT", "2s");
    }

    /// Sets a key. `key` is the name of its environment variable without the prefix `GATEWAY_`.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.settings.insert(format!("GATEWAY_{key}"), value.to_owned());
    }

    /// Removes a key.
    pub(crate) fn unset(&mut self, key: &str) {
        self.settings.remove(&format!("GATEWAY_{key}"));
    }

    /// Writes a file and sets a key to its path.
    pub(crate) fn set_file(&mut self, key: &str, content: &str) {
        let path = self.home.path().join(key.to_lowercase());
        fs::write(&path, content).unwrap();
        self.set(key, path.to_str().unwrap());
    }

    /// The file of the SQLite store.
    pub(crate) fn file(&self) -> &Path {
        let Store::File(path) = &self.store else { panic!("this store is not a file") };
        path
    }

    /// A command of the gateway's binary, with these settings only.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(Path::new(BINARY));
        command.args(arguments);
        command
    }

    /// A command of any program, with these settings only.
    pub(crate) fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.home.path()).env_clear().envs(&self.settings);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TMPDIR", self.home.path());
        command
    }

    /// Starts a gateway. Like a supervisor, it starts another one if a slow PostgreSQL server ends the process.
    pub(crate) async fn serve(&self) -> Serving {
        self.serve_with(|| self.command(&["serve"])).await
    }

    /// Like [`serve`](Self::serve), with a command that runs `serve`.
    pub(crate) async fn serve_with(&self, command: impl Fn() -> Command) -> Serving {
        let starting = async {
            loop {
                match (Serving::start_or_end(command(), &self.client).await, &self.store) {
                    (Ok(serving), _) => return serving,
                    (Err(log), Store::Database(_)) if log.iter().any(|line| line.contains("store:")) => {
                        eprintln!("another start:\n{}", log.join("\n"));
                    }
                    (Err(log), _) => panic!("ended without being ready:\n{}", log.join("\n")),
                }
            }
        };
        within("a gateway that is ready", starting).await
    }

    /// A token with these scopes. It was issued ten minutes ago, so that a gateway with a slow clock accepts it.
    pub(crate) fn token(&self, scopes: &str) -> String {
        self.token_of("acme", scopes)
    }

    /// A token that is valid from 1999 to 2059, for gateways whose machine's clock is wrong.
    pub(crate) fn lasting_token(&self, scopes: &str) -> String {
        let issued_at = Timestamp::from_millis(915_148_800_000);
        self.token_issued("acme", scopes, issued_at, Duration::from_hours(60 * 365 * 24))
    }

    /// A token of this tenant.
    pub(crate) fn token_of(&self, tenant: &str, scopes: &str) -> String {
        let issued_at = Timestamp::from_millis(SystemClock.now().as_millis() - 10 * 60 * 1000);
        self.token_issued(tenant, scopes, issued_at, Duration::from_hours(24))
    }

    fn token_issued(&self, tenant: &str, scopes: &str, issued_at: Timestamp, lifetime: Duration) -> String {
        let tenant = TenantId::parse(tenant).unwrap();
        let token = DevelopmentToken {
            algorithm: Algorithm::HS256,
            issuer: ISSUER,
            audience: AUDIENCE,
            tenant_claim: "tenant",
            tenant: &tenant,
            scope_claim: "scope",
            scopes,
            subject: Some(SUBJECT),
            lifetime,
        };
        token.mint(HMAC_SECRET.as_bytes(), issued_at).unwrap()
    }

    /// A submission with a callback at a path for this call only.
    pub(crate) fn submission(&self, call_id: &str) -> Value {
        json!({"call_id": call_id, "callback": {"url": self.hook_of(call_id)}})
    }

    /// The callback URL of a call.
    pub(crate) fn hook_of(&self, call_id: &str) -> String {
        self.receiver.hook(&format!("ok/{call_id}")).to_string()
    }

    pub(crate) async fn submit(&self, gateway: &Serving, call_id: &str) -> reqwest::Result<Response> {
        let url = gateway.api.join("v1/analyses").unwrap();
        let body = self.submission(call_id).to_string();
        let request = self.client.post(url).header("content-type", "application/json").body(body);
        send(request.bearer_auth(self.token(SCOPES))).await
    }

    pub(crate) async fn get(&self, gateway: &Serving, call_id: &str, prefer: &str) -> Response {
        let url = gateway.api.join(&format!("v1/analyses/{call_id}")).unwrap();
        let request = self.client.get(url).header("prefer", prefer).bearer_auth(self.token(SCOPES));
        send(request).await.unwrap()
    }

    /// The current analysis of a call.
    pub(crate) async fn analysis(&self, gateway: &Serving, call_id: &str) -> Value {
        let body = self.get(gateway, call_id, "").await.bytes().await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// Waits until a call is completed, and returns its analysis.
    pub(crate) async fn completed(&self, gateway: &Serving, call_id: &str) -> Value {
        let completion = async {
            loop {
                let body = self.get(gateway, call_id, "wait=60").await.bytes().await.unwrap();
                let analysis: Value = serde_json::from_slice(&body).unwrap();
                match analysis["status"].as_str() {
                    Some("completed") => return analysis,
                    Some("queued" | "processing") => {}
                    _ => panic!("{call_id}: {analysis}"),
                }
            }
        };
        within("the completion of a call", completion).await
    }

    /// The metrics page of a gateway.
    pub(crate) async fn metrics(&self, gateway: &Serving) -> String {
        let page = self.client.get(gateway.admin.join("metrics").unwrap()).send().await.unwrap();
        page.text().await.unwrap()
    }
}

/// Sends a request until its answer does not depend on the speed of the machine. A client repeats a request after 408 (the request
/// arrived too slowly), after 503 (the store or the vendor was too slow), and after 409 while its `Idempotency-Key` is in use.
pub(crate) async fn send(request: RequestBuilder) -> reqwest::Result<Response> {
    let (client, request) = request.build_split();
    let request = request?;
    let has_key = request.headers().contains_key("idempotency-key");
    let answered = async {
        loop {
            let answer = client.execute(request.try_clone().unwrap()).await?;
            let is_slow = match answer.status().as_u16() {
                408 | 503 => true,
                409 => has_key && answer.headers().contains_key(RETRY_AFTER),
                _ => false,
            };
            if !is_slow {
                return Ok(answer);
            }
            let pause = answer.headers().get(RETRY_AFTER).map_or("0", |pause| pause.to_str().unwrap());
            tokio::time::sleep(Duration::from_secs(pause.parse().unwrap())).await;
        }
    };
    within("an answer", answered).await
}

pub(crate) fn id(text: &str) -> CallId {
    CallId::parse(text).unwrap()
}
