//! `alovoice-gateway sandbox` runs the gateway, a stand-in for AloVoice, a development issuer, a receiver of callbacks and
//! stand-ins for CRMs in one process. It needs no settings and no account.

use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::Algorithm;

use super::arguments::SandboxArgs;
use super::{Failed, variable};
use crate::app::{self, Gateway};
use crate::auth::DevelopmentToken;
use crate::callbacks::{SignedHeaders, verify};
use crate::config::{self, Settings};
use crate::domain::clock::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::domain::ids::TenantId;
use crate::domain::secrets::CallbackSecret;
use crate::http_client::Network;
use crate::sandbox::crm::CrmStandIns;
use crate::sandbox::receiver::{ChooseAnswer, OnReceived, Received, Receiver, ReceiverOptions};
use crate::sandbox::stand_in::{Ready, VendorOptions, VendorStandIn};
use crate::telemetry::Telemetry;

const ISSUER: &str = "https://issuer.sandbox.invalid";
const AUDIENCE: &str = "alovoice-gateway";
const TENANT: &str = "demo";
const SCOPES: &str = "analyses:read analyses:write audio:read webhooks:manage";
const TOKEN_LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// Id of the call in the printed commands. README and handbook use other ids, so a reader who tries all commands gets
/// 202 for each call.
const CALL: &str = "1716207600.1";
/// Names of the files that hold the sandbox's secrets.
const HMAC_SECRET: &str = "hmac-secret";
const VENDOR_TOKEN: &str = "vendor-token";
const CALLBACK_SECRET: &str = "callback-secret";
const ENCRYPTION_KEY: &str = "encryption-key";
/// Time that the stand-in takes for an analysis.
const PROCESSING: Duration = Duration::from_secs(4);

/// Runs the sandbox until `stop`.
///
/// # Errors
/// If an address is taken or the data directory cannot be written.
pub(super) async fn run(arguments: &SandboxArgs, stop: impl Future<Output = ()>) -> Result<(), Failed> {
    let home = Home::open(arguments.data_dir.clone()).map_err(Failed::fault)?;
    let secrets = Secrets::in_folder(&home.path, &SystemEntropy)?;
    let vendor = VendorStandIn::start(VendorOptions {
        address: arguments.vendor_listen,
        tokens: vec![secrets.vendor_token.clone()],
        processing: Ready::AfterDuration(PROCESSING),
        clock: Arc::new(SystemClock),
    })
    .await
    .map_err(|error| cannot_listen("--vendor-listen", arguments.vendor_listen, &error))?;
    let receiver = Receiver::start(ReceiverOptions {
        on_received: Some(announce(secrets.callback.clone())),
        choose_answer: Some(answer_as_crm()),
        ..ReceiverOptions::default()
    })
    .await
    .map_err(Failed::fault)?;

    let settings = settings(arguments, &home.path, &vendor)?;
    let network = Network::new(&settings.network).map_err(Failed::usage)?;
    let telemetry = Telemetry::start(&settings, &network).map_err(Failed::fault)?;
    let gateway = app::start(&settings, &variable, &network, telemetry).await.map_err(Failed::fault)?;
    let token = secrets.mint()?;
    let welcome = welcome(&gateway, &vendor, &receiver, &token, &secrets);
    write!(io::stdout(), "{welcome}").map_err(Failed::fault)?;

    stop.await;
    gateway.drain().await;
    vendor.stop().await;
    receiver.stop().await;
    Ok(())
}

fn cannot_listen(flag: &str, address: SocketAddr, error: &io::Error) -> Failed {
    Failed::fault(format!("cannot listen on {address}: {error}; choose another address with {flag}"))
}

/// Folder for the sandbox's files. The sandbox deletes it at the end, unless `--data-dir` named it.
struct Home {
    path: PathBuf,
    temporary: bool,
}

