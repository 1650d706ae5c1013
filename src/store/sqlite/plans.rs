//! Tests that every query of a claim, a list or the metrics uses an index, so its cost does not grow with the store.

use rusqlite::Connection;

use super::super::Queue;
use super::super::attributes::WITHOUT_ATTRIBUTES;
use super::super::deletion::{DELETE_ANALYSES, DELETE_EVENTS, DELETE_REPLAYS};
use super::super::deliveries::FIND as FIND_DELIVERY;
use super::super::events::ENABLED_WEBHOOKS;
use super::super::feed::{EVENTS_AFTER, NEXT_EVENT};
use super::super::idempotency::DELETE as DELETE_KEYS;
use super::super::refreshes::IN_PROGRESS;
use super::super::refused_work::RESUME;
use super::super::replay_steps::SCAN;
use super::super::replays::COUNT;
use super::super::transitions::{NEXT_START, OVERDUE};
use super::super::webhook_activity::{ACTIVITY, PENDING as PENDING_OF_WEBHOOK};
use super::super::webhook_deletion::DELETE_DELIVERIES;
use super::claims::{UNDER_WAY as WORK_UNDER_WAY, claim_sql, next_work_sql};
use super::deliveries::list_sql as deliveries_sql;
use super::delivery_claims::{LIMITED_WEBHOOKS, NEXT, NEXT_RECEIVER, OLDEST, OLDEST_OF_RECEIVER, UNDER_WAY};
use super::file::{MIGRATIONS, configure};
use super::list_statement::order_sql;
use super::stats::{OLDEST_DELIVERY, PENDING, UNFINISHED, WEBHOOKS, oldest_work_sql};
use crate::domain::analysis::Status;
use crate::domain::attributes::{Attribute, AttributeSource};
use crate::domain::claim_order::ClaimOrder;
use crate::domain::clock::{SystemEntropy, Timestamp};
use crate::domain::deliveries::{DeliveryFilter, DeliveryQuery, DeliveryStatus};
use crate::domain::ids::{CallId, TenantId, WebhookId};
use crate::domain::listing::{AnalysisFilter, AnalysisQuery, ListPosition};

const NOW: Timestamp = Timestamp::from_millis(1_716_207_617_000);

/// Returns the query plan of a statement. Covering indexes are shown as other indexes.
fn plan(sql: &str) -> Vec<String> {
    let connection = Connection::open_in_memory().unwrap();
    for migration in MIGRATIONS {
        connection.execute_batch(migration).unwrap();
    }
    let mut explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    // The values of parameters do not change the plan.
    let nothing = vec![None::<i64>; explained.parameter_count()];
    let lines = explained.query_map(rusqlite::params_from_iter(nothing), |row| row.get("detail")).unwrap();
    lines.map(|line: Result<String, _>| line.unwrap().replace("COVERING INDEX", "INDEX")).collect()
}

#[test]
fn a_claim_of_work_uses_the_index_of_its_queue() {
    for (queue, index) in [(Queue::Submits, "analyses_to_submit"), (Queue::Polls, "analyses_to_poll")] {
        assert_eq!(
            plan(&claim_sql(queue, ClaimOrder::OldestFirst)),
            [
                "SEARCH analyses USING INTEGER PRIMARY KEY (rowid=?)".to_owned(),
                "LIST SUBQUERY 1".to_owned(),
                format!("SEARCH analyses USING INDEX {index} (tenant=? AND due_at<?)"),
            ]
        );
        assert_eq!(
            plan(&next_work_sql(queue)),
            [format!("SEARCH analyses USING INDEX {index} (tenant=? AND due_at>?)")]
        );
        for newest in [false, true] {
            let plan = plan(&claim_sql(queue, ClaimOrder::UnfailedFirst { max_failed: 1, newest }));
            let search = format!("SEARCH analyses USING INDEX {index} (tenant=? AND due_at<?)");
            assert!(plan.contains(&search), "{plan:?}");
            assert!(plan.iter().all(|line| !line.starts_with("SCAN analyses")), "{plan:?}");
        }
    }
}

