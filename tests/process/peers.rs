//! Checks of the gateway with third-party tools. `tests/tools` installs the tools.

mod alphabets;
mod document;
mod renderings;
mod talk_metrics;
mod transcripts;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::gateway::within;
use crate::sandbox::Sandbox;
use crate::stage::{AUDIENCE, CALLBACK_SECRET, SCOPES, Stage, send};

/// Maximum height, in pixels, of an open operation in Swagger UI before its execution.
const MAX_OPERATION_HEIGHT: f64 = 3_000.0;
const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// The folder into which `tests/tools` installs.
pub(crate) fn tools() -> PathBuf {
    Path::new(PROJECT).join("target/tools")
}

/// The path of an installed tool.
fn tool(name: &str) -> PathBuf {
    let path = tools().join(name);
    assert!(path.exists(), "{} is missing: run tests/tools first", path.display());
    path
}

/// A command that runs a script of `tests/peers` with the installed Python.
pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new(tool("python/bin/python"));
    command.arg(Path::new(PROJECT).join("tests/peers").join(script));
    command
}

/// A command that runs a script of `tests/browser`, which starts a browser.
pub(crate) fn browser(script: &str) -> Command {
    let mut command = Command::new(tool("node"));
    command.arg(Path::new(PROJECT).join("tests/browser").join(script));
    command.env("NODE_PATH", tool("browser/node_modules"));
    command
}

/// Runs a tool with `input` on its standard input, without blocking the vendor stand-in and the receiver.
pub(crate) async fn run(mut command: Command, input: impl Into<Vec<u8>>) -> Output {
    let input = input.into();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&input).unwrap();
        child.wait_with_output().unwrap()
    });
    within("the end of a tool", ended).await.unwrap()
}

/// Runs a command of the gateway's binary, and runs it again if it reports that a server was too slow.
pub(crate) async fn run_patiently(command: impl Fn() -> Command) -> Output {
    const SLOW: [&str; 3] = [" in time", "statement timeout", "no answer within"];
    let ended = async {
        loop {
            let output = run(command(), "").await;
            let message = String::from_utf8_lossy(&output.stderr);
            if !SLOW.iter().any(|slow| message.contains(slow)) {
                return output;
            }
        }
    };
    within("a command that no slow server ends", ended).await
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn standardwebhooks_for_python_verifies_a_callback() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    assert_eq!(stage.submit(&gateway, "1716207617.42").await.unwrap().status(), 202);
    let received = within("a callback", stage.receiver.next()).await;
    gateway.stop().await;

    let headers: serde_json::Map<_, _> =
        received.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let body = text(&received.body);
    let callback = json!({"secret": CALLBACK_SECRET, "headers": headers, "body": body});
    let output = run(python("verify_callback.py"), callback.to_string()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "analysis.completed 1716207617.42\n");

    let mut forged = callback;
    forged["body"] = json!(body.replace("1716207617.42", "1716207617.43"));
    let output = run(python("verify_callback.py"), forged.to_string()).await;
    assert!(text(&output.stderr).contains("WebhookVerificationError"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn promtool_accepts_the_metrics() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    assert_eq!(stage.submit(&gateway, "result-500~1").await.unwrap().status(), 202);
    stage.completed(&gateway, "result-500~1").await;
    within("a callback", stage.receiver.next()).await;
    assert_eq!(
        stage.client.get(gateway.api.join("v1/analyses/1").unwrap()).send().await.unwrap().status(),
        401
    );
    let page = stage.metrics(&gateway).await;
    assert!(page.contains("alovoice_gateway_token_rejections_total{"), "{page}");
    gateway.stop().await;

    let check = |page: String| async {
        let mut promtool = Command::new(tool("promtool"));
        promtool.args(["check", "metrics"]);
        let output = run(promtool, page).await;
        (output.status.success(), [text(&output.stdout), text(&output.stderr)].concat())
    };
    assert_eq!(check(page.clone()).await, (true, String::new()));
    let (is_good, report) = check(format!("{page}# TYPE Odd counter\nOdd 1\n")).await;
    assert!(!is_good && report.contains("Odd"), "{report}");
}

#[tokio::test]
async fn openapi_spec_validator_accepts_the_document() {
    let stage = Stage::set_up().await;
    let document = stage.command(&["openapi"]).output().unwrap().stdout;
    let output = run(python("validate_openapi.py"), document.clone()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));

    let mut broken: Value = serde_json::from_slice(&document).unwrap();
    broken["paths"]["/v1/analyses"]["post"]["responses"] = json!("none");
    let output = run(python("validate_openapi.py"), broken.to_string()).await;
    assert!(!output.status.success());
}

#[tokio::test]
async fn sseclient_reads_the_event_stream() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let calls = ["known-1", "known-2", "known-3"];
    for call in calls {
        assert!(stage.submit(&gateway, call).await.unwrap().status().is_success());
    }
    let url = gateway.api.join("v1/events?after=earliest").unwrap();
    let mut client = python("follow_events.py");
    client.args([url.as_str(), &stage.token(SCOPES), "3"]);
    let output = run(client, "").await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut call_ids: Vec<String> = Vec::new();
    for line in text(&output.stdout).lines() {
        let [id, kind, data] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!((event["id"].as_str(), event["type"].as_str()), (Some(id), Some(kind)));
        call_ids.push(event["data"]["call_id"].as_str().unwrap().to_owned());
    }
    call_ids.sort();
    assert_eq!(call_ids, calls);
    gateway.stop().await;
}

