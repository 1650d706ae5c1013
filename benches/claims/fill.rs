//! SQL that creates millions of rows on both engines.

use std::time::Duration;

use alovoice_gateway::domain::retries::RetryDecision;
use alovoice_gateway::store::FinishedAttempt;

/// A common table expression with the numbers from 1 to `count`.
fn count_to(count: usize) -> String {
    format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})")
}

/// Creates finished rows of `acme`, and due rows of both tenants. `body` is a literal of two bytes in the syntax of the engine.
pub(crate) fn sql(body: &str, at_rest: usize, due: usize, flood: usize) -> String {
    let mut sql = format!(
        "INSERT INTO analyses (tenant, call_id, status, revision, submitted_at, finished_at, metadata, trace) {} \
         SELECT 'acme', 'rest-' || i, 'completed', 1, i, i, '{{}}', '{TRACE}' FROM n; \
         INSERT INTO events (id, tenant, call_id, kind, at, body) {} \
         SELECT 'evt_rest' || i, 'acme', 'rest-' || i, 'analysis.completed', i, {body} FROM n; \
         INSERT INTO deliveries (id, tenant, call_id, event, url, receiver, status, created_at, due_at, trace) \
         SELECT 'dlv_' || seq, tenant, call_id, seq, 'https://a.example/', 'https://a.example', 'delivered', at, at, \
         '{TRACE}' FROM events;",
        count_to(at_rest),
        count_to(at_rest),
    );
    for (tenant, count) in [("acme", due), ("globex", flood)] {
        sql += &format!(
            "INSERT INTO analyses (tenant, call_id, status, revision, submitted_at, metadata, trace, stage, due_at, \
             started_at) {} SELECT '{tenant}', 'due-' || i, 'processing', 0, i, '{{}}', '{TRACE}', 'poll', i, i FROM n; \
             INSERT INTO events (id, tenant, call_id, kind, at, body) {} SELECT 'evt_' || \
             substr('{id}', 1, 32 - length('' || i)) || i, '{tenant}', 'due-' || i, 'analysis.completed', i, {body} FROM n; \
             INSERT INTO deliveries (id, tenant, call_id, event, url, receiver, status, created_at, due_at, trace) \
             SELECT 'dlv_' || substr(id, 5), tenant, call_id, seq, 'https://a.example/', 'https://a.example', 'pending', \
             at, at, '{TRACE}' FROM events WHERE call_id LIKE 'due-%' AND tenant = '{tenant}';",
            count_to(count),
            count_to(count),
            id = if tenant == "acme" { ID_A } else { ID_B },
        );
    }
    sql
}

/// Beginnings of valid ids, which end with a number.
const ID_A: &str = "01930000000070008000a00000000000";
const ID_B: &str = "01930000000070008000b00000000000";
const TRACE: &str = r#"{"trace_id":101518349412345678901234567890,"flags":0}"#;

pub(crate) fn delivered() -> FinishedAttempt {
    FinishedAttempt {
        outcome: "delivered",
        webhook_version: None,
        status: Some(204),
        latency: Duration::from_millis(42),
        detail: None,
        response: Vec::new(),
        next: RetryDecision::Delivered,
    }
}
