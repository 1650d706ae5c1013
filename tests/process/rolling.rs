//! Rolling replacement of replicas behind a load balancer, without a failed request.

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::gateway::{Serving, within};
use crate::stage::{SCOPES, Stage};

const REPLICAS: usize = 3;
const CLIENTS: usize = 8;
/// Number of responses between two replacements.
const REQUESTS: usize = 150;
/// Time for which a replica still accepts requests after readiness is off. It is much longer than the ingress takes to notice, also on a
/// machine that pauses the ingress for a while. The test continues meanwhile.
const DELAY: &str = "30s";

/// A load balancer: distributes requests among the ready replicas in turn, without retries.
struct Ingress {
    client: Client,
    ready: watch::Sender<BTreeMap<usize, Url>>,
}

impl Ingress {
    /// Polls the readiness of a replica until the replica ends. The replica gets requests only while it is ready.
    async fn follow(self: Arc<Self>, number: usize, api: Url, admin: Url) {
        let readyz = admin.join("readyz").unwrap();
        while let Ok(answer) = self.client.get(readyz.clone()).send().await {
            self.ready.send_if_modified(|ready| match answer.status() {
                StatusCode::OK => ready.insert(number, api.clone()).is_none(),
                _ => ready.remove(&number).is_some(),
            });
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        self.ready.send_modify(|ready| drop(ready.remove(&number)));
    }

    /// Waits until a replica is ready: a slow store makes all of them unready.
    async fn choose(&self, turn: usize) -> Url {
        let mut ready = self.ready.subscribe();
        let ready = within("a ready replica", ready.wait_for(|ready| !ready.is_empty())).await.unwrap();
        ready.values().nth(turn % ready.len()).unwrap().clone()
    }
}

struct Load {
    stage: Arc<Stage>,
    ingress: Arc<Ingress>,
    token: String,
    answered: watch::Sender<usize>,
    over: CancellationToken,
}

impl Load {
    /// Submits calls and reads them until the load ends. Every response must be a success.
    async fn run(self: Arc<Self>, client: usize) {
        for turn in 0.. {
            if self.over.is_cancelled() {
                return;
            }
            let call_id = format!("rolling-{client}-{turn}");
            let body = self.stage.submission(&call_id).to_string();
            let submit = |request: RequestBuilder| {
                request.header("content-type", "application/json").body(body.clone())
            };
            self.answer(Method::POST, "v1/analyses", turn + client, submit).await;
            for prefer in ["", "wait=1"] {
                let path = format!("v1/analyses/{call_id}");
                let analysis =
                    self.answer(Method::GET, &path, turn, |request| request.header("prefer", prefer)).await;
                assert_ne!(analysis["status"], "failed", "{analysis}");
            }
        }
    }

    /// Returns the answer of a ready replica. If the store is too slow, the client sends the request again.
    async fn answer(
        &self,
        method: Method,
        path: &str,
        turn: usize,
        complete: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Value {
        for attempt in turn.. {
            let url = self.ingress.choose(attempt).await.join(path).unwrap();
            let request = complete(self.ingress.client.request(method.clone(), url)).bearer_auth(&self.token);
            let answer = within("an answer", request.send()).await;
            let answer = answer.unwrap_or_else(|error| panic!("{path}: {error:?}"));
            let status = answer.status();
            let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            if matches!(status, StatusCode::OK | StatusCode::ACCEPTED) {
                self.answered.send_modify(|answered| *answered += 1);
                return body;
            }
            let is_slow =
                status == StatusCode::SERVICE_UNAVAILABLE && body["detail"] == "the store is unavailable";
            assert!(is_slow, "{path}: {status} {body}");
        }
        unreachable!("attempts have no end")
    }

    async fn until_answered(&self, more: usize) {
        let mut answered = self.answered.subscribe();
        let enough = *answered.borrow() + more;
        within("answers", answered.wait_for(|answered| *answered >= enough)).await.unwrap();
    }
}

#[tokio::test]
async fn replicas_are_replaced_without_a_failed_request() {
    let mut stage = Stage::set_up_on_postgres().await;
    stage.set("SERVER__SHUTDOWN_DELAY", DELAY);
    let stage = Arc::new(stage);
    let client = Client::builder().no_proxy().retry(reqwest::retry::never()).build().unwrap();
    let ingress = Arc::new(Ingress { client, ready: watch::Sender::default() });
    let mut followers = JoinSet::new();
    let mut start = async |number| {
        let serving: Serving = stage.serve().await;
        followers.spawn(ingress.clone().follow(number, serving.api.clone(), serving.admin.clone()));
        let mut ready = ingress.ready.subscribe();
        within("readiness", ready.wait_for(|ready| ready.contains_key(&number))).await.unwrap();
        serving
    };
    let (mut replicas, mut started) = (Vec::new(), Vec::new());
    for number in 0..REPLICAS {
        replicas.push(start(number).await);
    }
    let load = Arc::new(Load {
        stage: stage.clone(),
        ingress: ingress.clone(),
        token: stage.token(SCOPES),
        answered: watch::Sender::default(),
        over: CancellationToken::new(),
    });
    let mut clients: JoinSet<()> = (0..CLIENTS).map(|client| load.clone().run(client)).collect();
    for (number, replica) in replicas.iter().enumerate() {
        load.until_answered(REQUESTS).await;
        replica.process.terminate();
        let mut ready = ingress.ready.subscribe();
        within("readiness off", ready.wait_for(|ready| !ready.contains_key(&number))).await.unwrap();
        started.push(start(REPLICAS + number).await);
    }
    load.until_answered(REQUESTS).await;
    load.over.cancel();
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    for replica in replicas {
        assert_eq!(replica.process.exit_code().await, Some(0));
    }
    println!("{} requests, none failed, while {REPLICAS} replicas were replaced", *load.answered.borrow());
}