#[test]
fn work_in_progress_is_counted_along_its_own_index() {
    assert_eq!(plan(WORK_UNDER_WAY), ["SEARCH analyses USING INDEX analyses_under_way (tenant=?)"]);
}

#[test]
fn a_claim_of_deliveries_uses_indexes() {
    let search = |index, terms| format!("SEARCH deliveries USING INDEX {index} ({terms})");
    let event = "SEARCH events USING INTEGER PRIMARY KEY (rowid=?)".to_owned();
    let (due, by_receiver) = ("deliveries_due", "deliveries_due_by_receiver");
    assert_eq!(plan(OLDEST), [search(due, "tenant=? AND due_at<?"), event.clone()]);
    assert_eq!(plan(NEXT), [search(due, "tenant=? AND due_at>?")]);
    assert_eq!(plan(UNDER_WAY), [search("deliveries_under_way", "tenant=?")]);
    assert_eq!(plan(NEXT_RECEIVER), [search(by_receiver, "tenant=? AND receiver>?")]);
    let of_receiver = search(by_receiver, "tenant=? AND receiver=? AND due_at<?");
    assert_eq!(plan(OLDEST_OF_RECEIVER), [of_receiver, event]);
}

#[test]
fn a_delivery_is_read_with_its_attempts_along_their_keys() {
    let plan = plan(FIND_DELIVERY.sqlite());
    assert!(
        plan.contains(&"SEARCH attempts USING PRIMARY KEY (delivery=?) LEFT-JOIN".to_owned()),
        "{plan:?}"
    );
    assert!(plan.iter().all(|line| !line.starts_with("SCAN")), "{plan:?}");
}

#[test]
fn refreshes_are_counted_along_their_own_index() {
    let search = "SEARCH analyses USING INDEX analyses_to_refresh (tenant=?)".to_owned();
    assert!(plan(IN_PROGRESS.sqlite()).contains(&search));
}

#[test]
fn refused_work_is_found_by_its_queue() {
    for ((_, sql), index) in RESUME.iter().zip(["analyses_to_submit", "analyses_to_poll"]) {
        let search = format!("SEARCH analyses USING INDEX {index} (tenant=? AND due_at>?)");
        assert!(plan(sql.sqlite()).contains(&search), "{:?}", plan(sql.sqlite()));
    }
}

#[test]
fn overdue_analyses_are_found_by_their_start() {
    for (sql, term) in [(OVERDUE.sqlite(), "started_at<?"), (NEXT_START.sqlite(), "started_at>?")] {
        assert_eq!(
            plan(sql),
            [format!("SEARCH analyses USING INDEX analyses_by_start (tenant=? AND {term})")]
        );
    }
}

#[test]
fn a_page_of_analyses_is_read_in_the_order_of_an_index() {
    let page = |status, after| {
        let filter = AnalysisFilter { status, ..AnalysisFilter::default() };
        let tenant = TenantId::parse("acme").unwrap();
        let query = AnalysisQuery { filter, after, limit: 10 };
        order_sql(&tenant, &query, None, query.after.as_ref(), 10).0
    };
    let position = ListPosition { submitted_at: Timestamp::from_millis(0), call_id: "1".to_owned() };
    for (sql, index) in [
        (page(None, None), "analyses_newest (tenant=?)"),
        (page(Some(Status::Completed), None), "analyses_with_result (tenant=?)"),
        (page(None, Some(position)), "analyses_newest (tenant=? AND (submitted_at,call_id)<(?,?))"),
        (page(Some(Status::Failed), None), "analyses_not_completed (tenant=? AND status=?)"),
    ] {
        assert_eq!(plan(&sql), [format!("SEARCH analyses USING INDEX {index}")]);
    }
}

