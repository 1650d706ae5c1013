//! Call facts: given with a submission, returned everywhere, and filters of lists.

use serde_json::{Map, Value, json};

use crate::caller::Caller;
use crate::stage::Stage;

async fn found(caller: &Caller, query: &str) -> Vec<String> {
    let answer = caller.get(&format!("/v1/analyses?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    let listed = answer.json()["analyses"].as_array().unwrap().clone();
    listed.iter().map(|entry| entry["call_id"].as_str().unwrap().to_owned()).collect()
}

fn given() -> Value {
    json!({
        "direction": "inbound", "agent": {"id": "17", "name": "Dilnoza"}, "phone": "90 123-45-67", "queue": "support",
        "started_at": "2024-05-20T17:20:17+05:00", "crm": {"bitrix24_call_id": "externalCall.a1b2"},
    })
}

fn kept() -> Value {
    json!({
        "direction": "inbound", "agent": {"id": "17", "name": "Dilnoza"}, "phone": "+998901234567", "queue": "support",
        "started_at": "2024-05-20T12:20:17Z", "crm": {"bitrix24_call_id": "externalCall.a1b2"},
    })
}

#[tokio::test]
async fn call_facts_are_in_the_analysis_the_list_the_events_and_the_callback() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let callback = json!({"url": stage.hook("ok")});
    let answer = acme.submit(json!({"call_id": "1", "call": given(), "callback": callback})).await;
    assert_eq!((answer.status, &answer.json()["call"]), (202, &kept()));
    assert_eq!(acme.outcome("1").await["call"], kept());
    let listed = acme.get("/v1/analyses").await.json();
    assert_eq!(listed["analyses"][0]["call"], kept());
    let events = acme.get("/v1/events").await.json();
    assert_eq!(events["events"][0]["data"]["call"], kept());
    let event: Value = serde_json::from_slice(&stage.receiver.next().await.body).unwrap();
    assert_eq!(event["data"]["call"], kept());

    acme.submitted(json!({"call_id": "2"})).await;
    let nothing = json!({
        "direction": null, "agent": null, "phone": null, "queue": null, "started_at": null, "crm": {},
    });
    assert_eq!(acme.outcome("2").await["call"], nothing);
    assert_eq!(acme.analysis("known-1").await.json()["call"], nothing, "a call that was never submitted");
}

#[tokio::test]
async fn a_resubmission_replaces_the_facts_that_it_has() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1", "call": given()})).await;
    let before = acme.outcome("1").await;
    let etag = acme.analysis("1").await.header("etag").to_owned();
    for nothing in [json!({}), json!(null), json!({"phone": null, "agent": null, "crm": null})] {
        assert_eq!(acme.submit(json!({"call_id": "1", "call": nothing})).await.status, 200);
        assert_eq!(acme.analysis("1").await.header("etag"), etag);
    }
    let changes = json!({"agent": {"name": "Aziz"}, "phone": "+7 495 123-45-67", "crm": {"lead": "42"}});
    let answer = acme.submit(json!({"call_id": "1", "call": changes})).await;
    let mut expected = kept();
    expected["agent"] = json!({"id": null, "name": "Aziz"});
    expected["phone"] = json!("+74951234567");
    expected["crm"] = json!({"lead": "42"});
    assert_eq!((answer.status, &answer.json()["call"]), (200, &expected));
    let after = acme.analysis("1").await;
    assert_ne!(after.header("etag"), etag);
    let mut changed = before;
    changed["call"] = expected;
    assert_eq!(after.json(), changed);

    let without_ids = acme.submit(json!({"call_id": "1", "call": {"crm": {}}})).await;
    assert_eq!(without_ids.json()["call"]["crm"], json!({}));
}

#[tokio::test]
async fn items_of_a_batch_have_call_facts() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let many: Map<String, Value> = (0..17).map(|number| (format!("id{number}"), json!("1"))).collect();
    let batch = json!({"analyses": [
        {"call_id": "1", "call": given()},
        {"call_id": "2", "call": {"phone": "anonymous"}},
        {"call_id": "3", "call": {"crm": many}},
        {"call_id": "1", "call": {"queue": "sales"}},
    ]});
    let results = acme.post("/v1/analyses/batch", batch).await.json()["results"].clone();
    assert_eq!(results[0]["analysis"]["call"], kept());
    let pointer = |index: usize| results[index]["problem"]["errors"][0]["pointer"].clone();
    assert_eq!((pointer(1), pointer(2)), (json!("#/analyses/1/call/phone"), json!("#/analyses/2/call/crm")));
    let mut expected = kept();
    expected["queue"] = json!("sales");
    assert_eq!(results[3]["analysis"]["call"], expected);
    assert_eq!(found(&acme, "queue=sales&agent=17").await, ["1"]);
}

