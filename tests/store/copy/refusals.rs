//! Refused copies, and the exclusion of gateways during and after a copy.

use alovoice_gateway::domain::clock::SystemEntropy;
use alovoice_gateway::store::copy::{CopyError, CopyStart};
use alovoice_gateway::store::postgres;
use alovoice_gateway::store::sqlite::{self, SqliteStore};

use super::{CopyFixture, empty, file_in, is_being_copied, one_row, reopen, rows_of_every_kind};
use crate::harness::{store_context, submission};

#[tokio::test]
async fn a_database_with_other_rows_is_refused() {
    let fixture = CopyFixture::of(one_row).await;
    let other = fixture.serve().await.unwrap();
    other.submit(submission("theirs")).await;
    let in_use = fixture.try_open().await;
    assert!(matches!(in_use, Err(CopyError::DatabaseInUse)), "{in_use:?}");
    let theirs = other.find("theirs").await;
    drop(other);

    let refused = fixture.open().await.unwrap().begin(&SystemEntropy).await;
    assert!(matches!(&refused, Err(CopyError::NotEmpty(tables)) if tables == &["analyses"]), "{refused:?}");
    // Neither side was changed.
    reopen(&file_in(&fixture.folder)).unwrap();
    assert_eq!(fixture.serve().await.unwrap().find("theirs").await, theirs);
}

#[tokio::test]
async fn a_copy_of_another_file_is_refused() {
    let first = CopyFixture::of(one_row).await;
    drop(first.copy_rows().await);
    let second = CopyFixture { database: first.database, ..CopyFixture::of(one_row).await };
    let refused = second.open().await.unwrap().begin(&SystemEntropy).await;
    assert!(matches!(refused, Err(CopyError::OfAnotherFile)), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_a_gateway_has_opened_again_is_refused() {
    let fixture = CopyFixture::of(one_row).await;
    let mut copy = fixture.open().await.unwrap();
    copy.begin(&SystemEntropy).await.unwrap();
    copy.step().await.unwrap();
    drop(copy);
    reopen(&file_in(&fixture.folder)).unwrap();
    let refused = fixture.open().await.unwrap().begin(&SystemEntropy).await;
    assert!(matches!(refused, Err(CopyError::OfAnotherFile)), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_a_gateway_uses_is_refused() {
    let fixture = CopyFixture::of(one_row).await;
    let gateway = SqliteStore::open(&file_in(&fixture.folder), store_context().0).unwrap();
    let refused = fixture.open().await;
    assert!(matches!(refused, Err(CopyError::File(sqlite::SqliteOpenError::InUse(_)))), "{refused:?}");
    drop(gateway);

    // A gateway cannot open the file or the database during a copy.
    let copy = fixture.open().await.unwrap();
    let refused = reopen(&file_in(&fixture.folder));
    assert!(matches!(refused, Err(sqlite::SqliteOpenError::InUse(_))), "{refused:?}");
    let refused = fixture.try_serve().await.map(|_| ());
    assert!(refused.is_err_and(|error| is_being_copied(&error)));
    drop(copy);
}

#[tokio::test]
async fn a_missing_file_is_not_created() {
    let fixture = CopyFixture::of(one_row).await;
    std::fs::remove_file(file_in(&fixture.folder)).unwrap();
    let refused = fixture.open().await;
    assert!(matches!(refused, Err(CopyError::File(sqlite::SqliteOpenError::Io { .. }))), "{refused:?}");
    assert!(!file_in(&fixture.folder).exists());
}

#[tokio::test]
async fn a_difference_is_found_and_blocks_gateways() {
    let fixture = CopyFixture::of(rows_of_every_kind).await;
    let copy = fixture.copy_rows().await;
    let other = fixture.database.connect().await;
    for (damage, repair, tables) in [
        (
            "UPDATE analyses SET polls = polls + 1 WHERE id = 1",
            "UPDATE analyses SET polls = polls - 1 WHERE id = 1",
            &["analyses"][..],
        ),
        ("UPDATE results SET vendor_answer = vendor_answer || '\\x00' WHERE analysis = 1", "", &["results"]),
        ("DELETE FROM attempts WHERE delivery = 1", "", &["attempts", "results"]),
        (
            "DELETE FROM events WHERE seq = 1",
            "",
            &["attempts", "deliveries", "events", "replay_deliveries", "results"],
        ),
    ] {
        other.batch_execute(damage).await.unwrap();
        for outcome in [copy.verify().await, copy.finish().await] {
            let Err(CopyError::Differs(found)) = outcome else { panic!("{damage}: {outcome:?}") };
            let mut names: Vec<_> = found.iter().map(|comparison| comparison.table).collect();
            names.sort_unstable();
            assert_eq!(names, tables, "{damage}");
        }
        other.batch_execute(repair).await.unwrap();
    }
    drop(copy);
    let closed = fixture.serve().await.map(|_| ());
    assert!(matches!(closed, Err(postgres::PostgresOpenError::UnfinishedCopy)), "{closed:?}");
    reopen(&file_in(&fixture.folder)).unwrap();
}

#[tokio::test]
async fn after_the_copy_only_the_database_can_be_opened() {
    let fixture = CopyFixture::of(one_row).await;
    fixture.copy_rows().await.finish().await.unwrap();
    for outcome in [reopen(&file_in(&fixture.folder)), sqlite::inspect(&file_in(&fixture.folder))] {
        assert!(matches!(outcome, Err(sqlite::SqliteOpenError::Moved(_))), "{outcome:?}");
    }
    let again = fixture.open().await.unwrap();
    assert_eq!(again.begin(&SystemEntropy).await.unwrap(), CopyStart::Finished);
    drop(again);

    // The file cannot be copied into a second database either.
    let second = CopyFixture { database: empty().await, ..fixture };
    let refused = second.open().await.unwrap().begin(&SystemEntropy).await;
    assert!(matches!(refused, Err(CopyError::File(sqlite::SqliteOpenError::Moved(_)))), "{refused:?}");
}
