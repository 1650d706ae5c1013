//! A client: it submits calls, retries until a replica acknowledges them, and reads acknowledged calls.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::calls::Call;
use super::fleet::Addresses;
use crate::crash::ledger::Ledger;
use crate::stage::{SCOPES, Stage};

/// Client timeouts. The short one is used for most requests. The long one is longer than any timeout of the gateway.
const TIMEOUTS: [Duration; 2] = [Duration::from_millis(1500), Duration::from_secs(12)];
/// Pause before the next request of a client.
const PAUSE: Duration = Duration::from_millis(50);

/// Number of requests by outcome.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RequestCounts {
    pub(super) good: usize,
    /// Answered with 503.
    pub(super) refused: usize,
    /// Ended without a response.
    pub(super) failed: usize,
    pub(super) acknowledged: usize,
}

impl RequestCounts {
    pub(super) fn all(&self) -> usize {
        self.good + self.refused + self.failed
    }

    pub(super) fn refused(&self) -> usize {
        self.refused
    }
}

/// State that the clients share.
pub(super) struct ClientContext {
    pub(super) stage: Arc<Stage>,
    client: Client,
    token: String,
    addresses: Addresses,
    pub(super) ledger: Mutex<Ledger>,
    /// Calls that a client has seen completed.
    completed: Mutex<BTreeSet<String>>,
    pub(super) counts: watch::Sender<RequestCounts>,
    pub(super) over: CancellationToken,
}

impl ClientContext {
    pub(super) fn new(stage: &Arc<Stage>, addresses: Addresses) -> Arc<Self> {
        Arc::new(Self {
            stage: stage.clone(),
            client: Client::builder().no_proxy().build().unwrap(),
            token: stage.lasting_token(SCOPES),
            addresses,
            ledger: Mutex::default(),
            completed: Mutex::default(),
            counts: watch::Sender::default(),
            over: CancellationToken::new(),
        })
    }

    /// The address of a random running replica.
    async fn any_replica(&self, random: &mut StdRng) -> Url {
        let mut addresses = self.addresses.clone();
        let addresses = addresses.wait_for(|addresses| !addresses.is_empty()).await.unwrap();
        addresses.values().choose(random).unwrap().clone()
    }

    /// Sends a request to a random replica. `None` if there is no response, or if the replica refused to read the request: 503
    /// while it cannot serve, and 408 if the head took too long on a busy machine.
    async fn ask(&self, random: &mut StdRng, method: Method, path: &str, body: Value) -> Option<Value> {
        let url = self.any_replica(random).await.join(path).unwrap();
        let timeout = TIMEOUTS[usize::from(random.random_bool(0.1))];
        let mut request = self.client.request(method, url).bearer_auth(&self.token).timeout(timeout);
        if body.is_object() {
            request = request.header("content-type", "application/json").body(body.to_string());
        } else if random.random_bool(0.5) {
            request = request.header("prefer", "wait=1");
        }
        let answer = async {
            let answer = request.send().await.ok()?;
            Some((answer.status().as_u16(), answer.bytes().await.ok()?))
        };
        let answer = answer.await;
        self.counts.send_modify(|counts| match answer {
            Some((200 | 202, _)) => counts.good += 1,
            Some((408 | 503, _)) => counts.refused += 1,
            Some((status, ref body)) => panic!("{status} for {path}: {}", String::from_utf8_lossy(body)),
            None => counts.failed += 1,
        });
        let (status, body) = answer?;
        (status < 400).then(|| serde_json::from_slice(&body).unwrap())
    }

    pub(super) async fn submit(self: Arc<Self>, call: Call, mut random: StdRng) {
        let mut hook = self.stage.receiver.hook(&format!("{}/{}", call.answer, call.id));
        hook.set_ip_host(call.receiver.into()).unwrap();
        let body = json!({"call_id": call.id, "callback": {"url": hook}});
        while self.ask(&mut random, Method::POST, "v1/analyses", body.clone()).await.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
        let mut ledger = self.ledger.lock().unwrap();
        ledger.acknowledged(&call.id);
        self.counts.send_modify(|counts| counts.acknowledged = ledger.all_acknowledged().len());
    }

    /// Mostly reads acknowledged calls, and sometimes submits another call.
    pub(super) async fn work(self: Arc<Self>, number: u64, mut random: StdRng) {
        for turn in 0.. {
            if self.over.is_cancelled() {
                return;
            }
            if random.random_bool(0.2) {
                let call = Call::choose(&format!("client-{number}-{turn}"), &mut random);
                self.ledger.lock().unwrap().sent(&call.id);
                self.clone().submit(call, StdRng::seed_from_u64(random.random())).await;
            } else {
                self.read(&mut random).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads an acknowledged call. Every replica must know it, and a completed call must stay completed.
    async fn read(&self, random: &mut StdRng) {
        let call_id = self.ledger.lock().unwrap().all_acknowledged().iter().choose(random).cloned();
        let Some(call_id) = call_id else { return };
        let was_completed = self.completed.lock().unwrap().contains(&call_id);
        let path = format!("v1/analyses/{call_id}");
        if let Some(analysis) = self.ask(random, Method::GET, &path, Value::Null).await {
            let is_completed = analysis["status"] == "completed";
            assert!(is_completed || !was_completed, "{call_id} was completed before: {analysis}");
            if is_completed {
                self.completed.lock().unwrap().insert(call_id);
            }
        }
    }
}
