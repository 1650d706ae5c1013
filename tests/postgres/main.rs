//! Tests of the PostgreSQL server, links and pooler that the other tests use, and of the databases that the gateway refuses.

#![expect(clippy::unwrap_used, reason = "a test may fail at any line")]

mod ends;
mod links;
#[expect(dead_code, reason = "each test binary uses a part of this shared source")]
#[path = "../support/patience.rs"]
mod patience;
#[path = "mod.rs"]
mod postgres;
mod requirements;

use alovoice_gateway::domain::clock::{Clock, SystemClock};
use postgres::database::{Database, connect};
use postgres::server::{Options, Server};
use requirements::verdict;
use tokio_postgres::{Client, Error};

async fn fresh_database() -> Database {
    Server::shared().await.fresh_database().await
}

async fn write(client: &Client, word: &str) -> Result<(), Error> {
    client.execute("INSERT INTO words VALUES ($1)", &[&word]).await.map(drop)
}

async fn words(client: &Client) -> Result<Vec<String>, Error> {
    let rows = client.query("SELECT word FROM words ORDER BY word", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Connects to a database and creates the table `words`.
async fn prepared(url: &str) -> Client {
    let client = connect(url).await.unwrap();
    client.batch_execute("CREATE TABLE words (word text)").await.unwrap();
    client
}

#[tokio::test]
async fn every_test_has_its_own_database() {
    let (one, other) = (fresh_database().await, fresh_database().await);
    let connection = prepared(one.url()).await;
    write(&connection, "salom").await.unwrap();
    let beside = one.connect().await;
    assert_eq!(words(&beside).await.unwrap(), ["salom"]);
    assert_eq!(words(&prepared(other.url()).await).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn client_programs_can_connect() {
    let (server, database) = (Server::shared().await, fresh_database().await);
    for name in ["psql", "pg_dump", "pg_restore"] {
        let mut program = std::process::Command::new(server.program(name));
        assert!(program.arg("--version").output().unwrap().status.success(), "{name}");
    }
    let mut psql = std::process::Command::new(server.program("psql"));
    let output = psql.args([database.url(), "-Atc", "SELECT 'salom'"]).output().unwrap();
    assert_eq!(output.stdout, b"salom\n", "{output:?}");
}

#[tokio::test]
async fn text_is_stored_as_unicode_and_sorted_by_bytes() {
    let database = fresh_database().await;
    let connection = prepared(database.url()).await;
    for word in ["ўзбек", "a", "B", "b", "A"] {
        write(&connection, word).await.unwrap();
    }
    assert_eq!(words(&connection).await.unwrap(), ["A", "B", "a", "b", "ўзбек"]);
}

#[tokio::test]
async fn a_tls_server_refuses_connections_without_valid_tls() {
    let server = Server::start(Options { tls: true, ..Options::default() }).await;
    let database = server.fresh_database().await;
    assert!(database.url().contains("sslmode=verify-full"), "{}", database.url());
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stranger.crt");
    std::fs::write(&path, stranger.cert.pem()).unwrap();
    let empty = folder.path().join("empty.crt");
    std::fs::write(&empty, "").unwrap();
    let (plain, _) = database.url().split_once('?').unwrap();
    let elsewhere = database.url().replace("127.0.0.1", "localhost");

    for (url, expected) in [
        (database.url().to_owned(), "fine"),
        (plain.to_owned(), "fine"),
        (format!("{plain}?sslmode=require"), "fine"),
        (database.url().replace("verify-full", "verify-ca"), "fine"),
        (elsewhere.replace("verify-full", "verify-ca"), "fine"),
        (elsewhere, "not valid for name"),
        (format!("{plain}?sslmode=disable"), "no encryption"),
        (
            format!("{plain}?sslmode=verify-full&sslrootcert={}", path.display()),
            "invalid peer certificate: Other(OtherError(SelfSigned))",
        ),
        (format!("{plain}?sslmode=require&sslrootcert={}", path.display()), "invalid peer certificate"),
        (format!("{plain}?sslmode=verify-full"), "invalid peer certificate"),
        (format!("{plain}?sslmode=verify-full&sslrootcert=/no/such/file"), "No such file"),
        (
            format!("{plain}?sslmode=verify-full&sslrootcert={}", empty.display()),
            "has no certificate in PEM format",
        ),
    ] {
        let verdict = verdict(&url).await;
        assert!(verdict.contains(expected), "{url}: {verdict}");
    }
}

#[tokio::test]
async fn the_clock_of_a_server_can_be_stepped() {
    let server = Server::start(Options { stepped_clock: true, ..Options::default() }).await;
    if !server.has_stepped_clock() {
        return println!("skipped: libfaketime is missing (tests/tools installs it)");
    }
    let database = server.fresh_database().await;
    let client = database.connect().await;
    let in_days = "SELECT extract(epoch FROM clock_timestamp() - to_timestamp($1))::bigint / 86400";
    let started = SystemClock.now().as_seconds();
    for (offset, days) in [(0, 0), (400, 400), (0, 0)] {
        server.set_clock(offset * 24 * 3600);
        let row = client.query_one(in_days, &[&f64::from(i32::try_from(started).unwrap())]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), days);
    }
}
