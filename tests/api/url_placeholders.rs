//! Placeholders in the URLs of webhooks and callbacks: `{crm.NAME}` stands for an id of the call in a CRM.

use serde_json::json;

use crate::stage::Stage;
use crate::webhooks::{delivery_that, registered};

#[tokio::test]
async fn the_path_of_a_url_gets_the_ids_of_the_call() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let url = format!("{}/{{crm.ticket}}.json", stage.hook("ok/tickets"));
    let hook = json!({"url": url, "transform": {"preset": "zendesk.comment"}});
    let (path, _) = registered(&acme, hook).await;
    assert_eq!(acme.get(&path).await.json()["url"], url);
    acme.submitted(json!({"call_id": "1", "call": {"crm": {"ticket": "A/1 ё"}}})).await;
    let received = stage.receiver.next().await;
    assert_eq!(
        (received.method.as_str(), received.path.as_str()),
        ("PUT", "/hook/ok/tickets/A%2F1%20%D1%91.json")
    );
    acme.patch(&path, json!({"enabled": false})).await;

    let callback = json!({"url": format!("{}/{{crm.ticket}}/notes", stage.hook("ok")), "payload": "thin"});
    acme.submitted(json!({"call_id": "2", "call": {"crm": {"ticket": "42"}}, "callback": callback})).await;
    assert_eq!(stage.receiver.next().await.path, "/hook/ok/42/notes");
}

#[tokio::test]
async fn a_delivery_without_the_id_fails_until_the_call_has_it() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h,1h,1h")]).await;
    let acme = stage.acme();
    let url = format!("{}/{{crm.ticket}}/{{crm.desk.no}}", stage.hook("ok"));
    let (path, _) = registered(&acme, json!({"url": url})).await;
    acme.submitted(json!({"call_id": "1", "call": {"crm": {"lead": "1"}}})).await;
    acme.outcome("1").await;
    let listed = acme.get("/v1/deliveries?call_id=1").await.json()["deliveries"].take();
    let delivery = format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap());
    let failed =
        delivery_that(&acme, &delivery, |delivery| delivery["attempts"][0]["outcome"].is_string()).await;
    let attempt = &failed["attempts"][0];
    let reason = attempt["error"].as_str().unwrap();
    assert!(reason.starts_with("call.crm.ticket, call.crm.desk.no are missing"), "{reason}");
    assert_eq!((&failed["status"], &attempt["outcome"]), (&json!("pending"), &json!("transform")));
    assert_eq!(acme.get(&path).await.json()["health"]["consecutive_failures"], 0);

    let preview = acme.post(&format!("{path}/preview"), json!({"call_id": "1"})).await.json();
    assert_eq!((&preview["url"], &preview["problems"][0]), (&json!(null), &json!(reason)));
    let ids = json!({"ticket": "42", "desk.no": "7"});
    assert_eq!(acme.submit(json!({"call_id": "1", "call": {"crm": ids}})).await.status, 200);
    let preview = acme.post(&format!("{path}/preview"), json!({"call_id": "1"})).await.json();
    assert_eq!(
        (&preview["url"], &preview["problems"]),
        (&json!(format!("{}/42/7", stage.hook("ok"))), &json!([]))
    );
    assert_eq!(acme.post(&format!("{delivery}/redeliver"), json!({})).await.status, 202);
    assert_eq!(stage.receiver.next().await.path, "/hook/ok/42/7");

    // The call of a test event has every id.
    assert_eq!(acme.post(&format!("{path}/test"), json!({})).await.status, 202);
    assert_eq!(stage.receiver.next().await.path, "/hook/ok/999999999999/999999999999");
    assert_eq!(stage.close().await.receiver.received().len(), 2, "nothing else was sent");
}

#[tokio::test]
async fn an_id_selects_no_other_path() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let acme = stage.acme();
    registered(&acme, json!({"url": format!("{}/a/{{crm.ticket}}/b", stage.hook("ok"))})).await;
    acme.submitted(json!({"call_id": "1", "call": {"crm": {"ticket": ".."}}})).await;
    acme.outcome("1").await;
    let listed = acme.get("/v1/deliveries?call_id=1").await.json()["deliveries"].take();
    let delivery = format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap());
    let failed =
        delivery_that(&acme, &delivery, |delivery| delivery["attempts"][0]["outcome"].is_string()).await;
    assert_eq!(failed["attempts"][0]["error"], "the ids in the path of the URL make a segment of only dots");
    for (call_id, id) in [("2", "../../x?y#z"), ("3", "%2e%2e%2f"), ("4", "//evil.example/")] {
        acme.submitted(json!({"call_id": call_id, "call": {"crm": {"ticket": id}}})).await;
        let path = stage.receiver.next().await.path;
        assert!(
            path.starts_with("/hook/ok/a/") && path.ends_with("/b") && path.split('/').count() == 6,
            "{path}"
        );
    }
}

#[tokio::test]
async fn placeholders_outside_of_the_path_are_refused() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, json!({"url": stage.hook("ok")})).await;
    for url in [
        "http://{crm.host}.example.uz/",
        "http://127.0.0.1:{crm.port}/",
        "http://127.0.0.1/?id={crm.id}",
        "http://127.0.0.1/{metadata.ticket}",
        "http://127.0.0.1/{crm.}",
        "http://127.0.0.1/{crm.id",
    ] {
        assert_eq!(acme.post("/v1/webhooks", json!({"url": url})).await.pointers(), ["#/url"], "{url}");
        assert_eq!(acme.patch(&path, json!({"url": url})).await.pointers(), ["#/url"], "{url}");
        let call = json!({"call_id": "1", "callback": {"url": url}});
        assert_eq!(acme.submit(call).await.pointers(), ["#/callback/url"], "{url}");
        let preview = json!({"call_id": "1", "url": url});
        assert_eq!(acme.post("/v1/webhooks/preview", preview).await.pointers(), ["#/url"], "{url}");
    }
}
