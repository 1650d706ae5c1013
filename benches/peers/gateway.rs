//! The gateway: the real binary with `serve` on the first core, with its store in a new folder.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alovoice_gateway::auth::DevelopmentToken;
use alovoice_gateway::domain::clock::{Clock, SystemClock};
use alovoice_gateway::domain::ids::TenantId;
use alovoice_gateway::sandbox::stand_in::{VendorOptions, VendorStandIn};
use tempfile::TempDir;

use crate::bare::free_port;

const SECRET: &str = "a development secret of thirty-two bytes and more";

/// A running gateway. Dropping it stops the process.
pub(crate) struct Gateway {
    pub(crate) api: String,
    pub(crate) token: String,
    vendor: VendorStandIn,
    process: Child,
    _home: TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Log filter without the audit log, which writes a line for every request.
pub(crate) const QUIET: &str = "info,audit=off";

pub(crate) async fn start(filter: &str) -> Gateway {
    let home = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).expect("a temporary folder takes files");
        path
    };
    let vendor = VendorStandIn::start(VendorOptions::default()).await.expect("the stand-in starts");
    let (api_port, admin_port) = (free_port(), free_port());
    let process = Command::new("taskset")
        .args(["-c", "0", env!("CARGO_BIN_EXE_alovoice-gateway"), "serve"])
        .env("GATEWAY_SERVER__LISTEN", format!("127.0.0.1:{api_port}"))
        .env("GATEWAY_SERVER__ADMIN_LISTEN", format!("127.0.0.1:{admin_port}"))
        .env("GATEWAY_VENDOR__BASE_URL", vendor.base_url().as_str())
        .env("GATEWAY_VENDOR__REQUEST_TIMEOUT", "5m")
        .env("GATEWAY_VENDOR__MAX_CONCURRENCY", "1")
        .env("GATEWAY_STORE__URL", format!("sqlite://{}", home.path().join("gateway.db").display()))
        .env("GATEWAY_RATE_LIMIT__REQUESTS_PER_SECOND", "1000000")
        .env("GATEWAY_RATE_LIMIT__BURST", "1000000")
        .env("GATEWAY_LOG__FILTER", filter)
        .env("GATEWAY_AUTH__ISSUERS__0__ISSUER", "https://issuer.example")
        .env("GATEWAY_AUTH__ISSUERS__0__AUDIENCES", "alovoice-gateway")
        .env("GATEWAY_AUTH__ISSUERS__0__ALGORITHMS", "HS256")
        .env("GATEWAY_AUTH__ISSUERS__0__HMAC_SECRET_FILE", file("hmac", SECRET))
        .env("GATEWAY_TENANTS__ACME__VENDOR_TOKEN_FILE", file("token", VendorOptions::TOKEN))
        .stderr(Stdio::null())
        .spawn()
        .expect("taskset is needed");
    while std::net::TcpStream::connect(("127.0.0.1", api_port)).is_err() {
        std::thread::yield_now();
    }
    let api = format!("http://127.0.0.1:{api_port}/");
    Gateway { api, token: token(), vendor, process, _home: home }
}

impl Gateway {
    /// Reads a resource once, so that it is in the cache. Then it stops the responses of the vendor, which would use CPU time.
    pub(crate) async fn get(&self, url: &str) -> String {
        let answer =
            reqwest::Client::new().get(url).bearer_auth(&self.token).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let body = answer.text().await.expect("a body");
        self.vendor.set_held(true);
        body
    }
}

fn token() -> String {
    let tenant = TenantId::parse("acme").expect("a tenant's name");
    DevelopmentToken {
        algorithm: jsonwebtoken::Algorithm::HS256,
        issuer: "https://issuer.example",
        audience: "alovoice-gateway",
        tenant_claim: "tenant",
        tenant: &tenant,
        scope_claim: "scope",
        scopes: "analyses:read analyses:write",
        subject: None,
        lifetime: Duration::from_secs(3600),
    }
    .mint(SECRET.as_bytes(), SystemClock.now())
    .expect("a token")
}
