//! Rolling replacement of replicas behind a load balancer, without a failed request.

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::{Client, StatusCode};
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
/// Time for which a replica still accepts requests after readiness is off. It is much longer than the ingress takes to notice.
const DELAY: &str = "2s";

/// A load balancer: distributes requests among the ready replicas in turn, without retries.
struct Ingress {
    client: Client,
    ready: watch::Sender<BTreeMap<usize, Url>>,
}

impl Ingress {
    /// Polls the readiness of a replica. The replica gets requests only while it is ready.
    async fn follow(self: Arc<Self>, number: usize, api: Url, admin: Url) {
        let readyz = admin.join("readyz").unwrap();
        while self.client.get(readyz.clone()).send().await.is_ok_and(|answer| answer.status() == 200) {
            let is_new = |ready: &mut BTreeMap<usize, Url>| ready.insert(number, api.clone()).is_none();
            self.ready.send_if_modified(is_new);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        self.ready.send_modify(|ready| drop(ready.remove(&number)));
    }

    fn choose(&self, turn: usize) -> Url {
        let ready = self.ready.borrow();
        ready.values().nth(turn % ready.len()).expect("a replica is ready").clone()
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
            let url = self.ingress.choose(turn + client).join("v1/analyses").unwrap();
            let body = self.stage.submission(&call_id).to_string();
            let request = self.ingress.client.post(url).header("content-type", "application/json").body(body);
            self.answer(&call_id, request).await;
            for prefer in ["", "wait=1"] {
                let url = self.ingress.choose(turn).join(&format!("v1/analyses/{call_id}")).unwrap();
                let analysis =
                    self.answer(&call_id, self.ingress.client.get(url).header("prefer", prefer)).await;
                assert_ne!(analysis["status"], "failed", "{analysis}");
            }
        }
    }

    async fn answer(&self, call_id: &str, request: reqwest::RequestBuilder) -> Value {
        let answer = within("an answer", request.bearer_auth(&self.token).send()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{call_id}: {error:?}"));
        let status = answer.status();
        assert!(matches!(status, StatusCode::OK | StatusCode::ACCEPTED), "{call_id}: {status}");
        let body = answer.bytes().await.unwrap();
        self.answered.send_modify(|answered| *answered += 1);
        serde_json::from_slice(&body).unwrap()
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
    let mut replicas = Vec::new();
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
    for number in 0..REPLICAS {
        load.until_answered(REQUESTS).await;
        replicas.remove(0).stop().await;
        replicas.push(start(REPLICAS + number).await);
    }
    load.until_answered(REQUESTS).await;
    load.over.cancel();
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    println!("{} requests, none failed, while {REPLICAS} replicas were replaced", *load.answered.borrow());
}
