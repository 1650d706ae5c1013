//! The sandbox as a newcomer uses it: the commands that it prints work unchanged.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use alovoice_gateway::auth::DevelopmentToken;
use alovoice_gateway::callbacks::{SignedHeaders, verify};
use alovoice_gateway::domain::clock::{Clock, SystemClock};
use alovoice_gateway::domain::ids::TenantId;
use alovoice_gateway::domain::secrets::CallbackSecret;
use jsonwebtoken::Algorithm;

use crate::gateway::{Gateway, within};
use crate::stage::Stage;

const PORTS: [&str; 6] =
    ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--vendor-listen", "127.0.0.1:0"];

/// A running sandbox and the text that it printed at its start.
pub(crate) struct Sandbox {
    pub(crate) process: Gateway,
    welcome: Vec<String>,
}

impl Sandbox {
    pub(crate) async fn start(stage: &Stage) -> Self {
        Self::start_with(stage, &[]).await
    }

    /// Starts a sandbox with its files in this folder.
    pub(crate) async fn start_in(stage: &Stage, folder: &Path) -> Self {
        Self::start_with(stage, &["--data-dir", folder.to_str().unwrap()]).await
    }

    async fn start_with(stage: &Stage, arguments: &[&str]) -> Self {
        let process = Gateway::start(stage.command(&[&["sandbox"] as &[_], &PORTS, arguments].concat()));
        process.stdout.line("the end of the welcome", |line| line.contains("Ctrl-C ends")).await;
        let welcome = process.stdout.so_far();
        Self { process, welcome }
    }

    fn line(&self, start: &str) -> &str {
        let line = self.welcome.iter().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no line begins with {start:?}:\n{}", self.welcome.join("\n")))
    }

    pub(crate) fn token(&self) -> &str {
        self.line("TOKEN=").strip_prefix("TOKEN=").unwrap()
    }

    /// Address of the API, without the slash at the end.
    pub(crate) fn base(&self) -> &str {
        self.swagger_ui().strip_suffix("/swagger-ui/").unwrap()
    }

    /// Address of metrics and probes, without the slash at the end.
    pub(crate) fn admin(&self) -> &str {
        let metrics = self.commands().into_iter().find(|line| line.contains("/metrics")).unwrap();
        metrics.split_whitespace().find_map(|word| word.strip_suffix("/metrics")).unwrap()
    }

    /// The lines that set `TOKEN`, `CALLBACK_SECRET`, `VENDOR_TOKEN` and `CRM` in a shell.
    pub(crate) fn variables(&self) -> String {
        ["TOKEN=", "CALLBACK_SECRET=", "VENDOR_TOKEN=", "CRM="]
            .map(|name| format!("{}\n", self.line(name)))
            .concat()
    }

    /// Address of the stand-in for AloVoice, without the slash at the end.
    pub(crate) fn vendor(&self) -> &str {
        let word = self.line("AloVoice").split_whitespace().find(|word| word.starts_with("http"));
        word.unwrap().trim_end_matches('/')
    }

    /// Creates a token with these scopes for a sandbox with its files in this folder.
    pub(crate) fn token_with(folder: &Path, scopes: &str) -> String {
        let tenant = TenantId::parse("demo").unwrap();
        let token = DevelopmentToken {
            algorithm: Algorithm::HS256,
            issuer: "https://issuer.sandbox.invalid",
            audience: "alovoice-gateway",
            tenant_claim: "tenant",
            tenant: &tenant,
            scope_claim: "scope",
            scopes,
            subject: None,
            lifetime: Duration::from_secs(3600),
        };
        let secret = std::fs::read(folder.join("hmac-secret")).unwrap();
        token.mint(&secret, SystemClock.now()).unwrap()
    }

    pub(crate) fn swagger_ui(&self) -> &str {
        self.line("Swagger UI").split_whitespace().find(|word| word.starts_with("http")).unwrap()
    }

    /// Printed commands, in order.
    fn commands(&self) -> Vec<&str> {
        self.welcome.iter().map(String::as_str).filter(|line| line.starts_with("curl ")).collect()
    }