#[tokio::test]
async fn lists_filter_by_call_facts_and_metadata() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let metadata = json!({"ticket": "T-1", "client": {"id": 7, "tags": ["vip", "new"]}, "paid": true, "имя": "Ўткир & Co"});
    acme.submitted(json!({"call_id": "1", "call": given(), "metadata": metadata})).await;
    let other = json!({"direction": "outbound", "phone": "+74951234567", "agent": {"id": "Dilnoza"}});
    acme.submitted(json!({"call_id": "never-ready~2", "call": other, "metadata": {"ticket": "T-2"}})).await;
    acme.outcome("1").await;
    for (query, wanted) in [
        ("agent=17", &["1"][..]),
        ("agent=Dilnoza", &["never-ready~2", "1"]),
        ("agent=1", &[]),
        ("queue=support", &["1"]),
        ("direction=inbound", &["1"]),
        ("direction=outbound", &["never-ready~2"]),
        ("phone=%2B998901234567", &["1"]),
        ("phone=+998901234567", &["1"]),
        ("phone=+7%20495%20123-45-67", &["never-ready~2"]),
        ("phone=901234567", &["1"]),
        ("phone=%2B998%20(90)%20123-45-67", &["1"]),
        ("crm.bitrix24_call_id=externalCall.a1b2", &["1"]),
        ("metadata.ticket=T-1", &["1"]),
        ("metadata.ticket=t-1", &[]),
        ("metadata.client.id=7", &["1"]),
        ("metadata.client.tags=new", &["1"]),
        ("metadata.paid=true", &["1"]),
        ("metadata.%D0%B8%D0%BC%D1%8F=%D0%8E%D1%82%D0%BA%D0%B8%D1%80+%26%20Co", &["1"]),
        ("metadata%2Eticket=T-2", &["never-ready~2"]),
        ("crm.ticket=T-1", &[]),
        ("metadata.ticket=T-1&metadata.ticket=T-2", &[]),
        ("agent=Dilnoza&metadata.ticket=T-2&direction=outbound", &["never-ready~2"]),
        ("agent=Dilnoza&status=completed", &["1"]),
        ("agent=17&q=assalomu&status=completed&limit=1", &["1"]),
        ("agent=17&q=absent", &[]),
    ] {
        assert_eq!(found(&acme, query).await, wanted, "{query}");
        assert_eq!(found(&stage.globex(), query).await, [""; 0], "{query}");
    }
    let filter = "agent=Dilnoza&limit=1";
    let first = acme.get(&format!("/v1/analyses?{filter}")).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(found(&acme, &format!("{filter}&cursor={cursor}")).await, ["1"]);
    let other = acme.get(&format!("/v1/analyses?agent=17&limit=1&cursor={cursor}")).await;
    assert_eq!(other.pointers(), ["?cursor"]);
}

#[tokio::test]
async fn invalid_filters_are_named() {
    let stage = Stage::start().await;
    let many: Vec<_> = (0..17).map(|number| format!("crm.n{number}=1")).collect();
    for (query, pointers) in [
        ("phone=anonymous".to_owned(), &["?phone"][..]),
        ("phone=12".to_owned(), &["?phone"]),
        ("agent=".to_owned(), &["?agent"]),
        (format!("queue={}", "x".repeat(257)), &["?queue"]),
        ("direction=in".to_owned(), &["?direction"]),
        ("metadata.=1".to_owned(), &["?metadata."]),
        ("metadata.a=".to_owned(), &["?metadata.a"]),
        ("crm.a=%00".to_owned(), &["?crm.a"]),
        ("metadata=1".to_owned(), &["?metadata"]),
        ("crm=1".to_owned(), &["?crm"]),
        ("metadatas.a=1".to_owned(), &["?metadatas.a"]),
        ("phone=x&crm.a=&limit=0".to_owned(), &["?crm.a", "?limit", "?phone"]),
        (many.join("&"), &["?"]),
    ] {
        let answer = stage.acme().get(&format!("/v1/analyses?{query}")).await;
        answer.problem(422, "invalid_request");
        assert_eq!(answer.pointers(), pointers, "{query}");
    }
}

#[tokio::test]
async fn the_default_region_of_a_tenant_completes_phone_numbers() {
    let stage = Stage::with(&[("TENANTS__ACME__DEFAULT_REGION", "RU")]).await;
    let call = |phone: &str| json!({"call_id": "1", "call": {"phone": phone}});
    let phone = |analysis: Value| analysis["call"]["phone"].clone();
    assert_eq!(phone(stage.acme().submitted(call("8 (495) 123-45-67")).await), "+74951234567");
    assert_eq!(phone(stage.globex().submitted(call("90 123-45-67")).await), "+998901234567");
    assert_eq!(found(&stage.acme(), "phone=4951234567").await, ["1"]);
    assert_eq!(stage.globex().submit(call("8 (495) 123-45-67 1")).await.pointers(), ["#/call/phone"]);
}
