//! Databases and URLs that the gateway refuses, and the reasons that it gives.

use std::time::{Duration, Instant};

use alovoice_gateway::config::{StoreSettings, StoreUrl};
use alovoice_gateway::store::postgres::{MIGRATIONS, inspect};

use crate::fresh_database;
use crate::patience::PATIENCE;
use crate::postgres::link::{Link, Passage};
use crate::postgres::pooler::Pooler;
use crate::postgres::server::{Options, Server};

/// The gateway's check of a database: "fine", or the error.
pub(crate) async fn verdict(url: &str) -> String {
    verdict_of(&settings(url), None).await
}

async fn verdict_with(url: &str, listen_url: &str) -> String {
    verdict_of(&listening(url, listen_url), None).await
}

fn listening(url: &str, listen_url: &str) -> StoreSettings {
    StoreSettings { listen_url: Some(listen_url.to_owned().into()), ..settings(url) }
}

fn settings(url: &str) -> StoreSettings {
    StoreSettings {
        url: StoreUrl::Postgres(url.to_owned().into()),
        listen_url: None,
        password_file: None,
        lock_timeout: None,
        max_connections: 2,
        retention: Duration::ZERO,
    }
}

/// Errors of a check that reached a time limit: of a connection, of another session, and of a notification.
const TIME_LIMITS: [&str; 3] = ["did not answer in time", "has too few connections", "does not receive"];

/// The gateway's check with these settings. If it reached a time limit, it is repeated, because the machine may be busy. The test may
/// expect one of these errors.
async fn verdict_of(settings: &StoreSettings, expected: Option<&str>) -> String {
    let StoreUrl::Postgres(url) = &settings.url else { unreachable!() };
    let began = Instant::now();
    loop {
        let verdict =
            inspect(url, settings).await.map_or_else(|error| error.to_string(), |_| "fine".to_owned());
        let is_late = |limit: &&str| expected != Some(*limit) && verdict.contains(*limit);
        if !TIME_LIMITS.iter().any(is_late) || began.elapsed() > PATIENCE {
            return verdict;
        }
    }
}

/// Runs statements as the superuser of the shared server.
async fn execute(database: &str, statements: &[&str]) {
    let url = Server::shared().await.socket_url(database);
    let client = crate::postgres::database::connect(&url).await.unwrap();
    for statement in statements {
        client.batch_execute(statement).await.unwrap();
    }
}

/// The URL for another role, which the statements may name as `{role}`, and its database as `{database}`.
async fn url_of_role(statements: &[&str]) -> (String, crate::postgres::database::Database) {
    let database = fresh_database().await;
    let name = database.url().rsplit_once('/').unwrap().1.to_owned();
    let role = format!("role_{name}");
    let create = format!("CREATE ROLE {role} LOGIN");
    execute(&name, &[&create]).await;
    for statement in statements {
        execute(&name, &[&statement.replace("{role}", &role).replace("{database}", &name)]).await;
    }
    (database.url().replace("gateway@", &format!("{role}@")), database)
}

#[tokio::test]
async fn an_encoding_that_cannot_store_every_text_is_refused() {
    let (_, database) =
        url_of_role(&["CREATE DATABASE latin_{database} ENCODING 'LATIN1' TEMPLATE template0"]).await;
    let (before, name) = database.url().rsplit_once('/').unwrap();
    let verdict = verdict(&format!("{before}/latin_{name}")).await;
    assert_eq!(
        verdict,
        "the database has the encoding LATIN1: create it with ENCODING 'UTF8' TEMPLATE template0"
    );
    execute(name, &[&format!("DROP DATABASE latin_{name}")]).await;
}

