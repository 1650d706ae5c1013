//! A vendor whose answers have no measure.

use std::sync::Arc;

use super::torrent::{Flow, Torrent, json};
use super::{Flooded, MIB, ROOM};
use crate::gateway::within;
use crate::stage::Stage;

/// A good answer.
const FINISHED: &str =
    r#"{"answer":{"stalk":[{"begin":0,"end":9,"direction":"client","text":"salom"}],"tags":[]}}"#;
/// As many as may be under way.
const CALLS: usize = 32;

/// Floods the first look at each call, and answers the second well.
async fn flooded_by(flow: Flow, settings: &[(&str, &str)]) -> (Flooded, Torrent) {
    let vendor = Torrent::start(move |path, before| match before {
        _ if path.starts_with("/callsendai/") => json("{}"),
        0 if !path.contains("known-") => flow.clone(),
        _ => json(FINISHED),
    })
    .await;
    let mut stage = Stage::set_up().await;
    stage.set("VENDOR__BASE_URL", vendor.url.as_str());
    // A build without optimisations takes its time over a megabyte.
    stage.set("VENDOR__REQUEST_TIMEOUT", "1m");
    for (key, value) in settings {
        stage.set(key, value);
    }
    (Flooded::on(stage).await, vendor)
}

/// Submits the calls all at once and waits until each is finished.
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

fn endless(head: &str, again: &[u8]) -> Flow {
    Flow::Endless(head.as_bytes().into(), again.into())
}

#[tokio::test]
async fn heads_without_end_are_given_up() {
    for flow in [
        endless("HTTP/1.1 200 OK\r\nx: ", &[b'x'; 0x10000]),
        endless("HTTP/1.1 200 OK\r\n", "x: x\r\n".repeat(0x1000).as_bytes()),
    ] {
        let (flooded, _vendor) = flooded_by(flow, &[("VENDOR__REQUEST_TIMEOUT", "2s")]).await;
        finish(&flooded, CALLS).await;
        flooded.is_well().await;
    }
}

#[tokio::test]
async fn bodies_without_end_are_given_up() {
    let flow = endless("HTTP/1.1 200 OK\r\n\r\n", &[b' '; 0x10000]);
    let (flooded, _vendor) = flooded_by(flow, &[]).await;
    finish(&flooded, CALLS).await;
    // Four of 16 MiB at once, each in a buffer that doubles as it grows, and a megabyte of each of the others.
    flooded.is_well_within(4 * 3 * 16 * MIB + 32 * 2 * MIB + ROOM).await;
}

#[tokio::test]
async fn answers_of_many_small_parts_do_not_swell() {
    let nothing = vec!["{}"; 5_000_000].join(",");
    let flow = json(&format!(r#"{{"answer":{{"stalk":[{nothing}],"tags":[]}}}}"#));
    let (flooded, _vendor) = flooded_by(flow, &[]).await;
    finish(&flooded, 8).await;
    flooded.is_well_within(4 * 3 * 16 * MIB + 8 * 2 * MIB + ROOM).await;
}

#[tokio::test]
async fn answers_as_large_as_is_allowed_come_a_few_at_a_time() {
    let text = "salom ".repeat(2000);
    let turn =
        |number| format!(r#"{{"begin":{number},"end":{number}9,"direction":"client","text":"{text}"}}"#);
    let stalk = (0..1350).map(turn).collect::<Vec<_>>().join(",");
    let answer: Arc<str> = format!(r#"{{"answer":{{"stalk":[{stalk}],"tags":[]}}}}"#).into();
    assert!((15 * MIB..16 * MIB).contains(&(answer.len() as u64)));
    let (flooded, _vendor) = flooded_by(json(&answer), &[("CACHE__MAX_BYTES", "0")]).await;
    finish(&flooded, 8).await;
    // Besides the answer, its words; and both again on their way into the store.
    flooded.is_well_within(4 * 4 * 16 * MIB + ROOM).await;
}
