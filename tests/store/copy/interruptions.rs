//! Interrupted copies are finished by a later run.

use alovoice_gateway::domain::clock::SystemEntropy;
use alovoice_gateway::store::copy::CopyStart;
use alovoice_gateway::store::postgres;

use super::{CopyFixture, many_rows, one_row, stored_call};
use crate::harness::acme;

#[tokio::test]
async fn a_copy_continues_after_an_interruption() {
    let fixture = CopyFixture::of(many_rows).await;
    let before = fixture.twin();
    let mut beginnings = Vec::new();
    let mut batches = Vec::new();
    loop {
        let mut copy = fixture.open().await.unwrap();
        beginnings.push(copy.begin(&SystemEntropy).await.unwrap());
        let Some(batch) = copy.step().await.unwrap() else { break };
        batches.push(batch);
        drop(copy);
        let closed = fixture.serve().await.map(|_| ());
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

    let closed = postgres::inspect(&fixture.url(), &fixture.settings()).await;
    assert!(matches!(closed, Err(postgres::PostgresOpenError::UnfinishedCopy)), "{closed:?}");
    fixture.open().await.unwrap().finish().await.unwrap();
    postgres::inspect(&fixture.url(), &fixture.settings()).await.unwrap();
    let after = fixture.serve().await.unwrap();
    for number in [0, 499, 500, 501, 1099] {
        let call = format!("call-{number}");
        assert_eq!(
            stored_call(&*after.store, &acme(), &call).await,
            stored_call(&*before.store, &acme(), &call).await
        );
    }
}

#[tokio::test]
async fn an_interrupted_hand_over_is_finished_by_the_next_run() {
    let fixture = CopyFixture::of(one_row).await;
    fixture.copy_rows().await.finish().await.unwrap();
    // As if the process had died between finishing the marker in the file and the record in the database.
    fixture
        .database
        .connect()
        .await
        .batch_execute("UPDATE gateway_copy SET finished_at = NULL")
        .await
        .unwrap();
    let mut again = fixture.open().await.unwrap();
    assert_eq!(again.begin(&SystemEntropy).await.unwrap(), CopyStart::Resumed);
    assert_eq!(again.step().await.unwrap(), None);
    again.finish().await.unwrap();
    drop(again);
    fixture.serve().await.unwrap().find("1").await;
}
