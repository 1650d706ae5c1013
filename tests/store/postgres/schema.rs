//! The schema: replicas create it once, and check its version before they use it.

use alovoice_gateway::store::postgres::{
    ConcurrentIndex, INDEXES, MIGRATIONS, Migration, PostgresStore, inspect, migrate,
};
use futures_util::future::join_all;
use tokio_postgres::Client;

use super::{open_at, settings, within};
use crate::harness::{acme, store_context, submission};
use crate::postgres_server::server::Server;

#[tokio::test]
async fn ten_replicas_start_at_once_on_an_empty_database() {
    let database = Server::shared().await.fresh_database().await;
    assert!(inspect(&database.url().to_owned().into(), &settings(database.url())).await.is_ok());
    let replicas = join_all((0..10).map(|_| open_at(database.url(), ()))).await;
    for (number, replica) in replicas.iter().enumerate() {
        replica.submit(submission(&number.to_string())).await;
    }
    let stats = replicas[0].store.stats_across_tenants(&[acme()]).await.unwrap();
    assert_eq!(stats[&acme()].unfinished.values().sum::<u64>(), 10);
    assert!(inspect(&database.url().to_owned().into(), &settings(database.url())).await.is_ok());
}

/// The steps of a later version: the present ones and `sql`, with which only that version can work.
fn steps_with(sql: &'static str) -> Vec<Migration> {
    let mut steps = MIGRATIONS.to_vec();
    steps.push(Migration { sql, compatible_from: i32::try_from(steps.len()).unwrap() + 1 });
    steps
}

#[tokio::test]
async fn a_later_step_keeps_the_rows_and_refuses_the_version_before_it() {
    let database = Server::shared().await.fresh_database().await;
    open_at(database.url(), ()).await.complete(submission("1"), "salom").await;
    let mut client = database.connect().await;
    let steps = steps_with("ALTER TABLE analyses ADD COLUMN note text NOT NULL DEFAULT 'none'");
    migrate(&mut client, &steps, &INDEXES).await.unwrap();
    // A second replica of the later version finds nothing to do.
    migrate(&mut client, &steps, &INDEXES).await.unwrap();
    let rows = client.query("SELECT call_id, status, note FROM analyses", &[]).await.unwrap();
    let row: Vec<&str> = (0..3).map(|column| rows[0].get(column)).collect();
    assert_eq!((rows.len(), row), (1, vec!["1", "completed", "none"]));

    let refused = migrate(&mut client, &MIGRATIONS, &INDEXES).await.unwrap_err().to_string();
    let (later, known) = (steps.len(), MIGRATIONS.len());
    assert!(
        refused
            .contains(&format!("has schema version {later}, this program supports versions up to {known}")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_step_that_fails_has_no_effect() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    let before = harness.complete(submission("1"), "salom").await;
    let mut client = database.connect().await;
    let steps = steps_with("DELETE FROM analyses; ALTER TABLE missing ADD COLUMN note text");
    let failed = migrate(&mut client, &steps, &INDEXES).await.unwrap_err().to_string();
    assert!(failed.contains("missing"), "{failed}");
    assert_eq!(harness.find("1").await, before);
    // The present version works with the database as before.
    let reopened = open_at(database.url(), ()).await;
    assert_eq!(reopened.find("1").await, before);
}

/// Waits until the database answers this condition with true.
async fn until(client: &Client, condition: &str) {
    let holds = async {
        while !client.query_one(&format!("SELECT {condition}"), &[]).await.unwrap().get::<_, bool>(0) {
            tokio::task::yield_now().await;
        }
    };
    within(condition, holds).await;
}

#[tokio::test]
async fn a_step_that_waits_for_a_reader_does_not_stop_submissions() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    let (reader, observer) = (database.connect().await, database.connect().await);
    // A backup holds such a lock for as long as it runs.
    reader.batch_execute("BEGIN; LOCK TABLE analyses IN ACCESS SHARE MODE").await.unwrap();
    let mut client = database.connect().await;
    let steps = steps_with("ALTER TABLE analyses ADD COLUMN note text");
    let later = i32::try_from(steps.len()).unwrap();
    let migrating = tokio::spawn(async move { migrate(&mut client, &steps, &INDEXES).await });
    let waits = "EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' \
         AND relation = 'analyses'::regclass)";
    until(&observer, waits).await;
    within("a submission", harness.submit(submission("1"))).await;
    assert!(!migrating.is_finished());

    reader.batch_execute("COMMIT").await.unwrap();
    within("the step", migrating).await.unwrap().unwrap();
    until(&observer, &format!("(SELECT max(version) = {later} FROM gateway_schema)")).await;
}

const LATER: ConcurrentIndex = ConcurrentIndex { name: "analyses_later", definition: "analyses (status)" };
const LATER_IS_VALID: &str =
    "(SELECT indisvalid AND NOT indisunique FROM pg_index WHERE indexrelid = 'analyses_later'::regclass)";

#[tokio::test]
async fn submissions_continue_while_an_index_is_created() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    harness.submit(submission("1")).await;
    let (writer, observer) = (database.connect().await, database.connect().await);
    // The index is not complete before this transaction has ended.
    writer.batch_execute("BEGIN; UPDATE analyses SET status = status").await.unwrap();
    let mut client = database.connect().await;
    let migrating = tokio::spawn(async move { migrate(&mut client, &MIGRATIONS, &[LATER]).await });
    until(&observer, "EXISTS (SELECT FROM pg_stat_progress_create_index WHERE datname = current_database())")
        .await;
    within("a submission", harness.submit(submission("2"))).await;
    assert!(!migrating.is_finished());

    writer.batch_execute("COMMIT").await.unwrap();
    within("the index", migrating).await.unwrap().unwrap();
    until(&observer, LATER_IS_VALID).await;
}

