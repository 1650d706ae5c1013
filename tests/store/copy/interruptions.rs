//! What was begun is finished, by whoever comes next.

use alovoice_gateway::domain::clock::SystemEntropy;
use alovoice_gateway::store::copy::CopyStart;
use alovoice_gateway::store::postgres;

use super::{Move, many_rows, one_row, shown};
use crate::harness::acme;

#[tokio::test]
async fn a_copy_that_was_interrupted_after_any_batch_goes_on() {
    let moved = Move::of(many_rows).await;
    let before = moved.twin();
    let mut beginnings = Vec::new();
    let mut batches = Vec::new();
    loop {
        let mut copy = moved.open().await.unwrap();
        beginnings.push(copy.begin(&SystemEntropy).await.unwrap());
        let Some(batch) = copy.step().await.unwrap() else { break };
        batches.push(batch);
        drop(copy);
        let closed = moved.serve().await.map(|_| ());
        assert!(matches!(closed, Err(postgres::PostgresOpenError::UnfinishedCopy)), "{closed:?}");
    }
    assert_eq!(beginnings[0], CopyStart::New);
    assert!(beginnings[1..].iter().all(|beginning| *beginning == CopyStart::Resumed));
    let rows = |table| {
        batches.iter().filter(|batch| batch.table == table).map(|batch| batch.rows).collect::<Vec<_>>()
    };
    assert_eq!(rows("analyses"), [500, 500, 100]);
    assert_eq!(rows("callbacks"), [500, 500, 500, 500, 200]);
    assert_eq!(rows("attempts"), [500, 500]);

    let closed = postgres::inspect(&moved.url(), &moved.settings()).await;
    assert!(matches!(closed, Err(postgres::PostgresOpenError::UnfinishedCopy)), "{closed:?}");
    moved.open().await.unwrap().finish().await.unwrap();
    postgres::inspect(&moved.url(), &moved.settings()).await.unwrap();
    let after = moved.serve().await.unwrap();
    for number in [0, 499, 500, 501, 1099] {
        let call = format!("call-{number}");
        assert_eq!(shown(&*after.store, &acme(), &call).await, shown(&*before.store, &acme(), &call).await);
    }
}

#[tokio::test]
async fn a_hand_over_that_was_interrupted_is_finished_by_the_next_run() {
    let moved = Move::of(one_row).await;
    moved.carry().await.finish().await.unwrap();
    // As if the process had died between the two marks.
    moved.database.connect().await.batch_execute("UPDATE gateway_copy SET finished_at = NULL").await.unwrap();
    let mut again = moved.open().await.unwrap();
    assert_eq!(again.begin(&SystemEntropy).await.unwrap(), CopyStart::Resumed);
    assert_eq!(again.step().await.unwrap(), None);
    again.finish().await.unwrap();
    drop(again);
    moved.serve().await.unwrap().find("1").await;
}
