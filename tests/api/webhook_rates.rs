//! Rates of webhooks: input, defaults of presets, and deliveries that wait.

use alovoice_gateway::sandbox::receiver::Received;
use serde_json::{Value, json};

use crate::postgres::server::Server;
use crate::stage::Stage;
use crate::webhooks::{completed, registered};

/// A rate without a second token during a test.
const SLOW: f64 = 0.01;

/// Rate and burst of a webhook.
fn rate(webhook: &Value) -> (&Value, &Value) {
    (&webhook["rate"], &webhook["burst"])
}

/// Number of requests to the webhook of this name.
fn count(received: &[Received], name: &str) -> usize {
    received.iter().filter(|received| received.path == format!("/hook/ok/{name}")).count()
}

#[tokio::test]
async fn a_webhook_has_its_own_rate_or_that_of_its_preset() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let null = json!(null);
    for (preset, per_second, burst) in [
        ("bitrix24.comment", json!(2.0), json!(50)),
        ("amocrm.note", json!(7.0), json!(7)),
        ("slack.message", json!(1.0), json!(1)),
        ("zendesk.comment", null.clone(), null.clone()),
    ] {
        let webhook = json!({"url": stage.hook("ok"), "transform": {"preset": preset}});
        let (path, _) = registered(&acme, webhook).await;
        assert_eq!(rate(&acme.get(&path).await.json()), (&per_second, &burst), "{preset}");
    }
    let (path, _) = registered(&acme, json!({"url": stage.hook("ok"), "rate": 2.5})).await;
    let patch = async |change: Value| {
        let webhook = acme.patch(&path, change).await.json();
        (webhook["rate"].clone(), webhook["burst"].clone())
    };
    assert_eq!(patch(json!({})).await, (json!(2.5), json!(3)));
    assert_eq!(patch(json!({"burst": 10.0})).await, (json!(2.5), json!(10)));
    assert_eq!(patch(json!({"rate": 1000})).await, (json!(1000.0), json!(10)));
    assert_eq!(patch(json!({"burst": null})).await, (json!(1000.0), json!(1000)));
    assert_eq!(patch(json!({"rate": null})).await, (null.clone(), null.clone()));
    let preset = json!({"preset": "bitrix24.comment"});
    assert_eq!(patch(json!({"transform": preset, "burst": 5})).await, (json!(2.0), json!(5)));
    assert_eq!(patch(json!({"rate": 0.01})).await, (json!(0.01), json!(5)));
    assert_eq!(patch(json!({"rate": null, "burst": null})).await, (json!(2.0), json!(50)));
    // Without a rate there is no burst, and the next rate has the default.
    assert_eq!(patch(json!({"burst": 7})).await, (json!(2.0), json!(7)));
    assert_eq!(patch(json!({"transform": null})).await, (null.clone(), null.clone()));
    assert_eq!(patch(json!({"rate": 5})).await, (json!(5.0), json!(5)));
    let presets = acme.get("/v1/renderings").await.json()["renderings"].take();
    let bitrix24 = presets.as_array().unwrap().iter().find(|it| it["preset"] == "bitrix24.comment").unwrap();
    assert_eq!(rate(bitrix24), (&json!(2.0), &json!(50)));
}

#[tokio::test]
async fn an_invalid_rate_is_named_with_its_rule() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, json!({"url": stage.hook("ok")})).await;
    for (field, value, rule) in [
        ("rate", json!(0.009), "must be a number from 0.01 to 1000"),
        ("rate", json!(1000.5), "must be a number from 0.01 to 1000"),
        ("rate", json!("2"), "expected f64"),
        ("burst", json!(0), "must be a whole number from 1 to 10000"),
        ("burst", json!(10_001), "must be a whole number from 1 to 10000"),
        ("burst", json!(1.5), "must be a whole number from 1 to 10000"),
        ("burst", json!(5), "needs a rate"),
    ] {
        let mut webhook = json!({"url": stage.hook("ok")});
        webhook[field] = value.clone();
        let mut change = json!({});
        change[field] = value;
        for refused in [acme.post("/v1/webhooks", webhook).await, acme.patch(&path, change).await] {
            let error = refused.problem(422, "invalid_request")["errors"][0].take();
            assert_eq!(error["pointer"], format!("#/{field}"));
            assert!(error["detail"].as_str().unwrap().contains(rule), "{error}");
        }
    }
}

#[tokio::test]
async fn deliveries_wait_for_the_rate_of_their_webhook_and_delay_no_other() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let slow = json!({"url": stage.hook("ok/slow"), "rate": SLOW, "burst": 2});
    let (slow, _) = registered(&acme, slow).await;
    registered(&acme, json!({"url": stage.hook("ok/quick")})).await;
    registered(&stage.globex(), json!({"url": stage.hook("ok/globex")})).await;
    for call in ["1", "2", "3", "4"] {
        completed(&stage, call).await;
    }
    acme.post(&format!("{slow}/test"), json!({})).await;
    stage.globex().submitted(json!({"call_id": "1"})).await;
    stage.receiver.wait_for(|all| count(all, "quick") == 4 && count(all, "globex") == 1).await;
    let received = stage.receiver.wait_for(|all| count(all, "slow") >= 2).await;
    assert_eq!(count(&received, "slow"), 2);
    let pending = loop {
        let pending = acme.get("/v1/deliveries?status=pending").await.json()["deliveries"].take();
        if pending.as_array().unwrap().len() == 3 {
            break pending;
        }
    };
    for delivery in pending.as_array().unwrap() {
        assert_eq!((&delivery["attempt_count"], &delivery["under_way"]), (&json!(0), &json!(false)));
    }
    assert_eq!(acme.get(&slow).await.json()["health"]["consecutive_failures"], 0);
    // A restart does not fill the bucket. A higher rate sends the deliveries.
    let stage = stage.restart().await;
    completed(&stage, "5").await;
    stage.receiver.wait_for(|all| count(all, "quick") == 5).await;
    assert_eq!(count(&stage.receiver.received(), "slow"), 2);
    stage.acme().patch(&slow, json!({"rate": 1000, "burst": 4})).await;
    stage.receiver.wait_for(|all| count(all, "slow") == 6).await;
    let remains = stage.close().await;
    assert_eq!(remains.receiver.received().len(), 6 + 5 + 1);
}

#[tokio::test]
async fn replicas_share_the_rate_of_a_webhook() {
    let stage = Stage::on(Some(Server::shared().await.fresh_database().await), &[]).await;
    let other = stage.replica(stage.database().url()).await;
    let slow = json!({"url": stage.hook("ok/slow"), "rate": SLOW, "burst": 5});
    registered(&stage.acme(), slow).await;
    registered(&stage.acme(), json!({"url": stage.hook("ok/quick")})).await;
    let batch: Vec<_> = (0..40).map(|call| json!({"call_id": call.to_string()})).collect();
    let answer = stage.acme_at(&other).post("/v1/analyses/batch", json!({"analyses": batch})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // The other webhook has got all events, so the gateways have claimed all deliveries that they may claim.
    stage.receiver.wait_for(|all| count(all, "quick") == 40).await;
    assert!(other.drain().await);
    let remains = stage.close().await;
    assert_eq!(count(&remains.receiver.received(), "slow"), 5);
}
