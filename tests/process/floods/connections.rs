//! Connections without number.

use std::fs;

use super::wire::Wire;
use super::{Flooded, MIB};
use crate::gateway::within;

const WANTED: usize = 10_000;
/// What an idle connection may take.
const EACH: u64 = 40 << 10;

/// As many connections as are wanted, or as this process may open.
fn connections() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let most = line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX);
    WANTED.min(most - most / 5)
}

#[tokio::test]
async fn ten_thousand_idle_connections_disturb_nobody() {
    let flooded = Flooded::start(&[("SERVER__HEAD_TIMEOUT", "5m")]).await;
    let number = connections();
    let mut idle = Vec::new();
    for number in 0..number {
        let mut wire = Wire::open(&flooded.gateway.api).await;
        // Each second one has asked something before.
        if number % 2 == 0 {
            wire.send(b"HEAD /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert_eq!(wire.status().await, 200);
        }
        idle.push(wire);
    }
    eprintln!("{number} connections");
    flooded.is_well_within(number as u64 * EACH + 16 * MIB).await;
    drop(idle);
    flooded.gateway.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_number_wait_for_the_others() {
    let settings = [("SERVER__MAX_CONNECTIONS", "4"), ("SERVER__HEAD_TIMEOUT", "1s")];
    let flooded = Flooded::start(&settings).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(Wire::open(&flooded.gateway.api).await);
    }
    for wire in &mut silent {
        assert_eq!(within("the end of a silent connection", wire.status()).await, 408);
    }
    flooded.is_well().await;
}
