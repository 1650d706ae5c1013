//! Loss of the SQLite file under a running gateway.

use serde_json::json;

use crate::stage::Stage;

/// Starts a gateway on a file, with one finished call.
async fn stage() -> Stage {
    let stage = Stage::on(None, &[]).await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    stage.acme().outcome("1").await;
    stage
}

async fn is_refused(stage: &Stage, reason: &str) {
    let acme = stage.acme().without_retries();
    let refused = acme.submit(json!({"call_id": "2"})).await;
    refused.problem(503, "unavailable");
    assert!(refused.has("retry-after"));
    let batch = acme.post("/v1/analyses/batch", json!({"analyses": [{"call_id": "3"}]})).await;
    batch.problem(503, "unavailable");
    acme.analysis("1").await.problem(503, "unavailable");
    acme.get("/v1/analyses").await.problem(503, "unavailable");
    let (status, body) = stage.admin("readyz").await;
    assert_eq!(status, 503);
    assert!(body.starts_with("not ready: the store is lost: ") && body.contains(reason), "{body}");
    let metrics = stage.admin("metrics").await.1;
    for line in ["alovoice_gateway_store_file_lost 1\n", "alovoice_gateway_ready 0\n"] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test]
async fn nothing_is_accepted_after_the_file_was_removed() {
    let stage = stage().await;
    assert!(stage.admin("metrics").await.1.contains("alovoice_gateway_store_file_lost 0\n"));
    for ending in ["", "-wal", "-shm"] {
        std::fs::remove_file(stage.home.path().join(format!("gateway.db{ending}"))).unwrap();
    }
    is_refused(&stage, "gateway.db was removed").await;
}

#[tokio::test]
async fn nothing_is_accepted_after_the_file_was_replaced() {
    let stage = stage().await;
    let (file, copy) = (stage.home.path().join("gateway.db"), stage.home.path().join("copy.db"));
    std::fs::copy(&file, &copy).unwrap();
    std::fs::rename(&copy, &file).unwrap();
    is_refused(&stage, "gateway.db was replaced").await;
}

/// The gateway notices the loss even if no request needs the store.
#[tokio::test]
async fn an_idle_gateway_notices_the_loss() {
    let stage = stage().await;
    std::fs::remove_file(stage.home.path().join("gateway.db")).unwrap();
    while stage.gateway.store().is_current() {
        tokio::task::yield_now().await;
    }
    is_refused(&stage, "gateway.db was removed").await;
}
