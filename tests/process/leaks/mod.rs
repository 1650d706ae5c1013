//! A run with many faults and all log levels (tens of megabytes). Afterwards, no log, response, trace or table contains a secret.

mod callers;
mod finder;

use std::collections::BTreeSet;
use std::fs;

use alovoice_gateway::sandbox::receiver::{Receiver, ReceiverOptions};
use alovoice_gateway::sandbox::stand_in::Behaviour;
use reqwest::RequestBuilder;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::callers::{refused_tokens, token_of};
use self::finder::Finder;
use crate::gateway::{Serving, within};
use crate::stage::{CALLBACK_SECRET, ENCRYPTION_KEY, HMAC_SECRET, Stage};

/// Vendor token with characters that are percent-encoded in a path.
const VENDOR_TOKEN: &str = "vendor/token+canary-7f3c9a51e0b2==";
/// Vendor token that the vendor refuses.
const REFUSED_VENDOR_TOKEN: &str = "refused/token+canary-0b7de2245c==";

/// Value of a webhook header.
const HEADER_VALUE: &str = "Bearer header-canary-5d1f0c77a9e4==";

/// Secret in the path and in the query of a webhook's URL, and in the query of callbacks' URLs.
const URL_SECRET: &str = "url-canary-8a2c6e10d4f7";

/// API key of the trace collector.
const COLLECTOR_KEY: &str = "collector-key-canary-41d8b6a90c2e==";

/// Behaviours of receivers, used in turn.
const RECEIVERS: [&str; 6] = ["ok", "redirect", "500-twice", "reset-twice", "410", "hang"];

#[tokio::test]
async fn no_secret_leaks_with_json_logs() {
    check_for_leaks("json").await;
}

#[tokio::test]
async fn no_secret_leaks_with_human_logs() {
    check_for_leaks("human").await;
}

async fn check_for_leaks(format: &str) {
    let mut stage = faulty_stage(format).await;
    // OTLP bodies contain strings without encoding, so the raw bodies can be searched.
    let collector = Receiver::start(ReceiverOptions::default()).await.unwrap();
    stage.set("TRACES__OTLP_ENDPOINT", collector.hook("ok").as_str());
    stage.set_file("TRACES__HEADERS_FILE", &format!("api-key: {COLLECTOR_KEY}"));
    let mut evidence = Evidence::default();
    let gateway = stage.serve().await;
    evidence.note_callers();
    register_webhooks(&stage, &gateway, &mut evidence).await;
    complete_every_behaviour(&stage, &gateway, &mut evidence).await;
    evidence.add_output(gateway).await;

    for (key, value) in [("DEADLINE", "1s"), ("NOT_FOUND_GRACE", "500ms")] {
        stage.set(&format!("VENDOR__POLLING__{key}"), value);
    }
    let gateway = stage.serve().await;
    fail_every_behaviour(&stage, &gateway, &mut evidence).await;
    read_webhooks(&stage, &gateway, &mut evidence).await;
    refuse_callers(&stage, &gateway, &mut evidence).await;
    let mistakes = [
        json!({"call_id": "private", "callback": {"url": "http://10.0.0.1/hook"}}),
        json!({"call_id": "userinfo", "callback": {"url": "https://user:password@crm.example/hook"}}),
        json!({"call_id": "../etc/passwd"}),
        json!({"call_id": "misspelt", "calback": {}}),
        json!([]),
    ];
    for body in mistakes {
        let request = stage.client.post(gateway.api.join("v1/analyses").unwrap());
        let request = request.header("content-type", "application/json").body(body.to_string());
        assert_eq!(evidence.ask(request.bearer_auth(evidence.token("acme"))).await.0, 422, "{body}");
    }
    for path in ["openapi.json", "swagger-ui/", "problems/unauthorized", "no/such/page"] {
        evidence.ask(stage.client.get(gateway.api.join(path).unwrap())).await;
    }
    for path in ["metrics", "livez"] {
        let page = evidence.ask(stage.client.get(gateway.admin.join(path).unwrap())).await;
        assert_eq!(page.0, 200);
    }
    evidence.texts.push(("an answer", gateway.readiness(&stage.client).await));
    evidence.add_files(&stage);
    evidence.add_output(gateway).await;
    evidence.add_traces(&collector);
    evidence.add_files(&stage);
    evidence.add_tables(&stage).await;
    evidence.check();
}

