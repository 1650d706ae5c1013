//! Everything arrives, and goes on where it was.

use alovoice_gateway::domain::clock::SystemEntropy;
use alovoice_gateway::domain::deliveries::{DeliveryFilter, DeliveryQuery};
use alovoice_gateway::domain::listing::{AnalysisFilter, AnalysisQuery};
use alovoice_gateway::domain::search::SearchQuery;
use alovoice_gateway::store::Queue;
use alovoice_gateway::store::copy::{Comparison, CopyError};
use alovoice_gateway::store::sqlite;

use super::{A, B, CALLS, Move, every_kind_of_row, file_in, many_rows, one_row, shown};
use crate::harness::{Harness, LEASE, acme, globex, slots};

#[tokio::test]
async fn everything_that_the_api_shows_arrives() {
    let moved = Move::of(every_kind_of_row).await;
    let before = moved.twin();
    let copy = moved.carry().await;
    let comparisons = copy.finish().await.unwrap();
    assert!(comparisons.iter().all(|Comparison { file, database, .. }| file == database));
    drop(copy);

    let after = moved.serve().await.unwrap();
    for tenant in [acme(), globex()] {
        for call in CALLS {
            let (old, new) = (&*before.store, &*after.store);
            let expected = shown(old, &tenant, call).await;
            assert_eq!(expected.found.is_some(), tenant == acme() || call == "queued");
            assert!(shown(new, &tenant, call).await == expected, "{tenant} {call}");
        }
    }
    let lists = async |harness: &Harness, search: Option<&str>| {
        let search = search.map(|words| SearchQuery::parse(words, None).unwrap());
        let page = AnalysisQuery {
            filter: AnalysisFilter { search, ..AnalysisFilter::default() },
            after: None,
            limit: 1000,
        };
        harness.store.list_analyses(&acme(), page).await.unwrap()
    };
    for search in [None, Some("salom")] {
        let listed = lists(&before, search).await;
        assert!(listed.iter().any(|listed| listed.result.is_some()));
        assert_eq!(lists(&after, search).await, listed);
    }
    let of_before = before.store.list_webhooks(&acme()).await.unwrap();
    assert_eq!(of_before.len(), 1);
    assert_eq!(after.store.list_webhooks(&acme()).await.unwrap(), of_before);
    let all = async |harness: &Harness| {
        let page = DeliveryQuery { filter: DeliveryFilter::default(), after: None, limit: 1000 };
        harness.store.list_deliveries(&acme(), page).await.unwrap()
    };
    assert!(all(&before).await.iter().any(|delivery| delivery.webhook == Some(of_before[0].id)));
    assert_eq!(all(&after).await, all(&before).await);
    let advanced =
        [&before, &after].map(async |harness| harness.store.advance_replays_across_tenants().await.unwrap());
    let [old, new] = futures_util::future::join_all(advanced).await.try_into().unwrap();
    assert_eq!(old, new);
    let learned = before.rows.pace(&acme()).await;
    assert!(learned.is_some());
    assert_eq!(after.rows.pace(&acme()).await, learned);
    // What is due, and the leases that ended with the process.
    for queue in [Queue::Submits, Queue::Polls] {
        let work = async |harness: &Harness| {
            let mut claimed = harness.claim(queue).await;
            claimed.sort_by(|a, b| a.analysis.call_id.as_str().cmp(b.analysis.call_id.as_str()));
            claimed.into_iter().map(|claimed| (claimed.lease, claimed.analysis)).collect::<Vec<_>>()
        };
        let expected = work(&before).await;
        assert!(!expected.is_empty());
        assert_eq!(work(&after).await, expected);
    }
    let deliveries = async |harness: &Harness| {
        let claims =
            harness.store.claim_deliveries_across_tenants(slots(100, 100, 100), LEASE).await.unwrap();
        let mut claimed: Vec<_> = claims
            .claimed
            .into_iter()
            .map(|claimed| (format!("{:?}", claimed.delivery), claimed.body))
            .collect();
        claimed.sort();
        claimed
    };
    let expected = deliveries(&before).await;
    assert!(!expected.is_empty());
    assert!(deliveries(&after).await == expected);
}

#[tokio::test]
async fn what_comes_afterwards_gets_numbers_of_its_own() {
    let moved = Move::of(one_row).await;
    moved.carry().await.finish().await.unwrap();
    let after = moved.serve().await.unwrap();
    after.announce("2", &[A, B]).await;
    assert_eq!(after.deliveries("2").await.len(), 2);
}

/// Who has read the feed up to a number must not miss what is given a lower one later.
#[tokio::test]
async fn a_number_of_an_event_that_was_deleted_is_not_given_again() {
    let moved = Move::of(many_rows).await;
    let file = rusqlite::Connection::open(file_in(&moved.folder)).unwrap();
    file.execute_batch("PRAGMA foreign_keys = ON; DELETE FROM events").unwrap();
    drop(file);
    moved.carry().await.finish().await.unwrap();
    moved.serve().await.unwrap().announce("new", &[]).await;
    let events = moved.database.connect().await.query("SELECT seq FROM events", &[]).await.unwrap();
    assert_eq!(events.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1101]);
}

#[tokio::test]
async fn a_nul_in_a_plain_text_arrives_as_a_mark_in_its_place() {
    let moved = Move::of(every_kind_of_row).await;
    moved.carry().await.finish().await.unwrap();
    let details = "SELECT DISTINCT detail FROM attempts WHERE detail IS NOT NULL";
    let details = moved.database.connect().await.query(details, &[]).await.unwrap();
    assert_eq!(details.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), ["a NUL \u{fffd} in it"]);
}

#[tokio::test]
async fn large_rows_make_small_batches() {
    let moved = Move::of(every_kind_of_row).await;
    let mut copy = moved.open().await.unwrap();
    copy.begin(&SystemEntropy).await.unwrap();
    let mut results = Vec::new();
    while let Some(batch) = copy.step().await.unwrap() {
        match batch.table {
            "analyses" => {}
            "results" => results.push(batch.rows),
            _ => break,
        }
    }
    // 12 MiB and 24 MiB of an answer; what comes before the first of them goes along.
    assert_eq!(results.len(), 2, "{results:?}");
}

#[tokio::test]
async fn an_empty_file_is_copied_and_one_of_a_newer_version_refused() {
    let moved = Move::of(one_row).await;
    let file = rusqlite::Connection::open(file_in(&moved.folder)).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    let refused = moved.open().await;
    assert!(matches!(refused, Err(CopyError::File(sqlite::SqliteOpenError::TooNew { .. }))), "{refused:?}");

    drop(file);
    let path = file_in(&moved.folder);
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
    }
    std::fs::File::create(&path).unwrap();
    moved.carry().await.finish().await.unwrap();
}
