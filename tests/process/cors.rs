//! CORS in a real browser, with a page of another origin.

use serde_json::{Value, json};

use crate::peers::{browser, run, text};
use crate::postgres::cluster::free_port;
use crate::stage::{SCOPES, Stage};

#[tokio::test]
async fn only_a_page_of_an_allowed_origin_can_read_responses() {
    let mut stage = Stage::set_up().await;
    let port = free_port().to_string();
    stage.set("CORS__ALLOWED_ORIGINS", &format!("http://127.0.0.1:{port}"));
    let gateway = stage.serve().await;
    let mut page = browser("cors.cjs");
    page.args([&port, gateway.api.as_str(), &stage.token(SCOPES), "known-1"]).env("HOME", stage.home.path());
    let output = run(page, "").await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let blocked = json!({"error": "TypeError"});
    let refused =
        json!({"status": 401, "seen": ["x-request-id", "www-authenticate"], "code": "unauthorized"});
    assert_eq!(
        results,
        json!([
            {
                "read": {"status": 200, "seen": ["etag", "x-request-id"]},
                "submitted": {"status": 202, "seen": ["etag", "x-request-id", "location"]},
                "refused": refused,
            },
            {"read": blocked, "submitted": blocked, "refused": blocked},
        ])
    );
    gateway.stop().await;
}