async fn faulty_stage(format: &str) -> Stage {
    let mut stage = Stage::with_vendor_token(VENDOR_TOKEN).await;
    for (key, value) in [
        ("LOG__FILTER", "trace"),
        ("LOG__FORMAT", format),
        ("VENDOR__REQUEST_TIMEOUT", "300ms"),
        ("VENDOR__MAX_RESPONSE_BYTES", "1MiB"),
        // Calls complete after temporary faults, also on a busy machine.
        ("VENDOR__POLLING__DEADLINE", "1h"),
        ("VENDOR__POLLING__NOT_FOUND_GRACE", "1h"),
        ("VENDOR__POLLING__EMPTY_GRACE", "100ms"),
        ("VENDOR__POLLING__SETTLE_AFTER", "50ms"),
        ("CALLBACKS__TIMEOUT", "300ms"),
        ("CALLBACKS__RETRY_SCHEDULE", "50ms,50ms"),
    ] {
        stage.set(key, value);
    }
    stage.set_file("TENANTS__GLOBEX__VENDOR_TOKEN_FILE", REFUSED_VENDOR_TOKEN);
    stage
}

/// Registers webhooks with headers. Only the responses that create a secret may contain it, so they are not searched.
async fn register_webhooks(stage: &Stage, gateway: &Serving, evidence: &mut Evidence) {
    let url = gateway.api.join("v1/webhooks").unwrap();
    let post = |url: reqwest::Url, body: Value, token: String| {
        let request = stage.client.post(url).header("content-type", "application/json");
        request.body(body.to_string()).bearer_auth(token)
    };
    evidence.finder.add("a webhook's header", HEADER_VALUE);
    evidence.finder.add("the secret of a URL", URL_SECRET);
    for receiver in ["ok", "500-twice", "410"] {
        let headers = json!({"Authorization": HEADER_VALUE, "X-Site": "tashkent"});
        let hook = stage.receiver.hook(&format!("{receiver}/rest/1/{URL_SECRET}/crm.deal.add"));
        let body = json!({"url": format!("{hook}?key={URL_SECRET}"), "headers": headers});
        let (status, answer, _) = answer_of(post(url.clone(), body, evidence.token("acme"))).await;
        assert_eq!(status, 201, "{answer}");
        let created: Value = serde_json::from_str(&answer).unwrap();
        let rotate =
            url.join(&format!("webhooks/{}/rotate-secret", created["id"].as_str().unwrap())).unwrap();
        let (status, answer, _) = answer_of(post(rotate, json!({}), evidence.token("acme"))).await;
        assert_eq!(status, 200, "{answer}");
        let rotated: Value = serde_json::from_str(&answer).unwrap();
        for made in [&created, &rotated] {
            let secret = made["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap();
            evidence.finder.add("a webhook's secret", secret);
        }
    }
    for mistake in [
        json!({"url": "http://10.0.0.1/", "headers": {"Authorization": HEADER_VALUE}}),
        json!({"url": 1, "headers": {"Authorization": HEADER_VALUE}}),
        json!({"url": stage.receiver.hook("ok"), "headers": {"Host": HEADER_VALUE}}),
        json!({"url": stage.receiver.hook("ok"), "headers": {"X-A": format!("{HEADER_VALUE}\r\n")}}),
        json!({"url": format!("http://10.0.0.1/{URL_SECRET}?{URL_SECRET}")}),
        json!({"url": format!("ftp://crm.example/{URL_SECRET}")}),
        json!({"url": [URL_SECRET]}),
        json!({"url": format!("http://{URL_SECRET}:password@crm.example/")}),
        json!({"url": format!("http://crm.example/{{{URL_SECRET}}}")}),
    ] {
        let request = post(url.clone(), mistake, evidence.token("acme"));
        assert_eq!(evidence.ask(request).await.0, 422);
    }
}

/// Reads all webhooks and deliveries.
async fn read_webhooks(stage: &Stage, gateway: &Serving, evidence: &mut Evidence) {
    for list in ["webhooks", "deliveries"] {
        let url = gateway.api.join(&format!("v1/{list}")).unwrap();
        let request = stage.client.get(url.clone()).bearer_auth(evidence.token("acme"));
        let (status, listed) = evidence.ask(request).await;
        assert_eq!(status, 200);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let things = listed[list].as_array().unwrap();
        assert!(things.len() >= 3, "{list}");
        for thing in things {
            let path = format!("{url}/{}", thing["id"].as_str().unwrap());
            let request = stage.client.get(path).bearer_auth(evidence.token("acme"));
            assert_eq!(evidence.ask(request).await.0, 200);
        }
    }
}

type TenantCall = (&'static str, String);

/// Submits a call with every temporary behaviour of the vendor, and waits until each has its result or is rejected.
async fn complete_every_behaviour(stage: &Stage, gateway: &Serving, evidence: &mut Evidence) {
    let behaviours = Behaviour::ALL.iter().filter(|behaviour| **behaviour != Behaviour::NeverReady);
    let calls: Vec<_> = behaviours.map(|behaviour| ("acme", format!("{}~1", behaviour.name()))).collect();
    submit(stage, gateway, evidence, &calls).await;
    let completed = read_when_over(stage, gateway, evidence, calls.clone()).await;
    // If a rejection arrives after the time limit, the next request is not rejected.
    for (_, call_id) in &calls {
        let may_fail = ["result-400~1", "submit-400~1"].contains(&call_id.as_str());
        assert!(may_fail || completed.contains(call_id), "{call_id}");
    }
}

/// Submits a call with every permanent behaviour of the vendor, and asks for calls that were never submitted. The deadline ends
/// the calls that do not complete.
async fn fail_every_behaviour(stage: &Stage, gateway: &Serving, evidence: &mut Evidence) {
    let names = || Behaviour::ALL.iter().map(|behaviour| behaviour.name());
    let mut calls: Vec<_> = names().map(|name| ("acme", format!("{name}-forever~1"))).collect();
    calls.extend([("acme", "never-ready~1".to_owned()), ("globex", "refused".to_owned())]);
    submit(stage, gateway, evidence, &calls).await;
    calls.extend(names().map(|name| ("acme", format!("known-{name}~2"))));
    read_when_over(stage, gateway, evidence, calls).await;
    let callbacks = stage.receiver.wait_for(|received| received.len() > Behaviour::ALL.len());
    within("many callbacks", callbacks).await;
}

async fn submit(stage: &Stage, gateway: &Serving, evidence: &mut Evidence, calls: &[TenantCall]) {
    for (number, (tenant, call_id)) in calls.iter().enumerate() {
        let hook = stage.receiver.hook(&format!("{}/{call_id}", RECEIVERS[number % RECEIVERS.len()]));
        let mut body = json!({"call_id": call_id, "metadata": {"number": number}});
        if *tenant == "acme" {
            body["callback"] = json!({"url": format!("{hook}?key={URL_SECRET}")});
        }
        let request = stage.client.post(gateway.api.join("v1/analyses").unwrap());
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = evidence.ask(request.bearer_auth(evidence.token(tenant))).await;
        assert_eq!(answer.0, 202, "{call_id}: {}", answer.1);
    }
}

/// Waits until the calls are over, and reads every representation of each. Returns the calls that are completed. A call that was
/// never submitted can also be unknown, or the vendor can fail.
async fn read_when_over(
    stage: &Stage,
    gateway: &Serving,
    evidence: &mut Evidence,
    calls: Vec<TenantCall>,
) -> BTreeSet<String> {
    let mut endings = JoinSet::new();
    for (tenant, call_id) in calls {
        let url = gateway.api.join(&format!("v1/analyses/{call_id}")).unwrap();
        let requests = ["", "/transcript", "/vendor-answer"].map(|part| {
            let request = stage.client.get(format!("{url}{part}")).header("prefer", "wait=60");
            request.bearer_auth(evidence.token(tenant))
        });
        endings.spawn(async move {
            let mut answers = Vec::new();
            for request in requests {
                loop {
                    answers.push(answer_of(request.try_clone().unwrap()).await);
                    let status = |status: &str| answers[0].1.contains(&format!("\"status\":\"{status}\""));
                    if status("completed") || status("failed") || call_id.starts_with("known-") {
                        break;
                    }
                    answers.pop();
                }
            }
            (call_id, answers)
        });
    }
    let mut completed = BTreeSet::new();
    while let Some(ending) = within("the end of every call", endings.join_next()).await {
        let (call_id, answers) = ending.unwrap();
        let analysis: Value = serde_json::from_str(&answers[0].1).unwrap();
        if analysis["status"] == "completed" {
            completed.insert(call_id);
        }
        evidence
            .texts
            .extend(answers.into_iter().map(|answer| ("an answer", format!("{}\n{}", answer.2, answer.1))));
    }
    completed
}

async fn refuse_callers(stage: &Stage, gateway: &Serving, evidence: &mut Evidence) {
    let url = gateway.api.join("v1/analyses/documented~1").unwrap();
    for (token, status) in refused_tokens() {
        evidence.finder.add_plain("a refused token", &token);
        if let Some(signature) = token.rsplit('.').next().filter(|signature| signature.len() > 20) {
            evidence.finder.add_plain("a refused token's signature", signature);
        }
        let Ok(header) = HeaderValue::from_bytes(format!("Bearer {token}").as_bytes()) else { continue };
        let answer = evidence.ask(stage.client.get(url.clone()).header("authorization", header)).await;
        assert_eq!(answer.0, status, "{}", answer.1);
    }
    let good = evidence.token("acme");
    let request = || stage.client.get(url.clone());
    for (request, status) in [
        (request().header("authorization", format!("Basic {good}")), 401),
        (request().bearer_auth(&good).bearer_auth(&good), 401),
        (request(), 401),
        (stage.client.get(format!("{url}?access_token={good}")).bearer_auth(&good), 422),
        (request().header("x-request-id", "request-1").bearer_auth(&good), 200),
    ] {
        assert_eq!(evidence.ask(request).await.0, status);
    }
}

/// All output of the gateway, and the secrets that must not be in it.
#[derive(Default)]
struct Evidence {
    finder: Finder,
    texts: Vec<(&'static str, String)>,
    tokens: Vec<(&'static str, String)>,
}

impl Evidence {
    fn note_callers(&mut self) {
        self.finder.add("the vendor token", VENDOR_TOKEN);
        self.finder.add("the refused vendor token", REFUSED_VENDOR_TOKEN);
        self.finder.add("the HMAC secret", HMAC_SECRET);
        self.finder.add("the callback secret", CALLBACK_SECRET.strip_prefix("whsec_").unwrap());
        self.finder.add("the encryption key", ENCRYPTION_KEY);
        self.finder.add("the collector's key", COLLECTOR_KEY);
        self.finder.add("the callback secret's bytes", "callback-secret-canary-0123456789");
        for tenant in ["acme", "globex"] {
            let token = token_of(tenant);
            self.finder.add_plain("a good token", &token);
            self.finder.add_plain("a good token's signature", token.rsplit('.').next().unwrap());
            self.tokens.push((tenant, token));
        }
    }

    fn token(&self, tenant: &str) -> String {
        self.tokens.iter().find(|(name, _)| *name == tenant).unwrap().1.clone()
    }

    /// Sends a request and keeps the response for the search.
    async fn ask(&mut self, request: RequestBuilder) -> (u16, String) {
        let (status, body, head) = answer_of(request).await;
        self.texts.push(("an answer", format!("{head}\n{body}")));
        (status, body)
    }

    /// Stops the gateway, and adds its log and standard output.
    async fn add_output(&mut self, gateway: Serving) {
        gateway.process.terminate();
        let logs = gateway.process.stderr.whole().await;
        assert!(
            logs.contains("hyper_util") && logs.contains("TRACE"),
            "the log filter must record everything"
        );
        self.texts.push(("the log", logs));
        self.texts.push(("standard output", gateway.process.stdout.whole().await));
    }

    /// Adds the raw bytes of the store's files.
    fn add_files(&mut self, stage: &Stage) {
        let before = self.texts.len();
        for entry in fs::read_dir(stage.home.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("gateway.db") {
                let bytes = fs::read(&path).unwrap();
                self.texts.push(("a file of the store", String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
        assert!(self.texts.len() > before);
    }

    /// Adds the bodies that the collector received. Its headers contain its key on purpose.
    fn add_traces(&mut self, collector: &Receiver) {
        let received = collector.received();
        assert!(received.iter().all(|request| request.header("api-key") == Some(COLLECTOR_KEY)));
        let bodies = received.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned());
        let traces = bodies.collect::<Vec<_>>().join("\n");
        for expected in
            ["submit call", "poll result", "deliver callback", "documented~1", "/v1/analyses/{call_id}"]
        {
            assert!(traces.contains(expected), "no span contains {expected}");
        }
        self.texts.push(("a span", traces));
    }

    async fn add_tables(&mut self, stage: &Stage) {
        self.texts.extend(stage.store.texts().await.into_iter().map(|text| ("a column", text)));
    }

    fn check(&self) {
        let mut found: Vec<String> = Vec::new();
        for (place, text) in &self.texts {
            found.extend(self.finder.find(text).into_iter().map(|leak| format!("{place}: {leak}")));
        }
        found.truncate(20);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

async fn answer_of(request: RequestBuilder) -> (u16, String, String) {
    let answer = within("an answer", request.send()).await.unwrap();
    let (status, head) = (answer.status(), lines_of(answer.headers()));
    (status.as_u16(), answer.text().await.unwrap(), head)
}

fn lines_of(headers: &HeaderMap) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {value:?}\n")).collect()
}
