//! Links of a gateway that an ingress serves below a path, which the ingress strips.

use std::sync::LazyLock;

use alovoice_gateway::http::problem::ALL;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use url::Url;

use crate::caller::Caller;
use crate::stage::Stage;
use crate::webhooks::completed;

const PUBLIC: &str = "https://calls.example.uz/alovoice";
const CHANGES: [(&str, &str); 1] = [("SERVER__PUBLIC_URL", "https://calls.example.uz/alovoice/")];
static AT_INGRESS: LazyLock<Url> = LazyLock::new(|| PUBLIC.parse().unwrap());

/// The path at the gateway to which the ingress forwards a link. Panics if the link leads to another place.
fn inside(link: &str) -> String {
    let link = AT_INGRESS.join(link).unwrap();
    let path = link.as_str().strip_prefix(PUBLIC).unwrap_or_else(|| panic!("{link}"));
    assert!(path.starts_with('/'), "{link}");
    path.to_owned()
}

/// Follows a link through the ingress.
async fn follow(caller: &Caller, link: &Value) {
    let path = inside(link.as_str().unwrap());
    assert_eq!(caller.get(&path).await.status, 200, "{link}");
}

#[tokio::test]
async fn links_to_analyses_and_recordings_begin_with_the_public_url() {
    let stage = Stage::with(&CHANGES).await;
    let acme = stage.acme();
    let submitted = acme.submit(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    follow(&acme, &json!(submitted.header("location"))).await;
    let analysis = acme.outcome("1").await;
    assert_eq!(analysis["audio_url"], format!("{PUBLIC}/v1/analyses/1/audio"));
    follow(&acme, &analysis["audio_url"]).await;
    let again = acme.submit(json!({"call_id": "1"})).await;
    assert_eq!((again.status, again.header("location")), (200, &*format!("{PUBLIC}/v1/analyses/1")));

    let batch = acme.post("/v1/analyses/batch", json!({"analyses": [{"call_id": "1"}, {}]})).await.json();
    let listed = acme.get("/v1/analyses").await.json();
    let events = acme.get("/v1/events").await.json();
    let delivered: Value = serde_json::from_slice(&stage.receiver.next().await.body).unwrap();
    for link in [
        &batch["results"][0]["analysis"]["audio_url"],
        &listed["analyses"][0]["audio_url"],
        &events["events"][0]["data"]["audio_url"],
        &delivered["data"]["audio_url"],
    ] {
        assert_eq!(*link, analysis["audio_url"]);
    }
    let problem = &batch["results"][1]["problem"]["type"];
    assert_eq!(*problem, format!("{PUBLIC}/problems/invalid_request"));

    let created = acme.post("/v1/analyses/1/audio-link", json!({})).await;
    assert_eq!(created.json()["url"], created.header("location"));
    follow(&acme.anonymous(), &created.json()["url"]).await;
}

#[tokio::test]
async fn links_to_webhooks_and_deliveries_begin_with_the_public_url() {
    let stage = Stage::with(&CHANGES).await;
    let acme = stage.acme();
    completed(&stage, "1").await;
    let created = acme.post("/v1/webhooks", json!({"url": stage.hook("ok")})).await;
    let webhook = inside(created.header("location"));
    let tested = acme.post(&format!("{webhook}/test"), json!({})).await;
    let replayed = acme.post(&format!("{webhook}/replay"), json!({"since": "2026-01-01T00:00:00Z"})).await;
    for answer in [created, tested, replayed] {
        let location = answer.header("location");
        assert!(location.starts_with(PUBLIC), "{location}");
        follow(&acme, &json!(location)).await;
    }
}

#[tokio::test]
async fn the_type_of_a_problem_begins_with_the_public_url() {
    let stage = Stage::with(&CHANGES).await;
    let acme = stage.acme();
    for problem in [
        acme.get("/none").await,
        acme.get("/v1/analyses/a,b").await,
        acme.anonymous().get("/v1/analyses/1").await,
        acme.send(reqwest::Method::PUT, "/v1/analyses", &[], "").await,
        acme.post_with(&[], "").await,
        acme.post("/v1/analyses", json!({})).await,
    ] {
        let body = problem.json();
        assert_eq!(body["type"], format!("{PUBLIC}/problems/{}", body["code"].as_str().unwrap()));
        follow(&acme.anonymous(), &body["type"]).await;
    }
    for kind in ALL {
        acme.anonymous().get(&inside(&format!("{PUBLIC}/problems/{}", kind.code))).await;
    }
}

#[tokio::test]
async fn swagger_ui_works_below_a_path() {
    let stage = Stage::with(&CHANGES).await;
    let http = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
    let anyone = stage.acme().anonymous();
    for path in ["/", "/swagger-ui"] {
        let redirect = http.get(stage.gateway.api().join(path).unwrap()).send().await.unwrap();
        assert_eq!(redirect.status(), 307, "{path}");
        assert_eq!(inside(redirect.headers()["location"].to_str().unwrap()), "/swagger-ui/");
    }
    let page = Url::parse(&format!("{PUBLIC}/swagger-ui/")).unwrap();
    let below_page = |reference: &str| inside(page.join(reference).unwrap().as_str());
    let html = anyone.get("/swagger-ui/").await;
    let assets =
        html.text().split(['"', '\'']).filter(|part| part.ends_with(".js") || part.ends_with(".css"));
    let assets: Vec<_> = assets.map(below_page).collect();
    assert_eq!(assets.len(), 3, "{assets:?}");
    for path in assets {
        assert_eq!(anyone.get(&path).await.status, 200, "{path}");
    }
    let script = anyone.get("/swagger-ui/swagger-initializer.js").await;
    let document = script.text().split("\"url\": \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let document = anyone.get(&below_page(document)).await.json();
    assert_eq!(document["servers"][0]["url"], PUBLIC);
}