#[tokio::test]
async fn an_invalid_index_is_created_again() {
    let database = Server::shared().await.fresh_database().await;
    let harness = open_at(database.url(), ()).await;
    harness.submit(submission("1")).await;
    harness.submit(submission("2")).await;
    let mut client = database.connect().await;
    // The creation fails on equal values, and leaves an invalid index as an interruption does.
    let failing = "CREATE UNIQUE INDEX CONCURRENTLY analyses_later ON analyses (status)";
    client.batch_execute(failing).await.unwrap_err();
    migrate(&mut client, &MIGRATIONS, &[LATER]).await.unwrap();
    until(&client, LATER_IS_VALID).await;
    // A second replica finds nothing to do.
    migrate(&mut client, &MIGRATIONS, &[LATER]).await.unwrap();
}

#[tokio::test]
async fn a_later_schema_is_used_while_it_declares_compatibility() {
    let database = Server::shared().await.fresh_database().await;
    drop(open_at(database.url(), ()).await);
    let client = database.connect().await;
    let record = "INSERT INTO gateway_schema (version, compatible_from) VALUES ($1, $2)";
    client.execute(record, &[&1000, &1]).await.unwrap();
    drop(open_at(database.url(), ()).await);

    client.execute(record, &[&1001, &1001]).await.unwrap();
    let url = database.url().to_owned().into();
    let (context, _) = store_context();
    let refused = PostgresStore::open(&url, &settings(database.url()), context, |_| {}).await.err();
    let refused = refused.unwrap().to_string();
    assert!(refused.contains("has schema version 1001, this program supports versions up to"), "{refused}");
    let inspected = inspect(&url, &settings(database.url())).await.unwrap_err().to_string();
    assert_eq!(inspected, refused);
}

#[tokio::test]
async fn gateways_in_different_schemas_are_independent() {
    let database = Server::shared().await.fresh_database().await;
    let client = database.connect().await;
    client.batch_execute("CREATE SCHEMA one; CREATE SCHEMA other").await.unwrap();
    let url = |schema: &str| format!("{}?options=-csearch_path%3D{schema}", database.url());
    let (one, other) = (open_at(&url("one"), ()).await, open_at(&url("other"), ()).await);
    one.complete(submission("1"), "salom").await;
    assert_eq!(
        other.store.find_analysis(&crate::harness::acme(), &crate::harness::call_id("1")).await.unwrap(),
        None
    );
    assert_eq!(other.changes(), []);
}

#[tokio::test]
async fn a_password_file_is_read() {
    let database = Server::shared().await.fresh_database().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "s3cr3t\n").unwrap();
    let mut settings = settings(database.url());
    settings.password_file = Some(path);
    // The test server needs no password. The file must not prevent the connection.
    assert!(inspect(&database.url().to_owned().into(), &settings).await.is_ok());
}
