//! Peers that do the same work with the same libraries and without any rule: a handler, a loop of requests, and inserts. Each is a mode
//! of this program.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use actix_web::http::Method;
use actix_web::{App, Error, HttpResponse, HttpServer, web};
use futures_util::{StreamExt, stream};
use reqwest::Client;
use rusqlite::{Connection, params};

use crate::load::{CONNECTIONS, Measured, SECONDS};
use crate::postgres::cluster::free_port;
use crate::process::{Process, mode};

/// A handler that returns the bytes of a file. With the method POST, the handler returns an event stream without an end.
pub(crate) struct Handler {
    pub(crate) port: u16,
    pub(crate) url: String,
    pub(crate) process: Process,
}

impl Handler {
    /// Starts the handler. Caches may store its answers.
    pub(crate) fn start(file: &Path) -> Self {
        let port = free_port();
        let mut command = mode("handler");
        command.arg(port.to_string()).arg(file);
        Self { port, url: format!("http://127.0.0.1:{port}/"), process: Process::serving(command, port) }
    }
}

/// Sends `count` requests with the body of a file over `concurrency` connections. Returns requests per second.
pub(crate) fn posts(url: &str, file: &Path, count: usize, concurrency: usize) -> Measured {
    let mut command = mode("posts");
    command.arg(url).arg(file).args([count.to_string(), concurrency.to_string()]);
    number(command)
}

/// Inserts rows into the SQLite file of a gateway that has stopped. Returns rows per second.
pub(crate) fn inserts(database: &Path) -> Measured {
    let mut command = mode("inserts");
    command.arg(database);
    number(command)
}

fn number(mut command: std::process::Command) -> Measured {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    Measured::rate(text.trim().parse().unwrap_or_else(|_| {
        panic!("{command:?} printed {text:?} {:?}", String::from_utf8_lossy(&output.stderr))
    }))
}

/// Runs this program as a peer.
pub(crate) fn run(mode: &str, arguments: &[String]) -> Option<ExitCode> {
    let rate = match (mode, arguments) {
        ("handler", [port, file]) => return Some(serve(port, file)),
        ("posts", [url, file, count, concurrency]) => send(url, file, count, concurrency),
        ("inserts", [file]) => insert(file),
        _ => return None,
    };
    println!("{rate}");
    Some(ExitCode::SUCCESS)
}

fn serve(port: &str, file: &str) -> ExitCode {
    let port: u16 = port.parse().expect("a port");
    let body = web::Bytes::from(fs::read(file).expect("the file"));
    let run = actix_web::rt::System::new().block_on(async move {
        HttpServer::new(move || {
            let body = body.clone();
            App::new().default_service(web::to(move |method: Method| {
                let body = body.clone();
                async move {
                    if method == Method::POST {
                        let events = stream::iter([Ok::<_, Error>(body)]).chain(stream::pending());
                        return HttpResponse::Ok().content_type("text/event-stream").streaming(events);
                    }
                    HttpResponse::Ok()
                        .content_type("application/json")
                        .insert_header(("cache-control", "public, max-age=3600"))
                        .body(body)
                }
            }))
        })
        .workers(1)
        .bind(("127.0.0.1", port))?
        .run()
        .await
    });
    run.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

#[tokio::main(flavor = "current_thread")]
async fn send(url: &str, file: &str, count: &str, concurrency: &str) -> f64 {
    let body = web::Bytes::from(fs::read(file).expect("the file"));
    let count: usize = count.parse().expect("a number");
    let client = Client::new();
    let began = Instant::now();
    let requests = stream::iter(0..count).map(|number| {
        let request = client.post(url).header("content-type", "application/json").body(body.clone());
        request.header("webhook-id", number.to_string()).send()
    });
    let statuses = requests.buffer_unordered(concurrency.parse().expect("a number"));
    statuses.for_each(async |answer| assert!(answer.expect("an answer").status().is_success())).await;
    count as f64 / began.elapsed().as_secs_f64()
}

/// Inserts the row of a submission, 32 rows per commit, with each commit synced.
fn insert(file: &str) -> f64 {
    let connection = Connection::open(file).expect("a database");
    connection.pragma_update(None, "synchronous", "FULL").expect("a setting");
    let mut insert = connection
        .prepare(
            "INSERT INTO analyses (tenant, call_id, status, revision, submitted_at, metadata, trace, stage, due_at, \
             started_at) VALUES ('acme', ?, 'queued', 0, 1795374000000, '{}', ?, 'submit', 1795374000000, 1795374000000)",
        )
        .expect("a statement");
    let trace = r#"{"trace_id":101518349412345678901234567890,"flags":0}"#;
    let (began, mut rows) = (Instant::now(), 0_usize);
    while began.elapsed() < Duration::from_secs(SECONDS.into()) {
        connection.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
        for _ in 0..CONNECTIONS {
            insert.execute(params![format!("1795374000-{rows}"), trace]).expect("a row");
            rows += 1;
        }
        connection.execute_batch("COMMIT").expect("a commit");
    }
    rows as f64 / began.elapsed().as_secs_f64()
}
