//! Start-up time, sizes, and the memory of unfinished analyses, waiting requests and event streams.

use std::fs;
use std::time::Instant;

use alovoice_gateway::sandbox::stand_in::Ready;
use jsonwebtoken::Algorithm;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::bare::Handler;
use crate::gateway::{self, Gateway, HELD, Options};
use crate::process::Process;
use crate::report::Report;
use crate::signer::Signer;

/// Unfinished analyses in the store.
const UNFINISHED: usize = 100_000;
/// Open requests of each kind.
const OPEN: usize = 10_000;

/// Settings that allow [`OPEN`] connections of one tenant. The polls of the submitted calls are held.
const SETTINGS: [(&str, &str); 4] = [
    HELD[0],
    HELD[1],
    ("GATEWAY_SERVER__MAX_CONNECTIONS", "12000"),
    ("GATEWAY_EVENTS__STREAMS_PER_TENANT", "100000"),
];

pub(crate) fn measure(report: &mut Report, runtime: &Runtime) {
    let signer = Signer::new(Algorithm::HS256);
    let start = |settings| {
        let began = Instant::now();
        let options = Options { signer: &signer, postgres: None, processing: Ready::AfterPolls(2), settings };
        let gateway = runtime.block_on(gateway::start(options));
        runtime.block_on(gateway.wait_until_ready());
        gateway.vendor.set_held(true);
        (gateway, began.elapsed())
    };
    let (gateway, started) = start(&HELD);
    let idle = resident(&gateway.process);
    runtime.block_on(gateway.submit(UNFINISHED, |_| None));
    let full = resident(&gateway.process);
    drop(gateway);
    let each = |resource: &dyn Fn(usize) -> String, header: &str, gauge: &str| {
        let (gateway, _) = start(&SETTINGS);
        runtime.block_on(gateway.submit(OPEN, |_| None));
        let before = resident(&gateway.process);
        let connections = runtime.block_on(open(&gateway, resource, header, gauge));
        let bytes = resident(&gateway.process).saturating_sub(before);
        drop(connections);
        kib_each(bytes)
    };
    let waiting = each(
        &|number| format!("analyses/1795374000.{number}"),
        "prefer: wait=60",
        "alovoice_gateway_http_requests_in_flight",
    );
    let stream =
        each(&|_| "events".to_owned(), "accept: text/event-stream", "alovoice_gateway_event_streams_open");
    let bare = bare_streams(runtime);
    let size = fs::metadata(gateway::program()).expect("the program").len();
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    report.values(
        "Start, memory and size",
        &[
            ("start to ready, SQLite".to_owned(), format!("{} ms", started.as_millis()), "150 ms"),
            ("memory, idle".to_owned(), mib(idle), "30 MiB"),
            ("memory for 100,000 unfinished analyses".to_owned(), mib(full.saturating_sub(idle)), "50 MiB"),
            ("memory for each of 10,000 requests with `Prefer: wait`".to_owned(), waiting, "–"),
            ("memory for each of 10,000 event streams".to_owned(), stream, "8 KiB"),
            ("the same of a bare actix-web handler".to_owned(), bare, "–"),
            ("size of the program".to_owned(), mib(size), "–"),
        ],
    );
}

fn kib_each(bytes: u64) -> String {
    format!("{:.1} KiB", bytes as f64 / OPEN as f64 / 1024.0)
}

/// Opens event streams of a handler without any rule. Returns the memory for each of them.
fn bare_streams(runtime: &Runtime) -> String {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), "retry: 2000\n\n").expect("a temporary file takes a body");
    let handler = Handler::start(file.path());
    let before = resident(&handler.process);
    let request = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    let connections = runtime.block_on(async {
        let mut connections = connect(&format!("127.0.0.1:{}", handler.port), |_| request.to_owned()).await;
        for connection in &mut connections {
            connection.read_u8().await.expect("the beginning of a stream");
        }
        connections
    });
    let bytes = resident(&handler.process).saturating_sub(before);
    drop(connections);
    kib_each(bytes)
}

/// Opens requests with this header, each on its own connection. Waits until the gauge counts all of them.
async fn open(
    gateway: &Gateway,
    resource: &dyn Fn(usize) -> String,
    header: &str,
    gauge: &str,
) -> Vec<TcpStream> {
    let host = gateway.api.trim_start_matches("http://").trim_end_matches('/');
    let connections = connect(host, |number| {
        format!(
            "GET /v1/{} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n{header}\r\n\r\n",
            resource(number),
            gateway.token
        )
    })
    .await;
    let began = Instant::now();
    loop {
        let open = gateway.metric(gauge).await;
        if open >= OPEN as f64 {
            return connections;
        }
        assert!(began.elapsed().as_secs() < 30, "{open} of {OPEN} requests are open");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Sends requests, each on its own connection.
async fn connect(host: &str, request: impl Fn(usize) -> String) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for number in 0..OPEN {
        let mut connection = TcpStream::connect(host).await.expect("a connection; see `ulimit -n`");
        connection.write_all(request(number).as_bytes()).await.expect("a request");
        connections.push(connection);
    }
    connections
}

/// Returns the resident memory of a process, in bytes.
fn resident(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the resident memory");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}
