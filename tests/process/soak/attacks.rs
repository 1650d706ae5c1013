//! The attacks over raw connections, and the expensive reads.

use std::time::Duration;

/// Reads that cost as much as possible.
pub(super) const EXPENSIVE: [&str; 6] = [
    "v1/analyses?limit=200&q=so*%20sa*%20kl*%20to*%20bi*%20qa*%20ne*%20ma*",
    "v1/analyses?limit=200&q=so*%20yoqsoz",
    "v1/analyses?limit=200&q=salom&tag=nothing",
    "v1/analyses?limit=200&tag=price&submitted_before=2020-01-01T00:00:00Z",
    "v1/analyses?limit=200&status=completed",
    "v1/usage",
];

/// Size of an unfinished body, just below `server.max_body_bytes`.
const BODY_BYTES: usize = (4 << 20) - 1;

/// An attack with bytes that are sent over many connections at the same time.
#[derive(Clone, Copy)]
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) connections: usize,
    /// Time after which a connection is replaced by a new one.
    pub(super) hold: Duration,
    /// Whether a pause follows each byte.
    pub(super) is_slow: bool,
    /// Returns the bytes of a connection for a token.
    pub(super) bytes: fn(&str) -> Vec<u8>,
}

/// All attacks over raw connections.
pub(super) fn raw() -> Vec<Attack> {
    let attack = |name, connections, hold, bytes| Attack {
        name,
        connections,
        hold: Duration::from_millis(hold),
        is_slow: false,
        bytes,
    };
    vec![
        attack("searches without a reader", 4, 30, |token| head(token, EXPENSIVE[0], "")),
        attack("unfinished bodies", 40, 35_000, |token| {
            let headers = format!("content-type: application/json\r\ncontent-length: {}\r\n", BODY_BYTES + 1);
            let mut bytes = request("POST", token, "v1/analyses/batch", &headers);
            bytes.resize(bytes.len() + BODY_BYTES, b' ');
            bytes
        }),
        attack("unread pages of events", 40, 40_000, |token| {
            head(token, "v1/events?after=earliest&limit=500", "")
        }),
        attack("unread pages of a list", 20, 40_000, |token| head(token, "v1/analyses?limit=200", "")),
        attack("unread recordings", 40, 40_000, |token| head(token, "v1/analyses/known-0/audio", "")),
        Attack {
            is_slow: true,
            ..attack("slow heads", 200, 20_000, |_| b"GET / HTTP/1.1\r\nx: ".repeat(10))
        },
        attack("large unfinished heads", 40, 15_000, |_| {
            [b"GET / HTTP/1.1\r\nhost: x\r\nx: ".as_slice(), &[b'x'; 120 << 10]].concat()
        }),
        attack("idle connections without a token", 600, 80_000, |_| Vec::new()),
        attack("idle connections with a token", 2100, 80_000, |token| head(token, "v1/analyses/known-0", "")),
        attack("unread event streams", 110, 60_000, |token| {
            head(token, "v1/events?after=earliest", "accept: text/event-stream\r\n")
        }),
        attack("pipelined requests", 20, 60_000, |token| {
            let wait = head(token, "v1/analyses/hang-forever~1", "prefer: wait=60\r\n");
            [wait, b"GET / HTTP/1.0\r\n\r\n".repeat(7000)].concat()
        }),
        attack("waiting reads", 50, 60_000, |token| {
            head(token, "v1/analyses/hang-forever~1", "prefer: wait=60\r\n")
        }),
    ]
}

fn head(token: &str, path: &str, headers: &str) -> Vec<u8> {
    request("GET", token, path, headers)
}

fn request(method: &str, token: &str, path: &str, headers: &str) -> Vec<u8> {
    format!("{method} /{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{headers}\r\n")
        .into_bytes()
}
