//! HEAD: the status and the headers of GET, without a body.

use std::collections::BTreeMap;
use std::time::Instant;

use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use serde_json::json;
use url::Url;

use crate::contract::Operation;
use crate::patience::PATIENCE;
use crate::stage::Stage;
use crate::webhooks::completed;

/// Headers that differ between two equal requests.
const VARYING: [&str; 3] = ["date", "ratelimit", "x-request-id"];

/// The status and the headers of a response. The body is not read. A request that is answered with 503 is repeated, because the machine
/// may be busy.
async fn head_of(
    http: &Client,
    method: Method,
    url: Url,
    headers: &[(&str, &str)],
) -> (u16, BTreeMap<String, String>) {
    let began = Instant::now();
    loop {
        let head = head_once(http, method.clone(), url.clone(), headers).await;
        if head.0 != 503 || began.elapsed() > PATIENCE {
            return head;
        }
    }
}

async fn head_once(
    http: &Client,
    method: Method,
    url: Url,
    headers: &[(&str, &str)],
) -> (u16, BTreeMap<String, String>) {
    let mut request = http.request(method.clone(), url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let named = response.headers().iter().filter(|(name, _)| !VARYING.contains(&name.as_str()));
    let named = named.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let head = (response.status().as_u16(), named.collect());
    if method == Method::HEAD {
        assert!(response.bytes().await.unwrap().is_empty());
    }
    head
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let stage = Stage::with(&[("EVENTS__HEARTBEAT", crate::stage::LATER)]).await;
    let acme = stage.acme();
    completed(&stage, "1").await;
    let created = acme.post("/v1/webhooks", json!({"url": stage.hook("ok")})).await;
    let webhook = created.header("location").to_owned();
    let delivery = acme.post(&format!("{webhook}/test"), json!({})).await.header("location").to_owned();
    // Without a delivery in progress, its resource does not change between two requests.
    stage.receiver.next().await;
    while acme.get(&delivery).await.json()["status"] == "pending" {}
    let replay = acme.post(&format!("{webhook}/replay"), json!({"since": "2026-01-01T00:00:00Z"})).await;
    let replay = replay.header("location").to_owned();
    while acme.get(&replay).await.json()["finished_at"].is_null() {}
    stage.receiver.next().await;
    while acme.get("/v1/deliveries?status=pending").await.json()["deliveries"] != json!([]) {}
    let link = acme.post("/v1/analyses/1/audio-link", json!({})).await.header("location").to_owned();

    let http = Client::builder().redirect(Policy::none()).build().unwrap();
    let token = acme.authorization.clone().unwrap();
    let paths = [
        "/v1/analyses",
        "/v1/analyses/1",
        "/v1/analyses/1/transcript",
        "/v1/analyses/1/transcript?format=vtt",
        "/v1/analyses/1/renderings/slack.message",
        "/v1/analyses/1/renderings/html",
        "/v1/analyses/1/renderings/unknown",
        "/v1/analyses/1/vendor-answer",
        "/v1/analyses/1/audio",
        "/v1/analyses/batch",
        "/v1/analyses/unknown~404",
        "/v1/analyses/a,b",
        "/v1/analyses?limit=0",
        "/v1/events",
        "/v1/renderings",
        "/v1/usage",
        "/v1/webhooks",
        "/v1/deliveries",
        webhook.as_str(),
        delivery.as_str(),
        replay.as_str(),
        link.as_str(),
        "/v1/nothing",
        "/",
        "/swagger-ui",
        "/swagger-ui/",
        "/swagger-ui/swagger-ui.css",
        "/swagger-ui/none",
        "/openapi.json",
        "/problems/internal",
        "/problems/none",
    ];
    for operation in Operation::all().iter().filter(|operation| operation.method == Method::GET) {
        assert!(paths.iter().any(|path| operation.serves(path)), "no request for {}", operation.path);
    }
    for path in paths {
        for headers in [&[("authorization", token.as_str())][..], &[], &[("authorization", "Bearer x")]] {
            let url = stage.gateway.api().join(path).unwrap();
            let get = head_of(&http, Method::GET, url.clone(), headers).await;
            let head = head_of(&http, Method::HEAD, url, headers).await;
            assert_eq!(head, get, "{path} {headers:?}");
        }
    }
    let stream = [("authorization", token.as_str()), ("accept", "text/event-stream")];
    let url = stage.gateway.api().join("/v1/events").unwrap();
    let get = head_of(&http, Method::GET, url.clone(), &stream).await;
    assert_eq!(get.1["content-type"], "text/event-stream");
    assert_eq!(head_of(&http, Method::HEAD, url, &stream).await, get);
}

#[tokio::test]
async fn the_admin_port_answers_head_requests() {
    let stage = Stage::start().await;
    let http = Client::new();
    for path in ["/livez", "/readyz", "/metrics", "/none"] {
        let url = stage.gateway.admin().join(path).unwrap();
        let (status, mut get) = head_of(&http, Method::GET, url.clone(), &[]).await;
        let (head_status, mut head) = head_of(&http, Method::HEAD, url.clone(), &[]).await;
        if path == "/metrics" {
            // Metrics change between two requests.
            for headers in [&mut get, &mut head] {
                assert!(headers.remove("content-length").is_some_and(|length| length != "0"));
            }
        }
        assert_eq!((head_status, head), (status, get), "{path}");
        if path != "/none" {
            assert_eq!(status, 200, "{path}");
            assert_eq!(http.post(url).send().await.unwrap().status(), 405, "{path}");
        }
    }
}
