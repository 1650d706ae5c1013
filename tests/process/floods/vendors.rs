//! A vendor with huge or endless responses.

use std::sync::Arc;

use super::flood_server::{FloodResponse, FloodServer, json};
use super::{Flooded, MAX_GROWTH, MIB};
use crate::gateway::within;
use crate::stage::Stage;

/// A valid finished result.
const FINISHED: &str =
    r#"{"answer":{"stalk":[{"begin":0,"end":9,"direction":"client","text":"salom"}],"tags":[]}}"#;
/// The documented answer to a submit.
const ACCEPTED: &str = r#"{"answer":{"aicallid":"664b400ccccc3235a7cd17f"}}"#;
/// Number of calls that can be in progress at once.
const CALLS: usize = 32;

/// Floods the first poll of each call, and answers the second poll with a result.
async fn flooded_by_vendor(flow: FloodResponse, settings: &[(&str, &str)]) -> (Flooded, FloodServer) {
    flooded_by_polls(flow, json(FINISHED), settings).await
}

/// Answers the first poll of each call and all later polls.
async fn flooded_by_polls(
    first: FloodResponse,
    later: FloodResponse,
    settings: &[(&str, &str)],
) -> (Flooded, FloodServer) {
    let vendor = FloodServer::start(move |path, before| match before {
        _ if path.starts_with("/callsendai/") => json(ACCEPTED),
        _ if path.contains("known-") => json(FINISHED),
        0 => first.clone(),
        _ => later.clone(),
    })
    .await;
    let mut stage = Stage::set_up().await;
    stage.set("VENDOR__BASE_URL", vendor.url.as_str());
    // A debug build is slow on large responses.
    stage.set("VENDOR__REQUEST_TIMEOUT", "1m");
    for (key, value) in settings {
        stage.set(key, value);
    }
    (Flooded::on(stage).await, vendor)
}

/// Submits the calls and waits until each is completed.
async fn finish(flooded: &Flooded, calls: usize) {
    let names: Vec<String> = (0..calls).map(|number| format!("call-{number}")).collect();
    for name in &names {
        assert_eq!(flooded.stage.submit(&flooded.gateway, name).await.unwrap().status(), 202);
    }
    for name in &names {
        loop {
            let answer = within(name, flooded.stage.get(&flooded.gateway, name, "wait=60")).await;
            let body = answer.text().await.unwrap();
            if body.contains(r#""status":"completed""#) {
                break;
            }
            assert!(
                body.contains(r#""status":"processing""#) || body.contains(r#""status":"queued""#),
                "{body}"
            );
        }
    }
}

fn endless(head: &str, again: &[u8]) -> FloodResponse {
    FloodResponse::Endless(head.as_bytes().into(), again.into())
}

#[tokio::test]
async fn endless_heads_are_abandoned() {
    for flow in [
        endless("HTTP/1.1 200 OK\r\nx: ", &[b'x'; 0x10000]),
        endless("HTTP/1.1 200 OK\r\n", "x: x\r\n".repeat(0x1000).as_bytes()),
    ] {
        let (flooded, _vendor) = flooded_by_vendor(flow, &[("VENDOR__REQUEST_TIMEOUT", "2s")]).await;
        finish(&flooded, CALLS).await;
        flooded.check_healthy().await;
    }
}

#[tokio::test]
async fn endless_bodies_are_abandoned() {
    let flow = endless("HTTP/1.1 200 OK\r\n\r\n", &[b' '; 0x10000]);
    let (flooded, _vendor) = flooded_by_vendor(flow, &[]).await;
    finish(&flooded, CALLS).await;
    // Two responses of 8 MiB at once, each in a buffer that doubles as it grows, and one megabyte of each other response.
    flooded.check_healthy_within(2 * 3 * 8 * MIB + 32 * 2 * MIB + MAX_GROWTH).await;
}

#[tokio::test]
async fn responses_of_many_small_parts_need_bounded_memory() {
    let nothing = vec!["{}"; 5_000_000].join(",");
    let flow = json(&format!(r#"{{"answer":{{"stalk":[{nothing}],"tags":[]}}}}"#));
    let (flooded, _vendor) = flooded_by_vendor(flow, &[]).await;
    finish(&flooded, 8).await;
    flooded.check_healthy_within(2 * 3 * 8 * MIB + 8 * 2 * MIB + MAX_GROWTH).await;
}

#[tokio::test]
async fn only_a_few_of_the_largest_responses_are_in_memory_at_once() {
    let text = "salom ".repeat(2000);
    let turn =
        |number| format!(r#"{{"begin":{number},"end":1{number},"direction":"client","text":"{text}"}}"#);
    let stalk = (0..675).map(turn).collect::<Vec<_>>().join(",");
    let answer: Arc<str> = format!(r#"{{"answer":{{"stalk":[{stalk}],"tags":[]}}}}"#).into();
    assert!((7 * MIB..8 * MIB).contains(&(answer.len() as u64)));
    // A poll that fails on a busy machine is repeated with the same response.
    let large = json(&answer);
    let (flooded, _vendor) = flooded_by_polls(large.clone(), large, &[("CACHE__MAX_BYTES", "0")]).await;
    finish(&flooded, 8).await;
    let stored = flooded.stage.get(&flooded.gateway, "call-0", "").await.bytes().await.unwrap();
    assert!(stored.len() as u64 > 7 * MIB, "the large result is stored");
    // Each response is in memory with its parsed form, and both are copied on the way into the store. The allocator keeps freed
    // memory for a while, so only the bound of the whole process is certain.
    let room = 512 * MIB - flooded.before;
    flooded.check_healthy_within(room).await;
}
