//! Limits of lists and searches: fair shares, deadlines, cancellation, and bounded work per page.

use std::time::Instant;

use alovoice_gateway::domain::clock::{Clock, SystemClock, Timestamp};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_postgres::Client;

use crate::metrics::scrape_until;
use crate::patience::PATIENCE;
use crate::stage::{EVERY_SCOPE, Stage, token};

/// Makes every list of analyses endless, while all other reads and writes work as before. On PostgreSQL, lists continue when
/// the returned client is dropped.
async fn block_lists(stage: &Stage) -> Option<Client> {
    if stage.is_on_file() {
        let endless = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)";
        let view = format!(
            "ALTER TABLE listings RENAME TO summaries; \
             CREATE VIEW listings AS {endless} SELECT -n AS analysis, '' AS summary FROM numbers"
        );
        stage.rows().execute(&view).await;
        return None;
    }
    let client = stage.database().connect().await;
    client.batch_execute("BEGIN; LOCK TABLE listings IN ACCESS EXCLUSIVE MODE").await.unwrap();
    Some(client)
}

/// Makes every read of events endless. On PostgreSQL, reads continue when the returned client is dropped.
async fn block_events(stage: &Stage) -> Option<Client> {
    if stage.is_on_file() {
        let endless = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)";
        let view = format!(
            "ALTER TABLE events RENAME TO feed_events; CREATE VIEW events AS {endless} \
             SELECT 'acme' AS tenant, n AS position, '' AS id, '' AS kind, '' AS body, n AS seq, n AS at, '' AS call_id FROM numbers"
        );
        stage.rows().execute(&view).await;
        return None;
    }
    let client = stage.database().connect().await;
    client.batch_execute("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await.unwrap();
    Some(client)
}

/// Maximum numbers of running and of waiting scans of one tenant.
const RUNNING: usize = 2;
const WAITING: usize = 16;

#[tokio::test]
async fn lists_of_one_tenant_leave_the_store_to_the_others() {
    let stage = Stage::start().await;
    let (acme, globex) = (stage.acme(), stage.globex());
    for caller in [&acme, &globex] {
        caller.submitted(json!({"call_id": "1"})).await;
        caller.outcome("1").await;
    }
    let lock = block_lists(&stage).await;
    let began = Instant::now();
    // On a busy machine, lists may reach their deadline before the caller disconnects.
    while !are_cancelled_by_a_disconnect(&stage).await {
        assert!(began.elapsed() < PATIENCE, "the lists always reach their deadline");
    }
    assert_eq!(acme.get("/v1/usage").await.status, 200);
    if let Some(lock) = lock {
        let active = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE '%listings%'";
        while lock.query_one(active, &[]).await.unwrap().get::<_, i64>(0) > 0 {}
        lock.batch_execute("COMMIT").await.unwrap();
        assert_eq!(acme.get("/v1/analyses").await.status, 200);
    }
}

/// The number of lists of `acme` that ended in this way.
fn ended(page: &str, outcome: &str) -> usize {
    let series = format!("store_scans_total{{outcome=\"{outcome}\",tenant=\"acme\"}} ");
    page.split_once(&series).map_or(0, |(_, rest)| rest.lines().next().unwrap().parse().unwrap())
}

/// Requests more lists than may wait, and disconnects. Returns false if a list reached its deadline before.
async fn are_cancelled_by_a_disconnect(stage: &Stage) -> bool {
    let (acme, globex) = (stage.acme().without_retries(), stage.globex());
    let before = scrape_until(&stage.gateway, &["store_scans_running 0"]).await;
    let refused = 5;
    let mut lists: FuturesUnordered<_> =
        (0..RUNNING + WAITING + refused).map(|_| acme.get("/v1/analyses")).collect();
    for _ in 0..refused {
        let answer = lists.next().await.unwrap();
        if answer.status == 503 {
            return false;
        }
        let problem = answer.problem(429, "too_many_reads");
        assert!(problem["detail"].as_str().unwrap().contains("expensive reads"), "{problem}");
        assert_eq!(answer.header("retry-after"), "1");
    }
    // Cheap requests of both tenants, and statistics of the other tenant, are answered.
    for caller in [&stage.acme(), &globex] {
        assert_eq!(caller.analysis("1").await.status, 200);
        assert_eq!(caller.get("/v1/events?after=earliest").await.status, 200);
        caller.submitted(json!({"call_id": "never-ready~2"})).await;
        assert_eq!(caller.analysis("never-ready~2").await.status, 200);
    }
    assert_eq!(globex.get("/v1/usage").await.status, 200);

    // The caller disconnects. This ends its lists, although the store would never answer.
    drop(lists);
    loop {
        let page = scrape_until(&stage.gateway, &["store_scans_running 0"]).await;
        let grown = |outcome| ended(&page, outcome) - ended(&before, outcome);
        if grown("deadline") > 0 {
            return false;
        }
        if grown("cancelled") == RUNNING + WAITING {
            assert_eq!(grown("tenant_limit"), refused);
            return true;
        }
    }
}

