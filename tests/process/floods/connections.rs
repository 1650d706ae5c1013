//! Too many connections.

use std::fs;

use super::raw_connection::RawConnection;
use super::{Flooded, MIB};
use crate::gateway::within;

const WANTED: usize = 10_000;
/// Maximum memory of an idle connection.
const MEMORY_PER_CONNECTION: u64 = 40 << 10;

/// Number of connections: `WANTED`, or fewer if the file limit of this process is lower.
fn connections() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let most = line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX);
    WANTED.min(most - most / 5)
}

#[tokio::test]
async fn ten_thousand_idle_connections_leave_the_api_usable() {
    let flooded =
        Flooded::start(&[("SERVER__HEAD_TIMEOUT", "5m"), ("SERVER__MAX_CONNECTIONS", "25000")]).await;
    let number = connections();
    let mut idle = Vec::new();
    for number in 0..number {
        let mut connection = RawConnection::open(&flooded.gateway.api).await;
        // Every second connection has sent a request before.
        if number % 2 == 0 {
            connection.send(b"HEAD /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert_eq!(connection.status().await, 200);
        }
        idle.push(connection);
    }
    eprintln!("{number} connections");
    flooded.check_healthy_within(number as u64 * MEMORY_PER_CONNECTION + 16 * MIB).await;
    drop(idle);
    flooded.gateway.stop().await;
}

#[tokio::test]
async fn connections_above_the_limit_wait_for_a_free_slot() {
    let settings = [("SERVER__MAX_CONNECTIONS", "4"), ("SERVER__HEAD_TIMEOUT", "1s")];
    let flooded = Flooded::start(&settings).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(RawConnection::open(&flooded.gateway.api).await);
    }
    for connection in &mut silent {
        assert_eq!(within("the end of a silent connection", connection.status()).await, 408);
    }
    flooded.check_healthy().await;
}