#[test]
fn a_page_of_calls_with_an_attribute_is_read_in_the_order_of_its_index() {
    let agent = Attribute::new(AttributeSource::Agent, "17").unwrap();
    let tenant = TenantId::parse("acme").unwrap();
    let position = ListPosition { submitted_at: Timestamp::from_millis(0), call_id: "1".to_owned() };
    let ticket = Attribute::new(AttributeSource::Metadata("ticket"), "T-1").unwrap();
    for attributes in [vec![agent.clone()], vec![agent.clone(), ticket]] {
        for (after, terms) in [(None, ""), (Some(&position), " AND (submitted_at,call_id)<(?,?)")] {
            let filter = AnalysisFilter {
                attributes: attributes.clone(),
                status: Some(Status::Completed),
                ..AnalysisFilter::default()
            };
            let query = AnalysisQuery { filter, after: None, limit: 10 };
            let (sql, _) = order_sql(&tenant, &query, Some(&agent), after, 10);
            let index = "attributes USING INDEX attributes_newest (tenant=? AND name=? AND value=?";
            assert_eq!(plan(&sql), [format!("SEARCH {index}{terms})")]);
        }
    }
    // The index has only the analyses that the statement looks for.
    assert_eq!(plan(WITHOUT_ATTRIBUTES.sqlite()), ["SCAN analyses USING INDEX analyses_without_attributes"]);
}

#[test]
fn expired_rows_are_found_by_their_age() {
    for (sql, index) in [
        (DELETE_ANALYSES.sqlite(), "SEARCH analyses USING INDEX analyses_at_rest (finished_at<?)"),
        (DELETE_EVENTS.sqlite(), "SEARCH events USING INDEX events_by_time (at<?)"),
        (DELETE_KEYS.sqlite(), "SEARCH idempotency USING INDEX idempotency_by_expiry (expires_at<?)"),
    ] {
        let plan = plan(sql);
        assert!(plan.iter().any(|line| line == index), "{plan:?}");
        assert!(plan.iter().all(|line| !line.starts_with("SCAN")), "{plan:?}");
    }
}

#[test]
fn a_page_of_the_feed_uses_its_index() {
    let plan = plan(EVENTS_AFTER.sqlite());
    assert_eq!(plan, ["SEARCH events USING INDEX events_in_feed (tenant=? AND position>?)"]);
}

#[test]
fn the_position_of_a_deleted_event_is_found_along_the_feed() {
    assert_eq!(
        plan(NEXT_EVENT.sqlite()),
        ["SEARCH events USING INDEX events_in_feed (tenant=? AND position>?)"]
    );
}

#[test]
fn the_metrics_read_unfinished_rows_only() {
    let search = |table, index, terms| vec![format!("SEARCH {table} USING INDEX {index} ({terms})")];
    let status = search("analyses", "analyses_not_completed", "tenant=? AND status=?");
    assert_eq!(plan(UNFINISHED), status);
    for (queue, index) in [(Queue::Submits, "analyses_to_submit"), (Queue::Polls, "analyses_to_poll")] {
        assert_eq!(plan(&oldest_work_sql(queue)), search("analyses", index, "tenant=?"));
    }
    let due = search("deliveries", "deliveries_due", "tenant=?");
    let by_receiver = search("deliveries", "deliveries_due_by_receiver", "tenant=?");
    assert!([&due, &by_receiver].contains(&&plan(PENDING)), "both indexes hold pending deliveries only");
    let oldest = plan(OLDEST_DELIVERY);
    assert_eq!(oldest[0], due[0]);
    assert!(
        oldest.iter().any(|step| step.contains("webhooks USING INDEX webhooks_limited (tenant=?)")),
        "{oldest:?}"
    );
    assert!(!oldest.iter().any(|step| step.contains("TEMP B-TREE")), "{oldest:?}");
    assert_eq!(plan(WEBHOOKS), search("webhooks", "webhooks_of_tenant", "tenant=?"));
}