#[tokio::test]
async fn missing_privileges_are_named() {
    // Since PostgreSQL 15 only the owner of a database may create tables in its schema `public`.
    let (url, _database) = url_of_role(&[]).await;
    let refused = verdict(&url).await;
    assert!(
        refused
            .contains("may not create tables in the schema public: GRANT CREATE ON SCHEMA public TO role_"),
        "{refused}"
    );

    let (url, _database) = url_of_role(&["ALTER ROLE {role} SET search_path = nowhere"]).await;
    let refused = verdict(&url).await;
    assert!(refused.contains("has no schema, search_path is nowhere"), "{refused}");

    let (url, _database) = url_of_role(&["GRANT CREATE ON SCHEMA public TO {role}"]).await;
    assert_eq!(verdict(&url).await, "fine");

    // A role that may only use what another role has created.
    let tables = MIGRATIONS.iter().map(|step| step.sql).collect::<String>();
    let versions =
        format!("INSERT INTO gateway_schema SELECT n, 1 FROM generate_series(1, {}) n", MIGRATIONS.len());
    let (url, _database) = url_of_role(&[
        &tables,
        "CREATE TABLE gateway_schema (version integer PRIMARY KEY, compatible_from integer NOT NULL)",
        &versions,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        "REVOKE DELETE ON usage FROM {role}",
    ])
    .await;
    let refused = verdict(&url).await;
    assert!(refused.contains("may not DELETE in the table usage: GRANT SELECT, INSERT"), "{refused}");
    let (_, user) = url.split_once("://").unwrap();
    let role = user.split_once('@').unwrap().0;
    execute(url.rsplit_once('/').unwrap().1, &[&format!("GRANT DELETE ON usage TO {role}")]).await;
    assert_eq!(verdict(&url).await, "fine");
}