impl Home {
    fn open(chosen: Option<PathBuf>) -> io::Result<Self> {
        let temporary = chosen.is_none();
        let unnamed =
            || std::env::temp_dir().join(format!("alovoice-gateway-sandbox-{}", std::process::id()));
        let path = chosen.unwrap_or_else(unnamed);
        fs::create_dir_all(&path)?;
        Ok(Self { path, temporary })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.temporary {
            // A failure leaves a small folder among the temporary files, which is harmless.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Secrets of the sandbox. The first start with a folder generates them and stores them there. So a later run with
/// the same `--data-dir` accepts earlier tokens, decrypts earlier data and signs with the same secret.
struct Secrets {
    vendor_token: String,
    hmac: String,
    callback_text: String,
    callback: CallbackSecret,
}

impl Secrets {
    fn in_folder(folder: &Path, entropy: &dyn Entropy) -> Result<Self, Failed> {
        let random = || {
            let mut bytes = [0; 32];
            entropy.fill(&mut bytes);
            STANDARD.encode(bytes)
        };
        let callback_text = read_or_create(&folder.join(CALLBACK_SECRET), || format!("whsec_{}", random()))?;
        read_or_create(&folder.join(ENCRYPTION_KEY), random)?;
        Ok(Self {
            vendor_token: read_or_create(&folder.join(VENDOR_TOKEN), || {
                random().replace(['/', '+', '='], "x")
            })?,
            hmac: read_or_create(&folder.join(HMAC_SECRET), random)?,
            callback: CallbackSecret::parse(&callback_text).map_err(Failed::fault)?,
            callback_text,
        })
    }

    fn mint(&self) -> Result<String, Failed> {
        let tenant = TenantId::parse(TENANT).map_err(Failed::fault)?;
        let token = DevelopmentToken {
            algorithm: Algorithm::HS256,
            issuer: ISSUER,
            audience: AUDIENCE,
            tenant_claim: "tenant",
            tenant: &tenant,
            scope_claim: "scope",
            scopes: SCOPES,
            subject: Some("sandbox"),
            lifetime: TOKEN_LIFETIME,
        };
        token.mint(self.hmac.as_bytes(), SystemClock.now()).map_err(Failed::fault)
    }
}

/// Reads a file. Creates the file first if it does not exist.
fn read_or_create(path: &Path, make: impl Fn() -> String) -> Result<String, Failed> {
    if !path.exists() {
        fs::write(path, make()).map_err(Failed::fault)?;
    }
    fs::read_to_string(path).map_err(Failed::fault)
}

/// Returns the settings of the sandbox as environment variables, so that they are checked like those of `serve`.
fn settings(arguments: &SandboxArgs, home: &Path, vendor: &VendorStandIn) -> Result<Settings, Failed> {
    let file = |name: &str| home.join(name).display().to_string();
    let tenant = |key: &str| format!("GATEWAY_TENANTS__{}__{key}", TENANT.to_uppercase());
    let issuer = |key: &str| format!("GATEWAY_AUTH__ISSUERS__0__{key}");
    let set = |key: &str, value: &str| (format!("GATEWAY_{key}"), value.to_owned());
    let pairs = [
        set("SERVER__LISTEN", &arguments.listen.to_string()),
        set("SERVER__ADMIN_LISTEN", &arguments.admin_listen.to_string()),
        set("VENDOR__BASE_URL", vendor.base_url().as_str()),
        set("VENDOR__POLLING__FIRST_AFTER", "2s"),
        set("VENDOR__POLLING__MIN_INTERVAL", "1s"),
        set("VENDOR__POLLING__SETTLE_AFTER", "5s"),
        set("STORE__URL", &format!("sqlite://{}", home.join("gateway.db").display())),
        set("CALLBACKS__ALLOW_HTTP", "true"),
        set("CALLBACKS__ALLOW_TEMPLATES", "true"),
        set("CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8"),
        set("ENCRYPTION__KEY_FILE", &file(ENCRYPTION_KEY)),
        set("LOG__FORMAT", "human"),
        set("LOG__FILTER", "warn,audit=off"),
        (issuer("ISSUER"), ISSUER.to_owned()),
        (issuer("AUDIENCES"), AUDIENCE.to_owned()),
        (issuer("ALGORITHMS"), "HS256".to_owned()),
        (issuer("HMAC_SECRET_FILE"), file(HMAC_SECRET)),
        (tenant("VENDOR_TOKEN_FILE"), file(VENDOR_TOKEN)),
        (tenant("CALLBACK_SECRET_FILE"), file(CALLBACK_SECRET)),
    ];
    config::load(None, pairs.into_iter()).map_err(Failed::fault)
}

/// Answers as the stand-in for a CRM whose path a request has, and prints the entry in the CRM or the error.
fn answer_as_crm() -> ChooseAnswer {
    let stand_ins = CrmStandIns::default();
    Arc::new(move |received: &Received| {
        let (status, body) = stand_ins.answer(received)?;
        let entry = stand_ins.entries().pop().filter(|_| status < 300);
        let report = match entry {
            Some(entry) => {
                let lines: String = entry.text.lines().map(|line| format!("    {line}\n")).collect();
                format!("{}: new entry in {}:\n{lines}", entry.crm, entry.card)
            }
            None => {
                format!("crm: {} {} was answered with {status}: {body}\n", received.method, received.path)
            }
        };
        let _ = write!(io::stdout(), "{report}");
        Some((status, body))
    })
}

/// Prints a line for every callback, after checking its signature as a receiver should.
fn announce(secret: CallbackSecret) -> OnReceived {
    Arc::new(move |received: &Received| {
        if received.path.starts_with(CrmStandIns::PATH) {
            return;
        }
        let header = |name| received.header(name).unwrap_or_default();
        let id = header("webhook-id");
        let signed = SignedHeaders {
            id,
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        let secrets = std::slice::from_ref(&secret);
        let verdict = match verify(secrets, signed, &received.body, SystemClock.now()) {
            Ok(()) => "signature verified".to_owned(),
            Err(error) => {
                format!("not signed with CALLBACK_SECRET ({error}); webhooks have their own secrets")
            }
        };
        let event: serde_json::Value = serde_json::from_slice(&received.body).unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        let (kind, call_id) = (text(&event["type"]), text(&event["data"]["call_id"]));
        // The sandbox keeps running after its standard output was closed.
        let _ = writeln!(io::stdout(), "receiver: {kind}, call {call_id}, webhook-id {id}, {verdict}");
    })
}

/// Returns the text that the sandbox prints when it is ready. Tests and readers rely on the lines `TOKEN=`,
/// `CALLBACK_SECRET=`, `VENDOR_TOKEN=` and `CRM=`.
fn welcome(
    gateway: &Gateway,
    vendor: &VendorStandIn,
    receiver: &Receiver,
    token: &str,
    secrets: &Secrets,
) -> String {
    let (api, admin, vendor, hook) = (gateway.api(), gateway.admin(), vendor.base_url(), receiver.hook("ok"));
    let (Secrets { callback_text, vendor_token, .. }, crm) = (secrets, receiver.base_url());
    format!(
        r#"The sandbox is running.

Swagger UI   {api}swagger-ui/     (Authorize: paste the token)
Metrics      {admin}metrics
AloVoice     {vendor}     (stand-in; it invents the analyses)
Receiver     {hook}     (prints every callback here)
CRMs         {crm}crm     (stand-ins for Bitrix24, amoCRM, Zendesk, Jira and HubSpot; they print every entry here)

Paste these lines into another terminal. The token belongs to the tenant "{TENANT}" and is valid for 8 hours.

TOKEN={token}
CALLBACK_SECRET={callback_text}
VENDOR_TOKEN={vendor_token}
CRM={crm}crm

Then try these commands:

# 1. Submit a call: 202
curl -si -w '\n' {api}v1/analyses -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -d '{{"call_id": "{CALL}", "callback": {{"url": "{hook}"}}}}'

# 2. Wait for the analysis, about 4 seconds
curl -s -w '\n' {api}v1/analyses/{CALL} -H "Authorization: Bearer $TOKEN" -H "Prefer: wait=30"

# 3. Read the transcript
curl -s "{api}v1/analyses/{CALL}/transcript?format=text" -H "Authorization: Bearer $TOKEN"

# 4. See the metrics
curl -s {admin}metrics | grep -E "^alovoice_gateway_(analyses|events_total|vendor_request_duration_seconds_count|callback_attempt_duration_seconds_count)"

README.md and docs/ continue from here. Ctrl-C ends the sandbox.

"#
    )
}