#[test]
fn a_page_of_deliveries_is_read_in_the_order_of_an_index() {
    let (acme, webhook) = (TenantId::parse("acme").unwrap(), WebhookId::generate(NOW, &SystemEntropy));
    let call = || Some(CallId::parse("1").unwrap());
    let search = |terms| format!("SEARCH deliveries USING INDEX {terms}");
    for (webhook, status, call_id, index) in [
        (None, None, None, "deliveries_newest (tenant=? AND seq<?)"),
        (
            None,
            Some(DeliveryStatus::Failed),
            None,
            "deliveries_not_delivered (tenant=? AND status=? AND seq<?)",
        ),
        (None, Some(DeliveryStatus::Delivered), None, "deliveries_delivered (tenant=? AND seq<?)"),
        (
            Some(webhook),
            Some(DeliveryStatus::Delivered),
            None,
            "deliveries_of_webhook_delivered (webhook=? AND seq<?)",
        ),
        (Some(webhook), None, None, "deliveries_of_webhook (webhook=? AND seq<?)"),
        (
            Some(webhook),
            Some(DeliveryStatus::Pending),
            None,
            "deliveries_of_webhook_not_delivered (webhook=? AND status=? AND seq<?)",
        ),
        (None, None, call(), "deliveries_of_call (tenant=? AND call_id=? AND seq<?)"),
        (Some(webhook), None, call(), "deliveries_of_call (tenant=? AND call_id=? AND seq<?)"),
    ] {
        let filter = DeliveryFilter { webhook, status, call_id };
        let page = DeliveryQuery { filter, after: Some(1), limit: 10 };
        let plan = plan(&deliveries_sql(&acme, &page).0);
        assert_eq!(plan[0], search(index), "{page:?}");
        assert!(plan.iter().all(|line| !line.starts_with("SCAN") && !line.contains("B-TREE")), "{plan:?}");
    }
}

#[test]
fn queries_of_webhooks_and_replays_use_indexes() {
    let events = "events USING INDEX events_of_tenant_by_time";
    for (sql, search) in [
        (ENABLED_WEBHOOKS.sqlite(), "webhooks USING INDEX webhooks_of_tenant (tenant=?)".to_owned()),
        (LIMITED_WEBHOOKS, "webhooks USING INDEX webhooks_limited (tenant=?)".to_owned()),
        // The index search starts at the time of the cursor. Earlier events with the same time are skipped.
        (SCAN.sqlite(), format!("{events} (tenant=? AND at>? AND at<?)")),
    ] {
        assert_eq!(plan(sql), [format!("SEARCH {search}")]);
    }
    let count = plan(COUNT.sqlite());
    let search = format!("SEARCH {events} (tenant=? AND at>? AND at<?)");
    assert!(count.contains(&search), "{count:?}");
    assert!(!count.iter().any(|line| line.starts_with("SCAN events")), "{count:?}");
    let activity = plan(ACTIVITY.sqlite());
    for search in [
        "SEARCH deliveries USING INDEX deliveries_of_webhook (webhook=?)",
        "SEARCH attempts USING PRIMARY KEY (delivery=? AND number>?)",
    ] {
        assert!(activity.iter().any(|line| line == search), "{activity:?}");
    }
    let pending = plan(PENDING_OF_WEBHOOK.sqlite());
    let by_receiver = "SEARCH deliveries USING INDEX deliveries_due_by_receiver (tenant=? AND receiver=?)";
    assert!(pending.iter().any(|line| line == by_receiver), "{pending:?}");
    for (sql, index) in [
        (DELETE_DELIVERIES.sqlite(), "deliveries_of_webhook (webhook=?)"),
        (DELETE_REPLAYS.sqlite(), "replays_finished (finished_at>? AND finished_at<?)"),
    ] {
        let plan = plan(sql);
        assert!(plan.iter().any(|line| line.ends_with(index)), "{plan:?}");
        assert!(plan.iter().all(|line| !line.starts_with("SCAN")), "{plan:?}");
    }
}

#[test]
fn every_commit_of_the_writer_is_synced() {
    const FULL: i64 = 2;
    let folder = tempfile::tempdir().unwrap();
    let connection = Connection::open(folder.path().join("store.db")).unwrap();
    configure(&connection).unwrap();
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((mode.as_str(), number("synchronous"), number("foreign_keys")), ("wal", FULL, 1));
}
