//! A normal tenant: it submits calls, waits for them, reads, lists and searches, and follows its events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alovoice_gateway::domain::clock::{Clock, SystemClock, Timestamp};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Soak;
use crate::gateway::within;
use crate::stage::SCOPES;

/// Pause between two calls of a tenant.
const PAUSE: Duration = Duration::from_millis(700);
/// Time after the last submission in which its event must come.
const LAST_EVENTS: Duration = Duration::from_secs(60);

/// A normal tenant with its acknowledged calls.
pub(super) struct Caller {
    soak: Arc<Soak>,
    pub(super) tenant: String,
    pub(super) acknowledged: Vec<String>,
    /// Number of events on the stream, by call.
    pub(super) streamed: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Caller {
    pub(super) fn new(soak: &Arc<Soak>, tenant: String) -> Self {
        Self { soak: soak.clone(), tenant, acknowledged: Vec::new(), streamed: Arc::default() }
    }

    /// Runs until the soak is over and every acknowledged call is completed.
    pub(super) async fn run(mut self) -> Self {
        let stream = tokio::spawn(follow(self.soak.clone(), self.tenant.clone(), self.streamed.clone()));
        let mut waits = JoinSet::new();
        for number in 0.. {
            if self.soak.over.is_cancelled() {
                break;
            }
            let call_id = format!("{}-{number}", self.tenant);
            self.submit(&call_id).await;
            self.acknowledged.push(call_id.clone());
            waits.spawn(complete(self.soak.clone(), self.tenant.clone(), call_id.clone()));
            for (operation, path) in [
                ("get", format!("v1/analyses/{call_id}")),
                ("list", "v1/analyses?limit=20".to_owned()),
                ("search", "v1/analyses?q=rahmat&limit=20".to_owned()),
            ] {
                self.soak.get(&self.tenant, operation, &path).await;
            }
            sleep(PAUSE).await;
        }
        within("the last calls of a tenant", waits.join_all()).await;
        let has_all = async {
            while self.streamed.lock().unwrap().len() < self.acknowledged.len() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        // `outcome` reports missing events.
        let _ = timeout(LAST_EVENTS, has_all).await;
        stream.abort();
        self
    }

    /// Submits a call until it is acknowledged.
    async fn submit(&self, call_id: &str) {
        let body = self.soak.stage.submission(call_id).to_string();
        let submit = || {
            let request = self.soak.request(&self.tenant, Method::POST, "v1/analyses");
            request.header("content-type", "application/json").body(body.clone())
        };
        while self.soak.ask("submit", submit()).await.is_none() {
            sleep(PAUSE).await;
        }
    }
}

impl Soak {
    pub(super) fn request(&self, tenant: &str, method: Method, path: &str) -> RequestBuilder {
        let token = self.stage.token_of(tenant, &format!("{SCOPES} audio:read"));
        self.stage.client.request(method, self.gateway.api.join(path).unwrap()).bearer_auth(token)
    }

    pub(super) async fn get(&self, tenant: &str, operation: &'static str, path: &str) -> Option<Value> {
        self.ask(operation, self.request(tenant, Method::GET, path)).await
    }

    /// Sends a request and records how long it took. Returns `None` if it was refused or had no answer.
    async fn ask(&self, operation: &'static str, request: RequestBuilder) -> Option<Value> {
        let began = Instant::now();
        let answer = async {
            let answer = request.send().await?;
            Ok::<_, reqwest::Error>((answer.status(), answer.bytes().await?))
        };
        match answer.await {
            Ok((status, body)) if status.is_success() => {
                self.report.answered(operation, began.elapsed());
                return Some(serde_json::from_slice(&body).unwrap());
            }
            Ok((_, body)) => self.report.refused(operation, &detail_of(&body)),
            Err(error) => self.report.refused(operation, &format!("{error:?}")),
        }
        None
    }
}

/// Waits until a call is completed.
async fn complete(soak: Arc<Soak>, tenant: String, call_id: String) {
    let began = Instant::now();
    let path = format!("v1/analyses/{call_id}");
    loop {
        let request = soak.request(&tenant, Method::GET, &path).header("prefer", "wait=30");
        match soak.ask("wait for 30 s", request).await {
            Some(analysis) if analysis["status"] == "completed" => break,
            // `outcome` reports calls that failed.
            Some(analysis) if analysis["status"] == "failed" => return,
            Some(_) => {}
            None => sleep(PAUSE).await,
        }
    }
    soak.report.answered("submission to completion", began.elapsed());
}

/// Follows the event stream of a tenant, and continues where it ended.
async fn follow(soak: Arc<Soak>, tenant: String, streamed: Arc<Mutex<BTreeMap<String, usize>>>) {
    let mut last = None;
    loop {
        let from = if last.is_none() { "v1/events?after=earliest" } else { "v1/events" };
        let mut request = soak.request(&tenant, Method::GET, from).header("accept", "text/event-stream");
        if let Some(last) = &last {
            request = request.header("last-event-id", last);
        }
        match request.send().await {
            Ok(stream) if stream.status().is_success() => read(&soak, stream, &mut last, &streamed).await,
            Ok(refusal) => {
                let body = refusal.bytes().await.unwrap_or_default();
                soak.report.refused("event stream", &detail_of(&body));
            }
            Err(error) => soak.report.refused("event stream", &format!("{error:?}")),
        }
        sleep(PAUSE).await;
    }
}

/// Reads a stream to its end.
async fn read(
    soak: &Soak,
    mut stream: Response,
    last: &mut Option<String>,
    streamed: &Mutex<BTreeMap<String, usize>>,
) {
    let mut unread = Vec::new();
    while let Ok(Some(chunk)) = stream.chunk().await {
        unread.extend_from_slice(&chunk);
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let line = String::from_utf8(line).unwrap();
            if let Some(id) = line.strip_prefix("id: ") {
                *last = Some(id.trim().to_owned());
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let event: Value = serde_json::from_str(data).unwrap();
            if event["type"] == json!("analysis.completed") {
                let call_id = event["data"]["call_id"].as_str().unwrap().to_owned();
                *streamed.lock().unwrap().entry(call_id).or_default() += 1;
                soak.report.answered("event to stream", SystemClock.now().since(time_of(&event)));
            }
        }
    }
}

/// Returns the detail of a problem, or the body of another answer.
fn detail_of(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    problem["detail"].as_str().map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned)
}

/// Returns the time of an event.
pub(super) fn time_of(event: &Value) -> Timestamp {
    serde_json::from_value(event["timestamp"].clone()).unwrap()
}
