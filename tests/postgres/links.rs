//! Links that are cut, silent or restored.

use std::future::poll_fn;

use tokio_postgres::error::SqlState;

use crate::postgres::database::connect;
use crate::postgres::link::{Link, Passage};
use crate::postgres::server::{Options, Server, Shutdown};
use crate::{prepared, words, write};

#[tokio::test]
async fn cutting_one_link_does_not_affect_the_other() {
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let (one, other) =
        (Link::to(server.port(), Passage::Cut).await, Link::to(server.port(), Passage::Open).await);
    let beside = prepared(&database.url_through(&other)).await;

    // A gateway can start before its database is reachable.
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
async fn data_sent_during_a_silence_arrives_later() {
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
async fn a_commit_can_succeed_although_its_response_is_lost() {
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let link = Link::to(server.port(), Passage::Open).await;
    let connection = prepared(&database.url_through(&link)).await;
    // The statement is prepared before, so that the insert is a single request.
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
async fn a_link_survives_a_restart_of_the_server() {
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

#[tokio::test]
async fn a_link_can_drop_notifications_only() {
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let link = Link::that_reads_messages(server.port()).await;
    let (client, mut connection) =
        tokio_postgres::connect(&database.url_through(&link), tokio_postgres::NoTls).await.unwrap();
    let (sender, mut notifications) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let tokio_postgres::AsyncMessage::Notification(notification) = message.unwrap() {
                sender.send(notification.payload().to_owned()).unwrap();
            }
        }
    });
    client.batch_execute("LISTEN c; NOTIFY c, '1'").await.unwrap();
    assert_eq!(notifications.recv().await.unwrap(), "1");
    link.set(Passage::WithoutNotifications);
    client.batch_execute("NOTIFY c, '2'").await.unwrap();
    // The answer to this statement follows the notification.
    client.batch_execute("SELECT repeat('x', 1000000)").await.unwrap();
    link.set(Passage::Open);
    client.batch_execute("NOTIFY c, '3'").await.unwrap();
    assert_eq!(notifications.recv().await.unwrap(), "3");
}

#[tokio::test]
async fn a_link_can_delay_the_first_rollback_of_a_healthy_transaction() {
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let link = Link::that_delays_rollbacks(server.port()).await;
    let client = connect(&database.url_through(&link)).await.unwrap();
    let begin = "BEGIN; SET LOCAL statement_timeout = 15";
    client.batch_execute(begin).await.unwrap();
    assert!(client.batch_execute("SELECT 1 / 0").await.is_err());
    client.batch_execute("ROLLBACK").await.unwrap();

    client.batch_execute(begin).await.unwrap();
    let delayed = client.batch_execute("SET LOCAL statement_timeout = 20; ROLLBACK").await.unwrap_err();
    assert_eq!(delayed.code(), Some(&SqlState::QUERY_CANCELED));
    client.batch_execute("ROLLBACK").await.unwrap();

    client.batch_execute(begin).await.unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
}
