//! SQL that creates the events, deliveries and usage of filled calls on both engines.

use crate::fill::{Calls, DUE_AFTER, FIRST_ID, TRACE};

/// Deliveries that are pending, and deliveries that failed.
const UNDELIVERED: i64 = 500;
const DAY: i64 = 86_400_000;
/// Beginning of valid ids, which end with a number.
const ID: &str = "01930000000070008000a00000000000";
const RECEIVER: &str = "https://a.example";

impl Calls<'_> {
    /// Returns the SQL for the events, deliveries and usage of the finished calls, after [`Calls::sql`]. The first `expired` calls become
    /// 100 days old.
    pub(crate) fn history_sql(&self, is_sqlite: bool, expired: i64) -> String {
        let Self { tenant, finished, newest, .. } = self;
        let body = if is_sqlite { "X'7b7d'" } else { r"'\x7b7d'" };
        let (age, failed, pending) = (100 * DAY, finished - 2 * UNDELIVERED, finished - UNDELIVERED);
        format!(
            "UPDATE analyses SET submitted_at = submitted_at - {age}, finished_at = finished_at - {age} \
             WHERE id <= {FIRST_ID} + {expired}; \
             INSERT INTO events (id, tenant, call_id, kind, at, body, position) SELECT 'evt_' || substr('{ID}', 1, \
             32 - length(CAST(id - {FIRST_ID} AS text))) || (id - {FIRST_ID}), tenant, call_id, 'analysis.completed', finished_at, {body}, \
             id - {FIRST_ID} FROM analyses WHERE tenant = '{tenant}' AND revision = 1; \
             INSERT INTO feeds (tenant, last) VALUES ('{tenant}', {finished}); \
             INSERT INTO deliveries (id, tenant, call_id, event, url, receiver, status, attempts, created_at, due_at, finished_at, trace) \
             SELECT 'dlv_' || substr(id, 5), tenant, call_id, seq, '{RECEIVER}/', '{RECEIVER}', CASE WHEN position <= {failed} THEN 'delivered' \
             WHEN position <= {pending} THEN 'failed' ELSE 'pending' END, CASE WHEN position <= {pending} THEN 1 ELSE 0 END, at, \
             {newest} + {DAY}, CASE WHEN position <= {pending} THEN at END, '{TRACE}' FROM events; \
             INSERT INTO attempts (delivery, number, started_at, outcome, status, latency_ms) \
             SELECT seq, 1, created_at, 'delivered', 204, 42 FROM deliveries WHERE status <> 'pending'; \
             INSERT INTO usage (tenant, day, submissions, polls, completions, failures, attempts, delivered, undelivered) \
             SELECT tenant, submitted_at / {DAY}, count(*), count(*), count(*), 0, 0, 0, 0 FROM analyses GROUP BY 1, 2; \
             INSERT INTO usage_by_fact (tenant, day, fact, value, submissions, completions, failures) \
             SELECT tenant, submitted_at / {DAY}, name, value, count(*), count(*), 0 FROM attributes WHERE name = 'agent' GROUP BY 1, 2, 3, 4; \
             UPDATE clock SET is_anchored = TRUE, retention_after = at;"
        )
    }

    /// Returns whether the unfinished calls are due, so that the gateway polls them.
    pub(crate) const fn are_unfinished_due(&self, now: i64) -> bool {
        now >= self.newest + DUE_AFTER
    }

    /// Returns the id of the event of the call with this number.
    pub(crate) fn event(number: i64) -> String {
        let number = number.to_string();
        format!("evt_{}{number}", &ID[..32 - number.len()])
    }
}
