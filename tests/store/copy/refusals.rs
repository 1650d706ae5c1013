//! What must not be copied, and who must not work meanwhile or afterwards.

use alovoice_gateway::domain::clock::SystemEntropy;
use alovoice_gateway::store::copy::{CopyError, CopyStart};
use alovoice_gateway::store::postgres;
use alovoice_gateway::store::sqlite::{self, SqliteStore};

use super::{Move, empty, every_kind_of_row, file_in, many_rows, one_row, reopen};
use crate::harness::{store_context, submission};

#[tokio::test]
async fn a_database_that_holds_anything_else_is_refused() {
    let moved = Move::of(one_row).await;
    let other = moved.serve().await.unwrap();
    other.submit(submission("theirs")).await;
    let in_use = moved.open().await;
    assert!(matches!(in_use, Err(CopyError::DatabaseInUse)), "{in_use:?}");
    let theirs = other.find("theirs").await;
    drop(other);

    let refused = moved.open().await.unwrap().begin(&SystemEntropy).await;
    assert!(matches!(&refused, Err(CopyError::NotEmpty(tables)) if tables == &["analyses"]), "{refused:?}");
    // Neither side has taken harm.
    reopen(&file_in(&moved.folder)).unwrap();
    assert_eq!(moved.serve().await.unwrap().find("theirs").await, theirs);
}

#[tokio::test]
async fn a_copy_of_another_file_is_not_gone_on_with() {
    let first = Move::of(one_row).await;
    drop(first.carry().await);
    let second = Move { database: first.database, ..Move::of(one_row).await };
    let refused = second.open().await.unwrap().begin(&SystemEntropy).await;
    assert!(matches!(refused, Err(CopyError::OfAnotherFile)), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_was_worked_on_in_between_is_another_file() {
    let moved = Move::of(many_rows).await;
    let mut copy = moved.open().await.unwrap();
    copy.begin(&SystemEntropy).await.unwrap();
    copy.step().await.unwrap();
    drop(copy);
    reopen(&file_in(&moved.folder)).unwrap();
    let refused = moved.open().await.unwrap().begin(&SystemEntropy).await;
    assert!(matches!(refused, Err(CopyError::OfAnotherFile)), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_a_gateway_works_on_is_refused() {
    let moved = Move::of(one_row).await;
    let gateway = SqliteStore::open(&file_in(&moved.folder), store_context().0).unwrap();
    let refused = moved.open().await;
    assert!(matches!(refused, Err(CopyError::File(sqlite::SqliteOpenError::InUse(_)))), "{refused:?}");
    drop(gateway);

    // And the other way round.
    let copy = moved.open().await.unwrap();
    let refused = reopen(&file_in(&moved.folder));
    assert!(matches!(refused, Err(sqlite::SqliteOpenError::InUse(_))), "{refused:?}");
    let refused = moved.serve().await.map(|_| ());
    assert!(refused.is_err_and(|error| error.to_string().contains("being copied")));
    drop(copy);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_not_made() {
    let moved = Move::of(one_row).await;
    std::fs::remove_file(file_in(&moved.folder)).unwrap();
    let refused = moved.open().await;
    assert!(matches!(refused, Err(CopyError::File(sqlite::SqliteOpenError::Io { .. }))), "{refused:?}");
    assert!(!file_in(&moved.folder).exists());
}

#[tokio::test]
async fn a_difference_is_found_and_keeps_the_database_closed() {
    let moved = Move::of(every_kind_of_row).await;
    let copy = moved.carry().await;
    let other = moved.database.connect().await;
    for (damage, repair, tables) in [
        (
            "UPDATE analyses SET polls = polls + 1 WHERE id = 1",
            "UPDATE analyses SET polls = polls - 1 WHERE id = 1",
            &["analyses"][..],
        ),
        ("UPDATE results SET vendor_answer = vendor_answer || '\\x00' WHERE analysis = 1", "", &["results"]),
        ("DELETE FROM attempts WHERE delivery = 1", "", &["attempts", "results"]),
        ("DELETE FROM events WHERE seq = 1", "", &["attempts", "deliveries", "events", "results"]),
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
    let closed = moved.serve().await.map(|_| ());
    assert!(matches!(closed, Err(postgres::PostgresOpenError::UnfinishedCopy)), "{closed:?}");
    reopen(&file_in(&moved.folder)).unwrap();
}

#[tokio::test]
async fn after_the_copy_the_work_is_the_databases_alone() {
    let moved = Move::of(one_row).await;
    moved.carry().await.finish().await.unwrap();
    for outcome in [reopen(&file_in(&moved.folder)), sqlite::inspect(&file_in(&moved.folder))] {
        assert!(matches!(outcome, Err(sqlite::SqliteOpenError::Moved(_))), "{outcome:?}");
    }
    let again = moved.open().await.unwrap();
    assert_eq!(again.begin(&SystemEntropy).await.unwrap(), CopyStart::Finished);
    drop(again);

    // Nor does a second database get it.
    let second = Move { database: empty().await, ..moved };
    let refused = second.open().await.unwrap().begin(&SystemEntropy).await;
    assert!(matches!(refused, Err(CopyError::File(sqlite::SqliteOpenError::Moved(_)))), "{refused:?}");
}
