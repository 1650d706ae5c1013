//! What the other tests rely on when they use PostgreSQL: the server and the links of `mod.rs` do what they say.

#![expect(clippy::unwrap_used, reason = "a test may fail at any line")]

mod ends;
mod links;
#[path = "mod.rs"]
mod postgres;

use postgres::{Database, Options, Server};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};

async fn fresh_database() -> Database {
    Server::shared().await.fresh_database().await
}

async fn write(connection: &mut PgConnection, word: &'static str) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO words VALUES ($1)").bind(word).execute(connection).await.map(drop)
}

async fn words(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    let rows = connection.fetch_all("SELECT word FROM words ORDER BY word").await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A connection to a database that has room for words.
async fn prepared(url: &str) -> PgConnection {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute("CREATE TABLE words (word text)").await.unwrap();
    connection
}

#[tokio::test]
async fn every_test_has_a_database_of_its_own() {
    let (one, other) = (fresh_database().await, fresh_database().await);
    let mut connection = prepared(one.url()).await;
    write(&mut connection, "salom").await.unwrap();
    let mut beside = one.connect().await;
    assert_eq!(words(&mut beside).await.unwrap(), ["salom"]);
    assert_eq!(words(&mut prepared(other.url()).await).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn letters_of_any_language_are_kept_and_sorted_as_bytes() {
    let database = fresh_database().await;
    let mut connection = prepared(database.url()).await;
    for word in ["ўзбек", "a", "B", "b", "A"] {
        write(&mut connection, word).await.unwrap();
    }
    assert_eq!(words(&mut connection).await.unwrap(), ["A", "B", "a", "b", "ўзбек"]);
}

#[tokio::test]
async fn a_server_with_tls_takes_nothing_else() {
    let server = Server::start(Options { tls: true, ..Options::default() }).await;
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let database = server.fresh_database().await;
    assert!(database.url().contains("sslmode=verify-full"), "{}", database.url());
    assert!(database.connect().await.fetch_one(encrypted).await.unwrap().get::<bool, _>(0));

    let plain = database.url().replace("verify-full", "disable");
    let refused = PgConnection::connect(&plain).await.unwrap_err();
    assert!(refused.to_string().contains("no encryption"), "{refused}");

    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stranger.crt");
    std::fs::write(&path, stranger.cert.pem()).unwrap();
    let (server, _) = database.url().split_once("sslrootcert=").unwrap();
    let refused =
        PgConnection::connect(&format!("{server}sslrootcert={}", path.display())).await.unwrap_err();
    assert!(refused.to_string().contains("invalid peer certificate"), "{refused:?}");
}
