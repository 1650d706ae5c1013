//! Every row is copied, and its work continues.

use std::sync::Arc;

use alovoice_gateway::domain::clock::SystemEntropy;
use alovoice_gateway::domain::deliveries::{DeliveryFilter, DeliveryQuery};
use alovoice_gateway::domain::listing::{AnalysisFilter, AnalysisQuery};
use alovoice_gateway::domain::search::SearchQuery;
use alovoice_gateway::store::Queue;
use alovoice_gateway::store::copy::{Comparison, CopyError};
use alovoice_gateway::store::sqlite;

use super::{A, B, CALLS, CopyFixture, adopt_bytes, file_in, one_row, rows_of_every_kind, stored_call};
use crate::harness::{Harness, LEASE, acme, globex, slots};

#[tokio::test]
async fn every_row_that_the_api_shows_is_copied() {
    let fixture = CopyFixture::of(rows_of_every_kind).await;
    let before = fixture.twin();
    let copy = fixture.copy_rows().await;
    let comparisons = copy.finish().await.unwrap();
    assert!(comparisons.iter().all(|Comparison { file, database, .. }| file == database));
    drop(copy);

    let after = fixture.serve().await.unwrap();
    for tenant in [acme(), globex()] {
        for call in CALLS {
            let (old, new) = (&*before.store, &*after.store);
            let expected = stored_call(old, &tenant, call).await;
            assert_eq!(expected.found.is_some(), tenant == acme() || call == "queued");
            assert!(stored_call(new, &tenant, call).await == expected, "{tenant} {call}");
        }
    }
    let lists = async |harness: &Harness, search: Option<&str>| {
        let search = search.map(|words| SearchQuery::parse(words, None).unwrap());
        let page = AnalysisQuery {
            filter: AnalysisFilter { search, ..AnalysisFilter::default() },
            after: None,
            limit: 1000,
        };
        harness.store.list_analyses(&acme(), page).await.unwrap().analyses
    };
    for search in [None, Some("salom")] {
        let listed = lists(&before, search).await;
        assert!(listed.iter().flatten().any(|listed| listed.result.is_some()));
        assert_eq!(lists(&after, search).await, listed);
    }
    let of_before = before.store.list_webhooks(&acme()).await.unwrap();
    assert_eq!(of_before.len(), 1);
    assert_eq!(after.store.list_webhooks(&acme()).await.unwrap(), of_before);
    let all = async |harness: &Harness| {
        let page = DeliveryQuery { filter: DeliveryFilter::default(), after: None, limit: 1000 };
        harness.store.list_deliveries(&acme(), page).await.unwrap()
    };
    let webhook = of_before[0].as_ref().unwrap().id;
    assert!(all(&before).await.iter().flatten().any(|delivery| delivery.webhook == Some(webhook)));
    assert_eq!(all(&after).await, all(&before).await);
    let advanced =
        [&before, &after].map(async |harness| harness.store.advance_replays_across_tenants().await.unwrap());
    let [old, new] = futures_util::future::join_all(advanced).await.try_into().unwrap();
    assert_eq!(old, new);
    let learned = before.rows.pace(&acme()).await;
    assert!(learned.is_some());
    assert_eq!(after.rows.pace(&acme()).await, learned);
    // Due work, including work whose leases ended with the process.
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
async fn rows_after_the_copy_get_new_numbers() {
    let fixture = CopyFixture::of(one_row).await;
    fixture.copy_rows().await.finish().await.unwrap();
    let after = fixture.serve().await.unwrap();
    after.announce("2", &[A, B]).await;
    assert_eq!(after.deliveries("2").await.len(), 2);
}

/// A reader of the feed would miss a later event with a reused number.
#[tokio::test]
async fn the_number_of_a_deleted_event_is_not_reused() {
    let fixture = CopyFixture::of(one_row).await;
    let file = rusqlite::Connection::open(file_in(&fixture.folder)).unwrap();
    file.execute_batch("PRAGMA foreign_keys = ON; DELETE FROM events").unwrap();
    drop(file);
    fixture.copy_rows().await.finish().await.unwrap();
    fixture.serve().await.unwrap().announce("new", &[]).await;
    let events = fixture.database.connect().await.query("SELECT seq FROM events", &[]).await.unwrap();
    assert_eq!(events.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [2]);
}

#[tokio::test]
async fn a_nul_in_a_text_is_copied_as_a_replacement_character() {
    let fixture = CopyFixture::of(rows_of_every_kind).await;
    fixture.copy_rows().await.finish().await.unwrap();
    let details = "SELECT DISTINCT detail FROM attempts WHERE detail IS NOT NULL";
    let details = fixture.database.connect().await.query(details, &[]).await.unwrap();
    assert_eq!(details.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), ["a NUL \u{fffd} in it"]);
}

#[tokio::test]
async fn large_rows_make_small_batches() {
    let fixture = CopyFixture::of(async |harness: Arc<Harness>| {
        for (call, mebibytes) in [("small", 0), ("large", 12), ("larger", 24)] {
            adopt_bytes(&harness, call, mebibytes << 20).await;
        }
    })
    .await;
    let mut copy = fixture.open().await.unwrap();
    copy.begin(&SystemEntropy).await.unwrap();
    let mut results = Vec::new();
    while let Some(batch) = copy.step().await.unwrap() {
        match batch.table {
            "analyses" => {}
            "results" => results.push(batch.rows),
            _ => break,
        }
    }
    // Each of the two large answers ends a batch.
    assert_eq!(results, [2, 1]);
}

#[tokio::test]
async fn an_empty_file_is_copied_and_a_newer_version_refused() {
    let fixture = CopyFixture::of(one_row).await;
    let file = rusqlite::Connection::open(file_in(&fixture.folder)).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    let refused = fixture.open().await;
    assert!(matches!(refused, Err(CopyError::File(sqlite::SqliteOpenError::TooNew { .. }))), "{refused:?}");

    drop(file);
    let path = file_in(&fixture.folder);
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
    }
    std::fs::File::create(&path).unwrap();
    fixture.copy_rows().await.finish().await.unwrap();
}