#[tokio::test]
async fn small_answers_do_not_wait_for_reads_of_events() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    // The list has more than 8 KiB.
    for call_id in ["never-ready~1", "never-ready~2", "never-ready~3"] {
        acme.submitted(json!({"call_id": call_id, "metadata": {"note": "x".repeat(4000)}})).await;
    }
    let _lock = block_events(&stage).await;
    let acme = acme.without_retries();
    let list = async || {
        // Two reads take the share of the tenant in the memory for answers.
        scrape_until(&stage.gateway, &["store_scans_running 2"]).await;
        acme.get("/v1/analyses").await
    };
    let answer = loop {
        let mut reads: FuturesUnordered<_> = (0..2).map(|_| acme.get("/v1/events?after=earliest")).collect();
        tokio::select! {
            // On a busy machine, a read may reach its deadline before.
            _ = reads.next() => {}
            answer = list() => break answer,
        }
    };
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json().to_string().len() > 8 << 10);
}

#[tokio::test]
async fn a_list_ends_at_its_deadline() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1"})).await;
    let _lock = block_lists(&stage).await;
    let answer = acme.without_retries().get("/v1/analyses").await;
    answer.problem(503, "read_timeout");
    assert_eq!(answer.header("retry-after"), "5");
    scrape_until(
        &stage.gateway,
        &["store_scans_total{outcome=\"deadline\",tenant=\"acme\"} 1", "store_scans_running 0"],
    )
    .await;
}

#[tokio::test]
async fn a_write_continues_after_its_caller_has_disconnected() {
    let stage = Stage::start().await;
    let api = stage.gateway.api();
    let mut socket = TcpStream::connect((api.host_str().unwrap(), api.port().unwrap())).await.unwrap();
    let request = format!(
        "POST /v1/analyses HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{{\"call_id\":\"1\"}}",
        token("acme", EVERY_SCOPE)
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    drop(socket);
    stage.record("1", |_| true).await;
}

/// Times are compared as times: their texts have up to three digits after the second.
fn time(value: &Value) -> Timestamp {
    serde_json::from_value(value.clone()).unwrap()
}

/// Number of calls of which a page examines only a part.
const MANY: usize = 25_000;
/// Number of the oldest of these calls that have the tag, besides the newest one.
const OLD: usize = 2_500;

#[tokio::test]
async fn a_search_continues_where_its_page_ended() {
    let stage = Stage::start().await;
    let rows = stage.rows();
    // Retention deletes older calls.
    let start = SystemClock.now().as_millis() - 3_600_000;
    let numbers = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {MANY})"
    );
    rows.execute(&format!(
        "{numbers} INSERT INTO analyses (tenant, call_id, status, revision, submitted_at, finished_at, metadata, trace) \
         SELECT 'acme', CAST(n AS text), 'completed', 1, {start} + n, {start} + n, '{{}}', '{{\"trace_id\":1,\"flags\":0}}' FROM numbers"
    ))
    .await;
    rows.execute(&format!(
        "INSERT INTO tags (tenant, name, analysis) \
         SELECT 'acme', 'price', id FROM analyses WHERE submitted_at <= {start} + {OLD} OR submitted_at = {start} + {MANY}"
    ))
    .await;
    let (acme, mut found, mut early_pages) = (stage.acme(), Vec::new(), 0);
    let mut query = "?tag=price&limit=200".to_owned();
    loop {
        let answer = acme.get(&format!("/v1/analyses{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        let calls = page["analyses"].as_array().unwrap();
        let number = |call: &Value| -> usize { call["call_id"].as_str().unwrap().parse().unwrap() };
        found.extend(calls.iter().map(number));
        if page["searched_back_to"].is_string() {
            let reached = time(&page["searched_back_to"]);
            early_pages += 1;
            assert!(calls.len() < 200 && page["next_cursor"].is_string(), "{page}");
            assert!(calls.iter().all(|call| time(&call["submitted_at"]) >= reached), "{page}");
        } else {
            assert_eq!(calls.len() == 200, page["next_cursor"].is_string(), "{page}");
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?tag=price&limit=200&cursor={cursor}");
    }
    let wanted: Vec<usize> = std::iter::once(MANY).chain((1..=OLD).rev()).collect();
    assert_eq!(found, wanted);
    assert!(early_pages > 0);
}