#[tokio::test]
async fn a_server_that_cannot_be_written_to_is_skipped_or_refused() {
    let (read_only, other) = (fresh_database().await, Server::start(Options::default()).await);
    let (_, name) = read_only.url().rsplit_once('/').unwrap();
    execute("postgres", &[&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")]).await;
    let refused = verdict(read_only.url()).await;
    assert!(
        refused.contains("the server is read-only: it is a standby, or default_transaction_read_only is on"),
        "{refused}"
    );

    let client = crate::postgres::database::connect(&other.socket_url("postgres")).await.unwrap();
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let servers = format!("127.0.0.1:{},127.0.0.1:{}", Server::shared().await.port(), other.port());
    let url = format!("postgres://gateway@{servers}/{name}?target_session_attrs=read-write");
    assert_eq!(verdict(&url).await, "fine");
}

#[tokio::test]
async fn the_first_server_that_answers_is_used() {
    let (server, database) = (Server::shared().await, fresh_database().await);
    let (_, name) = database.url().rsplit_once('/').unwrap();
    let cut = Link::to(server.port(), Passage::Cut).await;
    let silent = Link::to(server.port(), Passage::Nothing).await;
    for (servers, expected) in [
        (format!("127.0.0.1:{},127.0.0.1:{}", cut.port(), server.port()), "fine"),
        (format!("127.0.0.1:{},127.0.0.1:{}", silent.port(), server.port()), "fine"),
        (format!("127.0.0.1:{0},127.0.0.1:{0}", cut.port()), &*format!("127.0.0.1:{0}: ", cut.port())),
    ] {
        let verdict = verdict(&format!("postgres://gateway@{servers}/{name}")).await;
        assert!(verdict.contains(expected), "{servers}: {verdict}");
    }
}

#[tokio::test]
async fn urls_that_psql_accepts_are_accepted() {
    let (server, database) = (Server::shared().await, fresh_database().await);
    let (before, name) = database.url().rsplit_once('/').unwrap();
    let socket = server.socket_url(name);
    let (_, folder) = socket.split_once('@').unwrap();
    let folder = folder.split_once(':').unwrap().0;
    let port = server.port();
    for (url, expected) in [
        (socket.clone(), "fine"),
        // A Unix socket has no TLS, whatever sslmode says.
        (format!("{socket}?sslmode=require"), "fine"),
        (format!("{socket}?sslmode=verify-full&sslrootcert=system"), "fine"),
        (format!("postgresql:///{name}?host={folder}&port={port}&user=gateway"), "fine"),
        (
            format!("postgresql://gateway@localhost:{port}/{name}?hostaddr=127.0.0.1&connect_timeout=3"),
            "fine",
        ),
        (
            format!(
                "{before}/{name}?application_name=crm&keepalives_idle=30&gssencmode=disable&client_encoding=UTF8"
            ),
            "fine",
        ),
        (format!("{before}/{name}?sslmode=allow"), "fine"),
        (format!("{before}/{name}?sslmode=verify-full&sslrootcert=system"), "server does not support TLS"),
        (
            format!("{before}/{name}?sslrootcert=system&sslmode=require"),
            "store.url: sslrootcert=system: sslmode must be verify-full",
        ),
        (
            format!("{before}/{name}?pgbouncer=true"),
            "store.url: the parameter pgbouncer is unknown or not supported",
        ),
        (
            format!("{before}/{name}?target_session_attrs=standby"),
            "store.url: target_session_attrs=standby: must be one of any, read-write, primary",
        ),
    ] {
        let verdict = verdict(&url).await;
        assert!(verdict.contains(expected), "{url}: {verdict}");
    }
}

#[tokio::test]
async fn a_password_file_that_cannot_be_used_is_refused_without_its_content() {
    let database = fresh_database().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let verdict = async || {
        let password_file = Some(file.clone());
        verdict_of(&StoreSettings { password_file, ..settings(database.url()) }, None).await
    };
    assert!(verdict().await.starts_with("store.password_file: cannot read "), "{}", verdict().await);
    // The test server trusts every password.
    for (content, expected) in [
        (&b"s3cr3t\r\n"[..], "fine"),
        (b"\xef\xbb\xbfs3cr3t s3cr3t", "fine"),
        (b"s3cr3t\xe2\x80\x8b\n", "has the invisible character U+200B at position 7"),
        (b"\xff\xfes\x003\x00", "is not valid UTF-8"),
        (b"\n", "is empty"),
    ] {
        std::fs::write(&file, content).unwrap();
        let verdict = verdict().await;
        assert!(verdict.contains(expected) && !verdict.contains("s3cr3t"), "{verdict}");
        assert!(expected == "fine" || verdict.starts_with("store.password_file: "), "{verdict}");
    }
}

#[tokio::test]
async fn a_pooler_that_pools_by_session_is_accepted() {
    let (server, database) = (Server::shared().await, fresh_database().await);
    let Some(pooler) = Pooler::start(server, "pool_mode = session") else { return };
    assert_eq!(verdict(&pooler.url(&database)).await, "fine");
    let Some(narrow) = Pooler::start(server, "pool_mode = session\ndefault_pool_size = 1") else { return };
    let refused = verdict_of(&settings(&narrow.url(&database)), Some("has too few connections")).await;
    assert!(
        refused.contains("has too few connections to the server (PgBouncer: default_pool_size"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_pooler_that_pools_by_statement_is_refused() {
    let (server, database) = (Server::shared().await, fresh_database().await);
    let Some(pooler) = Pooler::start(server, "pool_mode = statement") else { return };
    let refused = verdict_with(&pooler.url(&database), database.url()).await;
    assert!(refused.contains("pool by session"), "{refused}");
}

#[tokio::test]
async fn a_pooler_that_pools_by_transaction_needs_a_direct_connection() {
    let (server, database, other) = (Server::shared().await, fresh_database().await, fresh_database().await);
    for settings in ["pool_mode = transaction", "pool_mode = transaction\nserver_round_robin = 1"] {
        let Some(pooler) = Pooler::start(server, settings) else { return };
        let url = pooler.url(&database);
        let refused = verdict(&url).await;
        assert!(refused.contains("pools by transaction") && refused.contains("pool by session"), "{refused}");
        if Pooler::keeps_statements() {
            assert!(refused.contains("set store.listen_url to a direct connection"), "{refused}");
            assert_eq!(verdict_with(&url, database.url()).await, "fine");
            let refused = verdict_with(&url, &url).await;
            assert!(refused.contains("store.listen_url leads to a connection pooler"), "{refused}");
            let refused = verdict_of(&listening(&url, other.url()), Some("does not receive")).await;
            assert!(refused.contains("store.listen_url does not receive what store.url sends"), "{refused}");
        }
    }
}

#[tokio::test]
async fn a_pooler_that_loses_prepared_statements_is_refused() {
    let (server, database) = (Server::shared().await, fresh_database().await);
    let lossy = if Pooler::keeps_statements() { "max_prepared_statements = 0" } else { "" };
    let settings = format!("pool_mode = transaction\n{lossy}");
    let Some(pooler) = Pooler::start(server, &settings) else { return };
    let refused = verdict_with(&pooler.url(&database), database.url()).await;
    assert!(refused.contains("loses prepared statements: use PgBouncer 1.21 or newer"), "{refused}");
    // The statement of the first check may be left in the pooler's session.
    assert_eq!(verdict_with(&pooler.url(&database), database.url()).await, refused);
}
