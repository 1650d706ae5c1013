//! `alovoice-gateway sandbox` runs the gateway, a stand-in for AloVoice, a development issuer, a receiver of callbacks and
//! stand-ins for CRMs in one process. It needs no settings and no account.

mod forwarding;
mod home;

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::forwarding::{Forwarding, OwnApi};
use self::home::{
    AUDIENCE, CALLBACK_SECRET, ENCRYPTION_KEY, HMAC_SECRET, Home, ISSUER, Secrets, TENANT, VENDOR_TOKEN,
    tenant_id,
};
use super::arguments::SandboxArgs;
use super::{Failed, variable};
use crate::app::{self, Gateway};
use crate::callbacks::{SignedHeaders, verify};
use crate::config::{self, Settings};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::{Clock, SystemClock, SystemEntropy};
use crate::domain::secrets::CallbackSecret;
use crate::http_client::Network;
use crate::sandbox::crm::CrmStandIns;
use crate::sandbox::receiver::{ChooseAnswer, OnReceived, Received, Receiver, ReceiverOptions};
use crate::sandbox::stand_in::{Ready, VendorOptions, VendorStandIn};
use crate::telemetry::Telemetry;

/// Id of the call in the printed commands. README and handbook use other ids, so a reader who tries all commands gets
/// 202 for each call.
const CALL: &str = "1716207600.1";
/// Networks to which the gateway may send callbacks: this machine.
const LOOPBACK: &str = "127.0.0.0/8,::1/128";
/// Private networks that may contain the receiver of `--forward-to`.
const PRIVATE: &str = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7";
/// Time that the stand-in takes for an analysis.
const PROCESSING: Duration = Duration::from_secs(4);

/// Runs the sandbox until the future `stop` ends.
///
/// # Errors
/// Returns an error if an address is taken or the data directory cannot be written.
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
    let api = OwnApi { url: gateway.api(), token: &token };
    let target = arguments.forward_to.as_ref();
    let subject = (gateway.store(), tenant_id()?);
    let forwarding = Forwarding::set_up(subject, api, target, &secrets.forward).await?;
    let welcome = welcome(&gateway, &vendor, &receiver, (&token, target), &secrets);
    write!(io::stdout(), "{welcome}").map_err(Failed::fault)?;

    match forwarding {
        Some(forwarding) => {
            tokio::select! {
                () = forwarding.watch() => {}
                () = stop => {}
            }
        }
        None => stop.await,
    }
    gateway.drain().await;
    vendor.stop().await;
    receiver.stop().await;
    Ok(())
}

fn cannot_listen(flag: &str, address: SocketAddr, error: &io::Error) -> Failed {
    Failed::fault(format!("cannot listen on {address}: {error}; choose another address with {flag}"))
}

/// Builds the settings of the sandbox from environment variables, so that they are checked like the settings of `serve`.
fn settings(arguments: &SandboxArgs, home: &Path, vendor: &VendorStandIn) -> Result<Settings, Failed> {
    let file = |name: &str| home.join(name).display().to_string();
    let tenant = |key: &str| format!("GATEWAY_TENANTS__{}__{key}", TENANT.to_uppercase());
    let issuer = |key: &str| format!("GATEWAY_AUTH__ISSUERS__0__{key}");
    let set = |key: &str, value: &str| (format!("GATEWAY_{key}"), value.to_owned());
    let networks = match arguments.forward_to {
        Some(_) => format!("{LOOPBACK},{PRIVATE}"),
        None => LOOPBACK.to_owned(),
    };
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
        set("CALLBACKS__ALLOW_NETWORKS", &networks),
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

/// Returns the function that answers requests to the paths of the CRMs. The function answers as the stand-in for the CRM, and
/// prints the new entry in the CRM or the error.
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

/// Returns the function that checks the signature of every callback, as a receiver should, and prints a line about the
/// callback.
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
        // The sandbox keeps running even if its standard output is closed.
        let _ = writeln!(io::stdout(), "receiver: {kind}, call {call_id}, webhook-id {id}, {verdict}");
    })
}

/// Returns the text that the sandbox prints when it is ready. Tests and readers rely on the lines `TOKEN=`,
/// `CALLBACK_SECRET=`, `VENDOR_TOKEN=`, `CRM=` and `FORWARD_SECRET=`.
fn welcome(
    gateway: &Gateway,
    vendor: &VendorStandIn,
    receiver: &Receiver,
    (token, target): (&str, Option<&CallbackUrl>),
    secrets: &Secrets,
) -> String {
    let (api, admin, vendor, hook) = (gateway.api(), gateway.admin(), vendor.base_url(), receiver.hook("ok"));
    let (Secrets { callback_text, vendor_token, forward, .. }, crm) = (secrets, receiver.base_url());
    let (forward_to, forward_secret) = match target {
        Some(url) => (
            format!(
                "Forward to   {}     (your receiver; signed with FORWARD_SECRET, a line for each attempt)\n",
                url.masked().as_str()
            ),
            format!("FORWARD_SECRET={forward}\n"),
        ),
        None => (String::new(), String::new()),
    };
    format!(
        r#"The sandbox is running.

Swagger UI   {api}swagger-ui/     (Authorize: paste the token)
Metrics      {admin}metrics
AloVoice     {vendor}     (stand-in; it invents the analyses)
Receiver     {hook}     (prints every callback here)
CRMs         {crm}crm     (stand-ins for Bitrix24, amoCRM, Zendesk, Jira and HubSpot; they print every entry here)
{forward_to}
Paste these lines into another terminal. The token belongs to the tenant "{TENANT}" and is valid for 8 hours.

TOKEN={token}
CALLBACK_SECRET={callback_text}
VENDOR_TOKEN={vendor_token}
CRM={crm}crm
{forward_secret}
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
