//! Replacement of every kind of secret under load, as Kubernetes does it. No request fails, the new secret is used, an invalid
//! secret is ignored, and no old secret stays in memory.

mod generation;
#[cfg(target_os = "linux")]
mod memory;
mod mounted;

use std::sync::Arc;

use alovoice_gateway::domain::audio_link::AudioLink;
use alovoice_gateway::domain::sealing::SealingKeys;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::generation::{Generation, IssuerKey, PEM_ISSUER, SET_ISSUER};
use self::mounted::Mounted;
use crate::gateway::{Serving, within};
use crate::stage::{AUDIENCE, Stage, id};

/// Number of secret files, one of each kind.
const KINDS: u64 = 6;
const CLIENTS: usize = 4;

/// A gateway with mounted secrets.
struct MountedGateway {
    stage: Stage,
    gateway: Serving,
    mounted: Mounted,
    /// A key that is in the key set of every generation.
    stable_key: IssuerKey,
}

impl MountedGateway {
    async fn begin(first: &Generation) -> Self {
        let mut stage = Stage::set_up().await;
        let stable_key = IssuerKey::new("stable_key");
        let mounted = Mounted::new(stage.home.path().join("mounted"), &first.files(&stable_key));
        for (key, name) in [
            ("TENANTS__ACME__VENDOR_TOKEN_FILE", "vendor-token"),
            ("TENANTS__ACME__CALLBACK_SECRET_FILE", "callback-secret"),
            ("ENCRYPTION__KEY_FILE", "encryption-key"),
            ("AUTH__ISSUERS__0__HMAC_SECRET_FILE", "hmac"),
            ("AUTH__ISSUERS__1__PUBLIC_KEY_FILE", "public-key"),
            ("AUTH__ISSUERS__2__JWKS_FILE", "key-set"),
        ] {
            stage.set(key, mounted.path(name).to_str().unwrap());
        }
        for (number, issuer) in [(1, PEM_ISSUER), (2, SET_ISSUER)] {
            stage.set(&format!("AUTH__ISSUERS__{number}__ISSUER"), issuer);
            stage.set(&format!("AUTH__ISSUERS__{number}__AUDIENCES"), AUDIENCE);
            stage.set(&format!("AUTH__ISSUERS__{number}__ALGORITHMS"), "EdDSA");
        }
        stage.vendor.set_tokens(vec![first.vendor_token()]);
        let gateway = stage.serve().await;
        Self { stage, gateway, mounted, stable_key }
    }

    fn swap(&mut self, to: &Generation) {
        self.mounted.swap(&to.files(&self.stable_key));
    }

    /// The status of a request with this token.
    async fn status(&self, token: &str) -> StatusCode {
        let url = self.gateway.api.join("v1/usage").unwrap();
        self.stage.client.get(url).bearer_auth(token).send().await.unwrap().status()
    }

    /// Whether new audio links are sealed with the key of this generation.
    async fn seals_with(&self, generation: &Generation) -> bool {
        let url = self.gateway.api.join("v1/analyses/known-1/audio-link").unwrap();
        let request = self.stage.client.post(url).bearer_auth(self.stable_key.token(SET_ISSUER));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        let link: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let link = self.gateway.api.join(link["url"].as_str().unwrap()).unwrap();
        let sealed = link.path_segments().unwrap().next_back().unwrap();
        AudioLink::open(&SealingKeys::parse(&generation.encryption_key()).unwrap(), sealed).is_some()
    }

