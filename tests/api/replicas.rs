//! Several gateways on one PostgreSQL database.

use serde_json::json;

use crate::postgres::link::{Link, Passage};
use crate::postgres::server::Server;
use crate::stage::{Stage, call};

async fn stage() -> Stage {
    let database = Server::shared().await.fresh_database().await;
    Stage::on(Some(database), &[]).await
}

#[tokio::test]
async fn a_call_can_be_submitted_at_one_replica_and_awaited_at_another() {
    let stage = stage().await;
    let other = stage.replica(stage.database().url()).await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    let finished = stage.acme_at(&other).outcome("1").await;
    assert_eq!(finished["status"], "completed");
    assert_eq!(stage.acme().analysis("1").await.json(), finished);
    assert_eq!(stage.vendor.accepted_submits(&call("1")), 1);
    assert!(other.drain().await);
}

#[tokio::test]
async fn a_change_at_one_replica_invalidates_the_cache_of_another() {
    let stage = stage().await;
    let other = stage.replica(stage.database().url()).await;
    stage.acme().submitted(json!({"call_id": "1", "metadata": {"ticket": "T-1"}})).await;
    let elsewhere = stage.acme_at(&other);
    assert_eq!(elsewhere.outcome("1").await["metadata"], json!({"ticket": "T-1"}));
    // The answer comes from the cache.
    let etag = elsewhere.analysis("1").await.header("etag").to_owned();
    let changed = stage.acme().submit(json!({"call_id": "1", "metadata": {"ticket": "T-2"}})).await;
    assert_eq!(changed.status, 200);
    // The database notification arrives without any further request.
    loop {
        let seen = elsewhere.analysis("1").await;
        if seen.header("etag") != etag {
            assert_eq!(seen.json()["metadata"], json!({"ticket": "T-2"}));
            break;
        }
    }
    assert!(other.drain().await);
}

#[tokio::test]
async fn a_deletion_at_one_replica_invalidates_the_cache_of_another() {
    let stage = stage().await;
    let other = stage.replica(stage.database().url()).await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    let elsewhere = stage.acme_at(&other);
    elsewhere.outcome("1").await;
    // The answer comes from the cache.
    elsewhere.analysis("1").await;
    let deleted = stage.acme().send(reqwest::Method::DELETE, "/v1/analyses/1", &[], "").await;
    assert_eq!(deleted.status, 204);
    // The database notification arrives without any further request.
    let gone = loop {
        let seen = elsewhere.analysis("1").await;
        if seen.status != 200 {
            break seen;
        }
    };
    gone.problem(404, "not_found");
    assert!(other.drain().await);
}

#[tokio::test]
async fn without_the_database_a_replica_answers_from_its_cache_and_stays_ready() {
    let stage = stage().await;
    let server = Server::shared().await;
    let link = Link::to(server.port(), Passage::Open).await;
    let other = stage.replica(&stage.database().url_through(&link)).await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    let elsewhere = stage.acme_at(&other);
    let finished = elsewhere.outcome("1").await;
    let cut_off = elsewhere.without_retries();
    let mut attempts = 0..5;
    let cached = loop {
        elsewhere.analysis("1").await;
        link.set(Passage::Cut);
        let answer = cut_off.analysis("1").await;
        // A late notification may have removed the answer from the cache. There are few of them.
        if answer.status == 200 || attempts.next().is_none() {
            break answer;
        }
        link.set(Passage::Open);
    };
    assert_eq!(cached.json(), finished);
    let unknown = cut_off.analysis("2").await;
    unknown.problem(503, "unavailable");
    assert!(unknown.has("retry-after"));
    assert_eq!(cut_off.submit(json!({"call_id": "3"})).await.status, 503);
    // The replica stays ready, because other replicas would have the same outage.
    let ready = reqwest::get(other.admin().join("readyz").unwrap()).await.unwrap();
    assert_eq!(ready.status(), 200);

    link.set(Passage::Open);
    elsewhere.submitted(json!({"call_id": "3"})).await;
    assert_eq!(elsewhere.outcome("3").await["status"], "completed");
    assert!(other.drain().await);
}

/// A pooler may give the listening session to another client while the connection seems to work.
#[tokio::test]
async fn a_replica_without_notifications_answers_from_the_database_and_says_so() {
    let stage = stage().await;
    let link = Link::that_reads_messages(Server::shared().await.port()).await;
    let listen_url = stage.database().url_through(&link);
    let other = stage.replica_with(("STORE__LISTEN_URL", &listen_url)).await;
    for call_id in ["1", "2"] {
        stage.acme().submitted(json!({"call_id": call_id})).await;
    }
    let elsewhere = stage.acme_at(&other);
    for call_id in ["1", "2"] {
        elsewhere.outcome(call_id).await;
        elsewhere.analysis(call_id).await;
    }
    let admin = async |path: &str| {
        let response = reqwest::get(other.admin().join(path).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    };
    // A busy database may delay the notifications.
    while admin("readyz").await != "ok\n" {}
    while !admin("metrics").await.contains("alovoice_gateway_store_notifications_arrive 1\n") {}

    link.set(Passage::WithoutNotifications);
    let deleted = stage.acme().send(reqwest::Method::DELETE, "/v1/analyses/1", &[], "").await;
    assert_eq!(deleted.status, 204);
    // The replica notices that its own notifications are missing. Until then its cache may answer.
    while admin("readyz").await == "ok\n" {}
    assert!(admin("readyz").await.starts_with("ok\nthe notifications of other replicas may not arrive"));
    assert!(admin("metrics").await.contains("alovoice_gateway_store_notifications_arrive 0\n"));
    elsewhere.analysis("1").await.problem(404, "not_found");
    let deleted = stage.acme().send(reqwest::Method::DELETE, "/v1/analyses/2", &[], "").await;
    assert_eq!(deleted.status, 204);
    elsewhere.analysis("2").await.problem(404, "not_found");
    // New work is done as before.
    elsewhere.submitted(json!({"call_id": "3"})).await;
    assert_eq!(elsewhere.outcome("3").await["status"], "completed");

    link.set(Passage::Open);
    while admin("readyz").await != "ok\n" {}
    elsewhere.analysis("3").await;
    let changed = stage.acme().submit(json!({"call_id": "3", "metadata": {"ticket": "T-2"}})).await;
    assert_eq!(changed.status, 200);
    while elsewhere.analysis("3").await.json()["metadata"] != json!({"ticket": "T-2"}) {}
    assert!(other.drain().await);
}
