//! Metrics that name a fault and the tenant it belongs to.

use alovoice_gateway::app::Gateway;
use serde_json::json;

use crate::postgres::link::{Link, Passage};
use crate::postgres::server::Server;
use crate::stage::{ACME_SECRET, GLOBEX_SECRET, HMAC, Stage, VENDOR_TOKENS};
use crate::webhooks::{completed, registered};

async fn scraped(gateway: &Gateway) -> String {
    reqwest::get(gateway.admin().join("metrics").unwrap()).await.unwrap().text().await.unwrap()
}

/// Scrapes the metrics until they contain each of these series.
pub(crate) async fn scrape_until(gateway: &Gateway, series: &[&str]) -> String {
    let is_there = |page: &str, line: &&str| page.contains(&format!("\nalovoice_gateway_{line}\n"));
    loop {
        let page = scraped(gateway).await;
        if series.iter().all(|line| is_there(&page, line)) {
            return page;
        }
    }
}

#[tokio::test]
async fn a_disabled_webhook_is_counted_for_its_tenant() {
    let stage = Stage::start().await;
    registered(&stage.acme(), json!({"url": stage.hook("410")})).await;
    registered(&stage.acme(), json!({"url": stage.hook("ok")})).await;
    scrape_until(&stage.gateway, &["webhooks{state=\"enabled\",tenant=\"acme\"} 2"]).await;
    completed(&stage, "1").await;
    let page = scrape_until(
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
async fn a_failed_callback_is_counted_for_its_tenant() {
    let stage = Stage::start().await;
    let callback = json!({"url": stage.hook("500")});
    stage.globex().submitted(json!({"call_id": "1", "callback": callback})).await;
    let given_up =
        ["callbacks_given_up_total{tenant=\"globex\"} 1", "callbacks_pending{tenant=\"globex\"} 0"];
    let page = scrape_until(&stage.gateway, &given_up).await;
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
    let page = scrape_until(&stage.gateway, &["vendor_breakers_open{tenant=\"acme\"} 1"]).await;
    assert!(page.contains("alovoice_gateway_vendor_token_refusals_total{tenant=\"globex\"} 0\n"), "{page}");
    assert!(!page.contains("alovoice_gateway_vendor_token_refusals_total{tenant=\"acme\"} 0\n"), "{page}");
}

#[tokio::test]
async fn an_unreadable_secret_is_counted_until_it_is_repaired() {
    let stage = Stage::start().await;
    let kinds = ["vendor_token", "callback_secret", "encryption_key", "issuer_key"];
    let unreadable = async |counts: [usize; 4]| {
        let lines: Vec<_> = std::iter::zip(kinds, counts)
            .map(|(kind, count)| format!("secrets_unreadable{{kind=\"{kind}\"}} {count}"))
            .collect();
        scrape_until(&stage.gateway, &lines.iter().map(String::as_str).collect::<Vec<_>>()).await;
    };
    unreadable([0; 4]).await;
    stage.write("acme-token", "");
    stage.write("acme-secret", "no secret");
    stage.write("globex-secret", "");
    stage.write("encryption-key", "short");
    stage.write("hmac", "short");
    unreadable([1, 2, 1, 1]).await;
    // The last valid secrets stay in use.
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    stage.receiver.next().await;
    stage.write("acme-token", VENDOR_TOKENS[0]);
    stage.write("acme-secret", ACME_SECRET);
    stage.write("globex-secret", GLOBEX_SECRET);
    stage.write("hmac", HMAC);
    unreadable([0, 0, 1, 0]).await;
}

#[tokio::test]
async fn metrics_of_the_store_are_absent_while_the_database_is_unreachable() {
    let stage = Stage::on(Some(Server::shared().await.fresh_database().await), &[]).await;
    let link = Link::to(Server::shared().await.port(), Passage::Open).await;
    let other = stage.replica(&stage.database().url_through(&link)).await;
    let of_store = [
        "analyses{",
        "due_work_lag_seconds{",
        "callbacks_pending{",
        "callbacks_due_lag_seconds{",
        "webhooks{",
    ];
    let shown = |page: &str| of_store.map(|family| page.contains(&format!("\nalovoice_gateway_{family}")));
    // A busy database may not answer a scrape in time.
    let page = loop {
        let page = scrape_until(&other, &["ready 1", "store_connections_max 16"]).await;
        if shown(&page) == [true; 5] {
            break page;
        }
    };
    assert!(page.contains("\nalovoice_gateway_store_connections{state=\"in_use\"} "), "{page}");

    link.set(Passage::Cut);
    let page = scraped(&other).await;
    assert_eq!(shown(&page), [false; 5], "{page}");
    assert!(page.contains("\nalovoice_gateway_store_errors_total "));

    link.set(Passage::Open);
    assert_eq!(
        shown(&scrape_until(&other, &["analyses{status=\"queued\",tenant=\"acme\"} 0"]).await),
        [true; 5]
    );
    assert!(other.drain().await);
}