    /// Runs a command after the line that sets the token.
    async fn paste(&self, command: &str) -> String {
        let script = format!("{}\n{command}\n", self.line("TOKEN="));
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env_remove("http_proxy").env("no_proxy", "*");
        let output = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}\n{stderr}\nIs curl on this machine?");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test]
async fn the_printed_commands_work_unchanged() {
    let stage = Stage::set_up().await;
    let sandbox = Sandbox::start(&stage).await;
    let [submit, wait, transcript, metrics] = sandbox.commands().try_into().unwrap();

    let before = sandbox.paste(metrics).await;
    let submitted = sandbox.paste(submit).await;
    assert!(submitted.starts_with("HTTP/1.1 202 Accepted\r\n"), "{submitted}");
    let analysis: serde_json::Value = serde_json::from_str(&sandbox.paste(wait).await).unwrap();
    assert_eq!(analysis["status"], "completed");
    let transcript = sandbox.paste(transcript).await;
    assert!(transcript.starts_with("[0:00:01] Operator: "), "{transcript}");

    let output =
        sandbox.process.stdout.line("the line of the receiver", |line| line.starts_with("receiver:")).await;
    assert!(output.contains("analysis.completed, call 1716207600.1,"), "{output}");
    assert!(output.ends_with("signature verified"), "{output}");
    let completed = "alovoice_gateway_events_total{tenant=\"demo\",type=\"analysis.completed\"}";
    assert!(before.contains(&format!("{completed} 0\n")), "{before}");
    let after = sandbox.paste(metrics).await;
    assert!(after.contains(&format!("{completed} 1\n")), "{after}");
    assert!(after.contains("alovoice_gateway_vendor_request_duration_seconds_count"), "{after}");

    sandbox.process.stop().await;
    let left_behind: Vec<_> = std::fs::read_dir(stage.home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("sandbox"))
        .collect();
    assert!(left_behind.is_empty(), "{left_behind:?}");
}

#[tokio::test]
async fn a_data_dir_keeps_the_secrets_between_runs() {
    let stage = Stage::set_up().await;
    let folder = tempfile::tempdir().unwrap();
    let secrets = || {
        ["hmac-secret", "vendor-token", "callback-secret", "encryption-key", "forward-secret"]
            .map(|name| std::fs::read(folder.path().join(name)).unwrap())
    };
    let first = Sandbox::start_in(&stage, folder.path()).await;
    let (token, before) = (first.token().to_owned(), secrets());
    first.process.stop().await;
    let second = Sandbox::start_in(&stage, folder.path()).await;
    assert_eq!(secrets(), before);
    let list = format!(
        "curl -sS -o /dev/null -w '%{{http_code}}' -H 'Authorization: Bearer {token}' {}/v1/webhooks",
        second.base()
    );
    assert_eq!(second.paste(&list).await, "200", "a token of the first is good at the second");
}

#[tokio::test]
async fn events_are_forwarded_to_the_receiver_of_the_integrator() {
    let stage = Stage::set_up().await;
    let folder = tempfile::tempdir().unwrap();
    let start = async |answer: &str| {
        let url = stage.receiver.hook(answer).to_string();
        let folder = folder.path().to_str().unwrap();
        Sandbox::start_with(&stage, &["--data-dir", folder, "--forward-to", &url]).await
    };
    let forwarded = async |sandbox: &Sandbox| {
        sandbox.process.stdout.line("a forwarded event", |line| line.starts_with("forward:")).await
    };
    // The receiver answers 410, which disables the webhook.
    let first = start("410").await;
    first.paste(first.commands()[0]).await;
    let line = forwarded(&first).await;
    assert!(line.starts_with("forward: analysis.completed, call 1716207600.1, webhook-id evt_"), "{line}");
    assert!(line.contains(", attempt 1: the receiver answered 410"), "{line}");
    assert!(line.ends_with("; the webhook is disabled"), "{line}");
    let secret = first.line("FORWARD_SECRET=").to_owned();
    first.process.stop().await;

    // The next sandbox with the same data enables the webhook at the new address.
    let second = start("ok").await;
    let line = forwarded(&second).await;
    assert!(line.ends_with(", attempt 2: delivered with status 200"), "{line}");
    assert_eq!(second.line("FORWARD_SECRET="), secret);
    second.process.stop().await;
    let received = within("a request", stage.receiver.wait_for(|all| all.len() == 2)).await.pop().unwrap();
    let header = |name| received.header(name).unwrap();
    let signed = SignedHeaders {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    let secret = CallbackSecret::parse(secret.strip_prefix("FORWARD_SECRET=").unwrap()).unwrap();
    verify(&[secret], signed, &received.body, SystemClock.now()).unwrap();

    let third = Sandbox::start_in(&stage, folder.path()).await;
    let list = format!("curl -sS -H \"Authorization: Bearer $TOKEN\" {}/v1/webhooks", third.base());
    let webhooks: serde_json::Value = serde_json::from_str(&third.paste(&list).await).unwrap();
    let webhooks = webhooks["webhooks"].as_array().unwrap();
    assert_eq!((webhooks.len(), &webhooks[0]["enabled"]), (1, &serde_json::json!(false)), "{webhooks:?}");
}

#[tokio::test]
async fn a_taken_address_is_reported_with_its_flag() {
    let stage = Stage::set_up().await;
    let taken = stage.vendor.base_url().socket_addrs(|| None).unwrap()[0].to_string();
    let mut arguments = ["sandbox"].to_vec();
    arguments.extend(PORTS);
    *arguments.last_mut().unwrap() = &taken;
    let output = stage.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let output = String::from_utf8(output.stderr).unwrap();
    assert!(output.contains(&taken) && output.contains("--vendor-listen"), "{output}");
}
