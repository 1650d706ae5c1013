//! The metrics, where they tell of something that is to be mended, and of whom.

use alovoice_gateway::app::Gateway;
use serde_json::json;

use crate::postgres::link::{Link, Passage};
use crate::postgres::server::Server;
use crate::stage::{ACME_SECRET, GLOBEX_SECRET, HMAC, Stage, VENDOR_TOKENS};
use crate::webhooks::{completed, registered};

async fn scraped(gateway: &Gateway) -> String {
    reqwest::get(gateway.admin().join("metrics").unwrap()).await.unwrap().text().await.unwrap()
}

/// Scrapes until each of these series has come.
async fn show(gateway: &Gateway, series: &[&str]) -> String {
    let is_there = |page: &str, line: &&str| page.contains(&format!("\nalovoice_gateway_{line}\n"));
    loop {
        let page = scraped(gateway).await;
        if series.iter().all(|line| is_there(&page, line)) {
            return page;
        }
    }
}

#[tokio::test]
async fn a_webhook_that_is_disabled_is_counted_for_its_tenant() {
    let stage = Stage::start().await;
    registered(&stage.acme(), json!({"url": stage.hook("410")})).await;
    registered(&stage.acme(), json!({"url": stage.hook("ok")})).await;
    show(&stage.gateway, &["webhooks{state=\"enabled\",tenant=\"acme\"} 2"]).await;
    completed(&stage, "1").await;
    let page = show(
        &stage.gateway,
        &[
            "webhooks{state=\"enabled\",tenant=\"acme\"} 1",
            "webhooks{state=\"disabled\",tenant=\"acme\"} 1",
            "webhooks_disabled_total{reason=\"gone\",tenant=\"acme\"} 1",
        ],
    )
    .await;
    for other in [
        "webhooks{state=\"paused\",tenant=\"acme\"} 0",
        "webhooks_disabled_total{reason=\"failing\",tenant=\"acme\"} 0",
        "webhooks_disabled_total{reason=\"gone\",tenant=\"globex\"} 0",
        "callbacks_given_up_total{tenant=\"acme\"} 0",
    ] {
        assert!(page.contains(&format!("alovoice_gateway_{other}\n")), "{other} in {page}");
    }
}

#[tokio::test]
async fn a_callback_that_is_given_up_is_counted_for_its_tenant() {
    let stage = Stage::start().await;
    let callback = json!({"url": stage.hook("500")});
    stage.globex().submitted(json!({"call_id": "1", "callback": callback})).await;
    let given_up =
        ["callbacks_given_up_total{tenant=\"globex\"} 1", "callbacks_pending{tenant=\"globex\"} 0"];
    let page = show(&stage.gateway, &given_up).await;
    assert!(page.contains("alovoice_gateway_callbacks_given_up_total{tenant=\"acme\"} 0\n"), "{page}");
}

#[tokio::test]
async fn a_refused_vendor_token_is_counted_for_its_tenant() {
    let stage = Stage::start().await;
    let [_, globex, initech] = VENDOR_TOKENS.map(str::to_owned);
    stage.vendor.set_tokens(vec!["another".to_owned(), globex, initech]);
    stage.acme().submitted(json!({"call_id": "1"})).await;
    stage.globex().submitted(json!({"call_id": "1"})).await;
    stage.globex().outcome("1").await;
    let page = show(&stage.gateway, &["vendor_breakers_open{tenant=\"acme\"} 1"]).await;
    assert!(page.contains("alovoice_gateway_vendor_token_refusals_total{tenant=\"globex\"} 0\n"), "{page}");
    assert!(!page.contains("alovoice_gateway_vendor_token_refusals_total{tenant=\"acme\"} 0\n"), "{page}");
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_shows_until_it_is_mended() {
    let stage = Stage::start().await;
    let kinds = ["vendor_token", "callback_secret", "encryption_key", "issuer_key"];
    let unreadable = async |counts: [usize; 4]| {
        let lines: Vec<_> = std::iter::zip(kinds, counts)
            .map(|(kind, count)| format!("secrets_unreadable{{kind=\"{kind}\"}} {count}"))
            .collect();
        show(&stage.gateway, &lines.iter().map(String::as_str).collect::<Vec<_>>()).await;
    };
    unreadable([0; 4]).await;
    stage.write("acme-token", "");
    stage.write("acme-secret", "no secret");
    stage.write("globex-secret", "");
    stage.write("encryption-key", "short");
    stage.write("hmac", "short");
    unreadable([1, 2, 1, 1]).await;
    // What they held before counts.
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    stage.receiver.next().await;
    stage.write("acme-token", VENDOR_TOKENS[0]);
    stage.write("acme-secret", ACME_SECRET);
    stage.write("globex-secret", GLOBEX_SECRET);
    stage.write("hmac", HMAC);
    unreadable([0, 0, 1, 0]).await;
}

#[tokio::test]
async fn without_the_database_nothing_is_told_of_it() {
    let stage = Stage::on(Some(Server::shared().await.fresh_database().await), &[]).await;
    let link = Link::to(Server::shared().await.port(), Passage::Open).await;
    let other = stage.replica(&stage.database().url_through(&link)).await;
    let page = show(&other, &["ready 1", "store_connections_max 16"]).await;
    let of_store = [
        "analyses{",
        "due_work_lag_seconds{",
        "callbacks_pending{",
        "callbacks_due_lag_seconds{",
        "webhooks{",
    ];
    let shown = |page: &str| of_store.map(|family| page.contains(&format!("\nalovoice_gateway_{family}")));
    assert_eq!(shown(&page), [true; 5]);
    assert!(page.contains("\nalovoice_gateway_store_connections{state=\"in_use\"} "), "{page}");

    link.set(Passage::Cut);
    let page = scraped(&other).await;
    assert_eq!(shown(&page), [false; 5], "{page}");
    assert!(page.contains("\nalovoice_gateway_store_errors_total "));

    link.set(Passage::Open);
    assert_eq!(shown(&show(&other, &["analyses{status=\"queued\",tenant=\"acme\"} 0"]).await), [true; 5]);
    assert!(other.drain().await);
}
