//! The gateway: the real binary with `serve` on the first core and default settings, except those that a row names.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alovoice_gateway::sandbox::stand_in::{Ready, VendorOptions, VendorStandIn};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::postgres::cluster::free_port;
use crate::postgres::server::{Options as ServerOptions, Server};
use crate::process::{Process, pinned};
use crate::signer::Signer;

/// Calls in one batch, the maximum of the API.
const BATCH: usize = 1_000;

/// A running gateway and its vendor.
pub(crate) struct Gateway {
    pub(crate) api: String,
    pub(crate) token: String,
    pub(crate) vendor: VendorStandIn,
    admin: String,
    client: Client,
    pub(crate) process: Process,
    home: TempDir,
}

/// Differences from the default settings.
#[derive(Clone, Copy)]
pub(crate) struct Options<'a> {
    pub(crate) signer: &'a Signer,
    /// URL of a PostgreSQL database; `None` for a new SQLite file.
    pub(crate) postgres: Option<&'a str>,
    pub(crate) processing: Ready,
    /// Environment variables.
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

/// The log filter without the audit log.
pub(crate) const NO_AUDIT_LOG: (&str, &str) = ("GATEWAY_LOG__FILTER", "info,audit=off");

/// Holds the vendor's answers, so that the polls of submitted calls use no CPU time.
pub(crate) const HELD: [(&str, &str); 2] =
    [("GATEWAY_VENDOR__MAX_CONCURRENCY", "1"), ("GATEWAY_VENDOR__REQUEST_TIMEOUT", "5m")];

/// Returns the path of the gateway: the environment variable `GATEWAY`, or the program of this build.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("GATEWAY").map_or_else(|| env!("CARGO_BIN_EXE_alovoice-gateway").into(), PathBuf::from)
}

/// Starts a PostgreSQL server that makes each commit durable, as in production and as SQLite does.
pub(crate) async fn durable_postgres() -> Server {
    Server::start(ServerOptions { fsync: true, ..ServerOptions::default() }).await
}

pub(crate) async fn start(options: Options<'_>) -> Gateway {
    let home = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).expect("a temporary folder takes files");
        path
    };
    let vendor = VendorOptions { processing: options.processing, ..VendorOptions::default() };
    let vendor = VendorStandIn::start(vendor).await.expect("the stand-in starts");
    let (api_port, admin_port) = (free_port(), free_port());
    let store = options
        .postgres
        .map_or_else(|| format!("sqlite://{}", home.path().join("gateway.db").display()), str::to_owned);
    let mut command = pinned(program());
    command
        .arg("serve")
        .env("GATEWAY_SERVER__LISTEN", format!("127.0.0.1:{api_port}"))
        .env("GATEWAY_SERVER__ADMIN_LISTEN", format!("127.0.0.1:{admin_port}"))
        .env("GATEWAY_VENDOR__BASE_URL", vendor.base_url().as_str())
        .env("GATEWAY_STORE__URL", store)
        .env("GATEWAY_RATE_LIMIT__REQUESTS_PER_SECOND", "1000000")
        .env("GATEWAY_RATE_LIMIT__BURST", "1000000")
        .env("GATEWAY_AUTH__ISSUERS__0__ISSUER", Signer::ISSUER)
        .env("GATEWAY_AUTH__ISSUERS__0__AUDIENCES", Signer::AUDIENCE)
        .env("GATEWAY_AUTH__ISSUERS__0__ALGORITHMS", options.signer.algorithm())
        .env(options.signer.setting(), file("issuer", &options.signer.verification_key))
        .env("GATEWAY_TENANTS__ACME__VENDOR_TOKEN_FILE", file("token", VendorOptions::TOKEN))
        .env(
            "GATEWAY_TENANTS__ACME__CALLBACK_SECRET_FILE",
            file("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        )
        .env("GATEWAY_ENCRYPTION__KEY_FILE", file("key", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=\n"))
        .env("GATEWAY_CALLBACKS__ALLOW_HTTP", "true")
        .env("GATEWAY_CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8")
        .envs(options.settings.iter().copied());
    let process = Process::serving(command, api_port);
    Gateway {
        api: format!("http://127.0.0.1:{api_port}/"),
        admin: format!("http://127.0.0.1:{admin_port}/"),
        token: options.signer.token(),
        vendor,
        client: Client::new(),
        process,
        home,
    }
}

impl Gateway {
    /// Reads a resource once, so that it is in the cache. Then it holds the answers of the vendor.
    pub(crate) async fn get_and_hold(&self, path: &str) -> String {
        let body = self.get(path).await;
        self.vendor.set_held(true);
        body
    }

    /// Returns a request with the token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(&self.token)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        let answer = text(request.body(body.to_string())).await;
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Submits calls in batches, each with the callback of its number.
    pub(crate) async fn submit(&self, calls: usize, callback: impl Fn(usize) -> Option<String>) {
        let numbers: Vec<usize> = (0..calls).collect();
        for batch in numbers.chunks(BATCH) {
            let submission = |number: &usize| match callback(*number) {
                Some(url) => json!({"call_id": format!("1795374000.{number}"), "callback": {"url": url}}),
                None => json!({"call_id": format!("1795374000.{number}")}),
            };
            let analyses: Vec<Value> = batch.iter().map(submission).collect();
            self.post("analyses/batch", &json!({"analyses": analyses})).await;
        }
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        text(self.request(Method::GET, path)).await
    }

    pub(crate) fn metrics_request(&self) -> RequestBuilder {
        self.client.get(format!("{}metrics", self.admin))
    }

    /// Returns the sum of the samples that begin with this text, for example `name_sum{label="value"`.
    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        let metrics = text(self.metrics_request()).await;
        let samples = metrics.lines().filter(|line| line.starts_with(sample));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub(crate) async fn wait_until_ready(&self) {
        while !self.is_ready().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn is_ready(&self) -> bool {
        let answer = self.client.get(format!("{}readyz", self.admin)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}v1/{path}", self.api)
    }

    /// Stops the gateway and returns its folder.
    pub(crate) fn into_home(self) -> TempDir {
        self.home
    }

    /// The SQLite file in the folder of a gateway.
    pub(crate) fn database(home: &Path) -> PathBuf {
        home.join("gateway.db")
    }
}

/// Sends a request, and returns the body of the answer, which must have a 2xx status.
pub(crate) async fn text(request: RequestBuilder) -> String {
    let answer = request.send().await.and_then(Response::error_for_status).expect("a 2xx answer");
    answer.text().await.expect("a body")
}
