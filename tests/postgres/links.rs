//! Links that are cut, silent, and restored.

use crate::postgres::database::connect;
use crate::postgres::link::{Link, Passage};
use crate::postgres::server::{Options, Server, Shutdown};
use crate::{prepared, words, write};

#[tokio::test]
async fn one_replica_is_cut_off_and_the_other_is_not() {
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let (one, other) =
        (Link::to(server.port(), Passage::Cut).await, Link::to(server.port(), Passage::Open).await);
    let beside = prepared(&database.url_through(&other)).await;

    // A gateway may be there before its database.
    assert!(connect(&database.url_through(&one)).await.is_err());
    one.set(Passage::Open);
    let connection = connect(&database.url_through(&one)).await.unwrap();
    write(&connection, "before").await.unwrap();

    one.set(Passage::Cut);
    assert!(write(&connection, "during").await.is_err());
    assert!(connect(&database.url_through(&one)).await.is_err());
    write(&beside, "beside").await.unwrap();

    one.set(Passage::Open);
    let again = connect(&database.url_through(&one)).await.unwrap();
    assert_eq!(words(&again).await.unwrap(), ["before", "beside"]);
    one.until(|traffic| traffic.connections == 1).await;
}

#[tokio::test]
async fn what_is_sent_into_a_silence_arrives_after_it() {
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let link = Link::to(server.port(), Passage::Open).await;
    let connection = prepared(&database.url_through(&link)).await;
    link.set(Passage::Nothing);
    let writing = tokio::spawn(async move { write(&connection, "late").await });
    let url = database.url_through(&link);
    let connecting = tokio::spawn(async move { connect(&url).await });
    link.until(|traffic| (traffic.waiting, traffic.connections) == (1, 2)).await;
    let beside = database.connect().await;
    assert_eq!(words(&beside).await.unwrap(), Vec::<String>::new());

    link.set(Passage::Open);
    writing.await.unwrap().unwrap();
    assert_eq!(words(&connecting.await.unwrap().unwrap()).await.unwrap(), ["late"]);
}

#[tokio::test]
async fn what_is_committed_may_be_an_answer_that_never_comes() {
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let link = Link::to(server.port(), Passage::Open).await;
    let connection = prepared(&database.url_through(&link)).await;
    // Its statement is known to the server, so that one request is all that is left to send.
    let write = connection.prepare("INSERT INTO words VALUES ($1)").await.unwrap();
    connection.execute(&write, &[&"heard"]).await.unwrap();
    link.set(Passage::Requests);
    let writing = tokio::spawn(async move { connection.execute(&write, &[&"unheard"]).await });
    link.until(|traffic| traffic.waiting == 1).await;
    link.set(Passage::Cut);
    assert!(writing.await.unwrap().is_err());
    assert_eq!(words(&database.connect().await).await.unwrap(), ["heard", "unheard"]);
}

#[tokio::test]
async fn a_link_outlives_the_server_behind_it() {
    let mut server = Server::start(Options::default()).await;
    let database = server.fresh_database().await;
    let link = Link::to(server.port(), Passage::Open).await;
    let connection = prepared(&database.url_through(&link)).await;
    write(&connection, "before").await.unwrap();
    server.stop(Shutdown::Kill).await;
    assert!(write(&connection, "during").await.is_err());
    assert!(connect(&database.url_through(&link)).await.is_err());
    server.start_again().await;
    let again = connect(&database.url_through(&link)).await.unwrap();
    assert_eq!(words(&again).await.unwrap(), ["before"]);
}