#[tokio::test]
async fn tokens_of_pyjwt_are_accepted() {
    let mut stage = Stage::set_up().await;
    let home = stage.home.path().to_str().unwrap().to_owned();
    let mut issuers = python("mint_tokens.py");
    issuers.args([&home, AUDIENCE, "acme", SCOPES, "a-secret-that-two-parties-share-0123456789"]);
    let output = run(issuers, "").await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let tokens: Value = serde_json::from_slice(&output.stdout).unwrap();

    let issuers = [
        ("rs256", "RS256", "PUBLIC_KEY_FILE", "rs256.pem"),
        ("es256", "ES256", "JWKS_FILE", "es256.json"),
        ("eddsa", "EdDSA", "PUBLIC_KEY_FILE", "eddsa.pem"),
        ("hs256", "HS256", "HMAC_SECRET_FILE", "hs256.txt"),
    ];
    for (number, (name, algorithm, source, file)) in (1..).zip(issuers) {
        let mut set = |key: &str, value: &str| stage.set(&format!("AUTH__ISSUERS__{number}__{key}"), value);
        set("ISSUER", &format!("https://{name}.test"));
        set("AUDIENCES", AUDIENCE);
        set("ALGORITHMS", algorithm);
        set(source, &format!("{home}/{file}"));
    }
    let gateway = stage.serve().await;
    for (name, status) in [("rs256", 200), ("es256", 200), ("eddsa", 200), ("hs256", 200), ("stranger", 401)]
    {
        let call = gateway.api.join("v1/analyses/known-1").unwrap();
        let request = stage.client.get(call).bearer_auth(tokens[name].as_str().unwrap());
        let answer = send(request).await.unwrap();
        assert_eq!(answer.status(), status, "{name}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn swagger_ui_executes_requests_in_a_browser() {
    let stage = Stage::set_up().await;
    let sandbox = Sandbox::start(&stage).await;
    let screenshot = Path::new(PROJECT).join("target/swagger-ui.png");
    let mut page = browser("swagger_ui.cjs");
    page.args([sandbox.swagger_ui(), sandbox.token(), "1716207617.42", "1716207618.43"])
        .arg(&screenshot)
        .env("HOME", stage.home.path());
    let output = run(page, "").await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&shown["get"], &shown["errors"]), (&json!("200"), &json!([])));
    assert_eq!(shown["title"], "AloVoice gateway API");
    assert!(shown["viewport"].as_str().is_some_and(|content| content.contains("width=device-width")));
    // A prefilled key would replay the first answer, or refuse the second call with 422.
    assert_eq!((&shown["key"], &shown["submits"]), (&json!(""), &json!(["202", "202"])));
    let height = shown["height"].as_f64().unwrap();
    assert!(height < MAX_OPERATION_HEIGHT, "submit_analysis is {height} pixels high");
    let body = shown["body"].as_str().unwrap();
    let analysis: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!((&analysis["call_id"], &analysis["status"]), (&json!("1716207617.42"), &json!("completed")));
    assert!(analysis["transcript"].as_array().is_some_and(|turns| !turns.is_empty()), "{body}");
    assert!(std::fs::read(&screenshot).unwrap().starts_with(b"\x89PNG"));
    sandbox.process.stop().await;
}
