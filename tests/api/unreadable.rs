//! Stored rows that this version cannot read, on both engines.

use reqwest::Method;
use serde_json::{Value, json};

use crate::postgres::server::Server;
use crate::stage::Stage;
use crate::subscriber::{StreamBlock, Subscriber};

/// Runs a test on a file and on a PostgreSQL database.
async fn on_both_engines(test: impl AsyncFn(Stage)) {
    test(Stage::on(None, &[]).await).await;
    test(Stage::on(Some(Server::shared().await.fresh_database().await), &[]).await).await;
}

/// Completes calls, each with an event and a delivery.
async fn complete(stage: &Stage, calls: &[&str]) {
    for call_id in calls {
        let callback = json!({"url": stage.hook("ok")});
        stage.acme().submitted(json!({"call_id": call_id, "callback": callback})).await;
        stage.acme().outcome(call_id).await;
        stage.receiver.next().await;
    }
}

#[tokio::test]
async fn a_list_names_the_unreadable_analyses() {
    on_both_engines(async |stage| {
        complete(&stage, &["1", "2", "3"]).await;
        stage
            .rows()
            .change("UPDATE analyses SET metadata = '{\"card\": \"8600' WHERE call_id = '2'", 1)
            .await;
        // The cache has the analyses as they were.
        let stage = stage.restart().await;
        let acme = stage.acme();
        let page = acme.get("/v1/analyses").await.json();
        let calls = |page: &Value| -> Vec<String> {
            let analyses = page["analyses"].as_array().unwrap().iter();
            analyses.map(|analysis| analysis["call_id"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!((calls(&page), &page["unreadable"]), (vec!["3".into(), "1".into()], &json!(["2"])));
        let mut seen = Vec::new();
        let mut path = "/v1/analyses?limit=1".to_owned();
        loop {
            let page = acme.get(&path).await.json();
            seen.push((calls(&page), page["unreadable"].clone()));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/analyses?limit=1&cursor={cursor}");
        }
        let none = Value::Null;
        assert_eq!(
            seen,
            [(vec!["3".to_owned()], none.clone()), (vec![], json!(["2"])), (vec!["1".to_owned()], none)]
        );

        let problem = acme.analysis("2").await.problem(500, "unreadable_record");
        assert!(!problem.to_string().contains("8600"), "{problem}");
        acme.get("/v1/analyses/2/transcript").await.problem(500, "unreadable_record");
        acme.submit(json!({"call_id": "2"})).await.problem(500, "unreadable_record");
        let batch = json!({"analyses": [{"call_id": "1"}, {"call_id": "2"}, {"call_id": "new"}]});
        let results = acme.post("/v1/analyses/batch", batch).await.json()["results"].take();
        let statuses: Vec<_> = results.as_array().unwrap().iter().map(|result| &result["status"]).collect();
        assert_eq!(statuses, [200, 500, 202]);
        assert_eq!(results[1]["problem"]["code"], "unreadable_record");

        let counted = "alovoice_gateway_store_unreadable_rows_total{table=\"analyses\"} ";
        assert!(!stage.admin("metrics").await.1.contains(&format!("{counted}0\n")));
        assert_eq!(acme.send(Method::DELETE, "/v1/analyses/2", &[], "").await.status, 204);
        assert_eq!(acme.get("/v1/analyses").await.json().get("unreadable"), None);
    })
    .await;
}

#[tokio::test]
async fn pages_and_streams_of_events_name_the_unreadable_events() {
    on_both_engines(async |stage| {
        complete(&stage, &["1", "2", "3"]).await;
        let acme = stage.acme();
        let events = acme.get("/v1/events").await.json()["events"].take();
        let [first, second, third] =
            [0, 1, 2].map(|number: usize| events[number]["id"].as_str().unwrap().to_owned());
        let damage = format!("UPDATE events SET id = 'v2_1' WHERE id = '{second}'");
        stage.rows().change(&damage, 1).await;
        let page = acme.get("/v1/events").await.json();
        assert_eq!((&page["events"][0]["id"], &page["events"][1]["id"]), (&json!(first), &json!(third)));
        assert_eq!((page["events"].as_array().unwrap().len(), &page["unreadable"]), (2, &json!(["v2_1"])));
        let next = page["next"].as_str().unwrap();
        let end = acme.get(&format!("/v1/events?after={next}")).await.json();
        assert_eq!((&end["events"], end.get("unreadable")), (&json!([]), None));

        // A page never consists of unreadable events only while readable ones follow.
        let page = acme.get(&format!("/v1/events?limit=1&after={first}")).await.json();
        assert_eq!((&page["events"][0]["id"], &page["unreadable"]), (&json!(third), &json!(["v2_1"])));

        let mut subscriber = Subscriber::open(&acme, "/v1/events?after=earliest", None).await;
        let comment = StreamBlock::Comment("unreadable [\"v2_1\"]".to_owned());
        assert_eq!(subscriber.next().await, Some(comment));
        for expected in [first, third] {
            let Some(StreamBlock::Event { id, .. }) = subscriber.next().await else { panic!("no event") };
            assert_eq!(id, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn lists_of_deliveries_webhooks_and_usage_name_the_unreadable_rows() {
    on_both_engines(async |stage| {
        complete(&stage, &["1", "2"]).await;
        let acme = stage.acme();
        let deliveries = acme.get("/v1/deliveries").await.json()["deliveries"].take();
        let bad = deliveries[0]["id"].as_str().unwrap();
        stage.rows().change(&format!("UPDATE deliveries SET payload = 'v2' WHERE id = '{bad}'"), 1).await;
        let page = acme.get("/v1/deliveries").await.json();
        assert_eq!((page["deliveries"].as_array().unwrap().len(), &page["unreadable"]), (1, &json!([bad])));
        acme.get(&format!("/v1/deliveries/{bad}")).await.problem(500, "unreadable_record");

        let created =
            acme.post("/v1/webhooks", json!({"url": stage.hook("ok"), "events": ["analysis.failed"]}));
        let webhook = created.await.json()["id"].as_str().unwrap().to_owned();
        stage.rows().change("UPDATE webhooks SET events = 'analysis.v2'", 1).await;
        assert_eq!(acme.get("/v1/webhooks").await.json(), json!({"webhooks": [], "unreadable": [webhook]}));
        let path = format!("/v1/webhooks/{webhook}");
        acme.get(&path).await.problem(500, "unreadable_record");
        // Calls are still completed and announced.
        complete(&stage, &["3"]).await;
        assert_eq!(acme.send(Method::DELETE, &path, &[], "").await.status, 204);

        let today = acme.get("/v1/usage").await.json()["days"].as_array().unwrap().len();
        stage.rows().change("UPDATE usage SET polls = -1", 1).await;
        let report = acme.get("/v1/usage").await.json();
        assert_eq!(report["days"].as_array().unwrap().len(), today - 1);
        assert_eq!(report["unreadable"].as_array().unwrap().len(), 1);
    })
    .await;
}