    /// Checks that the gateway uses this generation: it accepts its tokens, sends its vendor token and signs with its secret.
    async fn check_uses(&self, generation: &Generation, call_id: &str) {
        for token in generation.tokens() {
            assert_eq!(self.status(&token).await, StatusCode::OK);
        }
        assert!(self.seals_with(generation).await);
        self.stage.vendor.set_tokens(vec![generation.vendor_token()]);
        let hook = self.stage.hook_of(call_id);
        let submission = json!({"call_id": call_id, "callback": {"url": hook}}).to_string();
        let request = self.stage.client.post(self.gateway.api.join("v1/analyses").unwrap());
        let request = request.header("content-type", "application/json").body(submission);
        let answer = request.bearer_auth(generation.hmac_token()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let path = Url::parse(&hook).unwrap().path().to_owned();
        let received = self.stage.receiver.wait_for(|all| all.iter().any(|one| one.path == path));
        let received = within("a callback", received).await;
        let received = received.iter().find(|one| one.path == path).unwrap();
        assert_eq!(self.stage.vendor.accepted_submits(&id(call_id)), 1);
        let mut headers = reqwest::header::HeaderMap::new();
        for (name, value) in &received.headers {
            headers.append(name.parse::<reqwest::header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let signed = standardwebhooks::Webhook::new(&generation.callback_secret()).unwrap();
        signed.verify(&received.body, &headers).unwrap();
    }

    /// Value of the metric of reloads with this outcome.
    async fn reloads(&self, outcome: &str) -> u64 {
        let metrics = self.stage.metrics(&self.gateway).await;
        let name = format!("alovoice_gateway_secret_reloads_total{{outcome=\"{outcome}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    }

    async fn wait_for_reloads(&self, outcome: &str, times: u64) {
        let reloaded = async { while self.reloads(outcome).await < KINDS * times {} };
        within(outcome, reloaded).await;
        assert_eq!(self.reloads(outcome).await, KINDS * times, "each file must be counted once");
    }
}

/// Callers with tokens of the stable key. Every response must be a success.
struct Load {
    callers: JoinSet<()>,
    answered: watch::Sender<usize>,
    over: CancellationToken,
}

impl Load {
    fn begin(mounted_gateway: &MountedGateway) -> Self {
        // Without retries, so that a broken connection fails the test.
        let client = Client::builder().no_proxy().retry(reqwest::retry::never()).build().unwrap();
        let (answered, over) = (watch::Sender::default(), CancellationToken::new());
        let token: Arc<str> = mounted_gateway.stable_key.token(SET_ISSUER).into();
        let callers = (0..CLIENTS).map(|caller| {
            let (client, api, token) = (client.clone(), mounted_gateway.gateway.api.clone(), token.clone());
            let (answered, over) = (answered.clone(), over.clone());
            async move {
                for turn in 0.. {
                    if over.is_cancelled() {
                        return;
                    }
                    let call_id = format!("load-{caller}-{turn}");
                    let url = api.join("v1/analyses").unwrap();
                    let request = client.post(url).header("content-type", "application/json");
                    let submit = request.body(json!({"call_id": call_id}).to_string());
                    let read = client.get(api.join(&format!("v1/analyses/{call_id}")).unwrap());
                    for request in [submit, read] {
                        let answer = within("an answer", request.bearer_auth(&token).send()).await.unwrap();
                        let status = answer.status();
                        assert!(
                            matches!(status, StatusCode::OK | StatusCode::ACCEPTED),
                            "{call_id}: {status}"
                        );
                        answered.send_modify(|answered| *answered += 1);
                    }
                }
            }
        });
        Self { callers: callers.collect(), answered: answered.clone(), over }
    }

    async fn end(mut self) -> usize {
        self.over.cancel();
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        *self.answered.borrow()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_replaced_under_load_without_a_failed_request() {
    let (old, new) = (Generation::new(1), Generation::new(2));
    let mut mounted_gateway = MountedGateway::begin(&old).await;
    let load = Load::begin(&mounted_gateway);
    mounted_gateway.check_uses(&old, "old").await;
    for token in new.tokens() {
        assert_eq!(mounted_gateway.status(&token).await, StatusCode::UNAUTHORIZED);
    }

    // The vendor accepts both tokens for a while.
    mounted_gateway.stage.vendor.set_tokens(vec![old.vendor_token(), new.vendor_token()]);
    mounted_gateway.swap(&new);
    mounted_gateway.wait_for_reloads("changed", 1).await;
    mounted_gateway.check_uses(&new, "new").await;
    for token in old.tokens() {
        assert_eq!(
            mounted_gateway.status(&token).await,
            StatusCode::UNAUTHORIZED,
            "a cached token must stop working"
        );
    }

    let bad = new
        .files(&mounted_gateway.stable_key)
        .into_iter()
        .map(|(name, _)| (name, " not a secret\tof any kind".to_owned()));
    mounted_gateway.mounted.swap(&bad.collect::<Vec<_>>());
    mounted_gateway.wait_for_reloads("failed", 1).await;
    mounted_gateway.check_uses(&new, "kept").await;
    mounted_gateway.swap(&new);
    mounted_gateway.wait_for_reloads("recovered", 1).await;
    mounted_gateway.check_uses(&new, "recovered").await;
    assert_eq!(mounted_gateway.reloads("changed").await, KINDS);

    let answered = load.end().await;
    println!("{answered} requests, none failed, while {KINDS} secrets were replaced, broken and repaired");
    #[cfg(target_os = "linux")]
    check_memory(&mounted_gateway, &old, &new);
    mounted_gateway.gateway.stop().await;
}

/// Checks that memory contains no old secret. The secrets in use are found, which proves that the search works.
#[cfg(target_os = "linux")]
fn check_memory(mounted_gateway: &MountedGateway, old: &Generation, new: &Generation) {
    let process = mounted_gateway.gateway.process.id();
    let (gone, held) = (old.forms(), new.held());
    let texts = gone.iter().chain(&held).map(String::as_str).collect::<Vec<_>>();
    let mut held = held.each_ref().map(String::as_str).to_vec();
    held.sort_unstable();
    assert_eq!(memory::found(process, &texts), held);
}
