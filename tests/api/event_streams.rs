//! The event feed as a live stream.

use std::time::Duration;

use alovoice_gateway::domain::clock::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};

use crate::events::finish;
use crate::postgres::server::Server;
use crate::stage::{EVERY_SCOPE, HMAC, LATER, Stage, acme, development_token};
use crate::subscriber::{StreamBlock, Subscriber};

const EVENTS: &str = "/v1/events";

/// A gateway whose streams send no heartbeats during the test.
async fn quiet_stage() -> Stage {
    Stage::with(&[("EVENTS__HEARTBEAT", LATER)]).await
}

#[tokio::test]
async fn events_are_streamed_immediately() {
    let stage = quiet_stage().await;
    finish(&stage, &["before"]).await;
    let mut stream = Subscriber::open(&stage.acme(), EVENTS, None).await;
    for (header, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("vary", "Authorization, Accept"),
    ] {
        assert_eq!(stream.headers()[header], value);
    }
    finish(&stage, &["1"]).await;
    let Some(StreamBlock::Event { id, kind, data }) = stream.next().await else {
        panic!("expected an event")
    };
    assert_eq!((kind.as_str(), &data["data"]["call_id"]), ("analysis.completed", &json!("1")));
    let listed = stage.acme().get("/v1/events").await.json();
    assert_eq!((&listed["events"][1], listed["events"][1]["id"].as_str()), (&data, Some(&*id)));
    finish(&stage, &["2"]).await;
    assert_eq!(stream.call().await, "2");
}

#[tokio::test]
async fn a_stream_starts_at_the_given_position() {
    let stage = quiet_stage().await;
    finish(&stage, &["1", "2", "3"]).await;
    let page = stage.acme().get("/v1/events?limit=1").await.json();
    let (next, id) = (page["next"].as_str().unwrap(), page["events"][0]["id"].as_str().unwrap());
    let from = |after: &str| format!("/v1/events?after={after}");
    for (path, last_event_id, first) in [
        (from("earliest"), None, "1"),
        (from(next), None, "2"),
        (from(id), None, "2"),
        (EVENTS.to_owned(), Some(id), "2"),
        (EVENTS.to_owned(), Some(next), "2"),
        // `EventSource` keeps its first URL and adds the last event ID.
        (from("earliest"), Some(id), "2"),
        (from(id), Some(""), "2"),
        // Libraries that cannot send the header add a query parameter. The header is more recent.
        (format!("{EVENTS}?lastEventId={id}"), None, "2"),
        (format!("{EVENTS}?lastEventId={next}"), Some(""), "2"),
        (format!("{EVENTS}?after=earliest&lastEventId={id}"), None, "2"),
        (format!("{EVENTS}?after={id}&lastEventId="), None, "2"),
        (format!("{EVENTS}?after=earliest&lastEventId=earliest"), Some(id), "2"),
        (format!("{EVENTS}?Last-Event-ID={id}"), None, "2"),
        (format!("{EVENTS}?last-event-id={id}"), None, "2"),
        (format!("{EVENTS}?last_event_id={id}&after=earliest"), None, "2"),
        (format!("{EVENTS}?lastEventID={id}"), None, "2"),
    ] {
        let mut stream = Subscriber::open(&stage.acme(), &path, last_event_id).await;
        assert_eq!(stream.call().await, first, "{path} {last_event_id:?}");
    }
    let refused = Subscriber::refused(&stage.acme(), EVENTS, Some("evt_1")).await;
    assert_eq!(refused.pointers(), ["Last-Event-ID"]);
    let refused = Subscriber::refused(&stage.acme(), EVENTS, Some("evt_\u{e9}")).await;
    assert_eq!(refused.pointers(), ["Last-Event-ID"], "an id that is not ASCII is not ignored");
    let refused = Subscriber::refused(&stage.acme(), "/v1/events?lastEventId=evt_1", None).await;
    assert_eq!(refused.pointers(), ["?lastEventId"]);
    let page = stage.acme().get(&format!("/v1/events?lastEventId={id}")).await;
    assert_eq!(page.pointers(), ["?lastEventId"], "a page has no last event");
    let refused = Subscriber::refused(&stage.acme(), "/v1/events?after=soon", None).await;
    assert_eq!(refused.pointers(), ["?after"]);
    let refused = Subscriber::refused(&stage.acme(), "/v1/events?limit=5", None).await;
    assert_eq!(refused.pointers(), ["?limit"]);
}

#[tokio::test]
async fn a_client_disconnected_before_the_first_event_misses_none() {
    let stage = quiet_stage().await;
    finish(&stage, &["before"]).await;
    let stream = Subscriber::open(&stage.acme(), EVENTS, None).await;
    let last = stream.last_event_id().to_owned();
    drop(stream);
    finish(&stage, &["meanwhile"]).await;
    let mut stream = Subscriber::open(&stage.acme(), EVENTS, Some(&last)).await;
    assert_eq!(stream.call().await, "meanwhile");
}

/// Reconnects repeatedly, to each gateway in turn, while calls complete.
async fn resumes(stage: &Stage, callers: &[crate::caller::Caller]) {
    const CALLS: usize = 60;
    let submitting = async {
        for number in 0..CALLS {
            stage.acme().submitted(json!({"call_id": number.to_string()})).await;
        }
    };
    let following = async {
        let (mut seen, mut last) = (Vec::new(), None::<String>);
        for attempt in 0.. {
            let path = if last.is_none() { "/v1/events?after=earliest" } else { EVENTS };
            let caller = &callers[attempt % callers.len()];
            let mut stream = Subscriber::open(caller, path, last.as_deref()).await;
            for _ in 0..=(attempt % 4) {
                if seen.len() == CALLS {
                    return seen;
                }
                seen.push(stream.call().await);
            }
            last = Some(stream.last_event_id().to_owned());
        }
        seen
    };
    let ((), seen) = tokio::join!(submitting, following);
    let mut calls: Vec<usize> = seen.iter().map(|call| call.parse().unwrap()).collect();
    calls.sort_unstable();
    assert_eq!(calls, (0..CALLS).collect::<Vec<_>>(), "each call must occur once: {seen:?}");
    let listed = stage.acme().get("/v1/events?limit=500").await.json();
    let call = |event: &Value| event["data"]["call_id"].as_str().unwrap().to_owned();
    let listed: Vec<String> = listed["events"].as_array().unwrap().iter().map(call).collect();
    assert_eq!(seen, listed, "the stream must have the order of the list");
}

#[tokio::test]
async fn a_stream_is_resumed_without_gaps_or_duplicates() {
    let stage = quiet_stage().await;
    resumes(&stage, &[stage.acme()]).await;
}

#[tokio::test]
async fn a_stream_is_resumed_at_another_replica() {
    let database = Server::shared().await.fresh_database().await;
    let stage = Stage::on(Some(database), &[("EVENTS__HEARTBEAT", LATER)]).await;
    let other = stage.replica(stage.database().url()).await;
    resumes(&stage, &[stage.acme(), stage.acme_at(&other)]).await;
    assert!(other.drain().await);
}

#[tokio::test]
async fn an_idle_stream_sends_heartbeat_comments() {
    let stage = Stage::with(&[("EVENTS__HEARTBEAT", "1ms")]).await;
    let mut stream = Subscriber::open(&stage.acme(), EVENTS, None).await;
    for _ in 0..3 {
        assert_eq!(stream.next().await, Some(StreamBlock::Comment("ping".to_owned())));
    }
    finish(&stage, &["1"]).await;
    assert_eq!(stream.call().await, "1");
}

#[tokio::test]
async fn another_tenants_events_never_appear() {
    let stage = quiet_stage().await;
    let mut of_globex = Subscriber::open(&stage.globex(), "/v1/events?after=earliest", None).await;
    let mut of_acme = Subscriber::open(&stage.acme(), EVENTS, None).await;
    finish(&stage, &["private-1", "private-2"]).await;
    stage.globex().submitted(json!({"call_id": "own"})).await;
    assert_eq!(of_globex.call().await, "own");
    assert_eq!(
        (of_acme.call().await, of_acme.call().await),
        ("private-1".to_owned(), "private-2".to_owned())
    );
    // The event ID of another tenant gives no access.
    let mut stream = Subscriber::open(&stage.globex(), EVENTS, Some(of_acme.last_event_id())).await;
    stage.globex().submitted(json!({"call_id": "own-2"})).await;
    let first = stream.call().await;
    assert!(first.starts_with("own"), "{first}");
}

#[tokio::test]
async fn a_drain_ends_every_stream() {
    let stage = quiet_stage().await;
    let mut stream = Subscriber::open(&stage.acme(), EVENTS, None).await;
    let last = stream.last_event_id().to_owned();
    finish(&stage, &["1"]).await;
    let stage = stage.restart().await;
    let mut blocks = Vec::new();
    while let Some(next) = stream.next().await {
        blocks.push(next);
    }
    let stops = "this server stops: connect again".to_owned();
    assert_eq!(blocks.last(), Some(&StreamBlock::Comment(stops)));
    let mut stream = Subscriber::open(&stage.acme(), EVENTS, Some(&last)).await;
    assert_eq!(stream.call().await, "1");
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let stage = quiet_stage().await;
    let tenant = acme();
    let mut token = development_token(&tenant, EVERY_SCOPE);
    token.lifetime = Duration::from_hours(1);
    // The token has expired, and these seconds remain of the leeway for clock skew. A busy machine needs more of them to open the
    // stream in time.
    let mut remaining = [2, 4, 8, 16].into_iter().chain(std::iter::repeat(29));
    let (caller, mut stream) = loop {
        let remaining = remaining.next().unwrap();
        let issued = SystemClock.now().as_millis() - 3_600_000 - (30 - remaining) * 1000;
        let token = token.mint(HMAC.as_bytes(), Timestamp::from_millis(issued)).unwrap();
        let caller = stage.caller_with(&token);
        match Subscriber::try_open(&caller, EVENTS, None).await {
            Ok(stream) => break (caller, stream),
            Err(status) => assert_eq!(status, 401),
        }
    };
    assert_eq!(stream.next().await, Some(StreamBlock::Comment("the token has expired".to_owned())));
    assert_eq!(stream.next().await, None);
    Subscriber::refused(&caller, EVENTS, None).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn a_stream_ends_when_the_key_of_its_token_is_revoked() {
    let stage = Stage::with(&[("EVENTS__HEARTBEAT", "1ms")]).await;
    let mut stream = Subscriber::open(&stage.acme(), EVENTS, None).await;
    stage.write("hmac", "another secret of at least thirty-two bytes");
    loop {
        match stream.next().await {
            Some(StreamBlock::Comment(comment)) if comment == "ping" => {}
            end => {
                assert_eq!(end, Some(StreamBlock::Comment("the token is no longer valid".to_owned())));
                break;
            }
        }
    }
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn the_number_of_streams_of_a_tenant_is_limited() {
    let stage = Stage::with(&[("EVENTS__STREAMS_PER_TENANT", "2"), ("EVENTS__HEARTBEAT", "1ms")]).await;
    let first = Subscriber::open(&stage.acme(), EVENTS, None).await;
    let _second = Subscriber::open(&stage.acme(), EVENTS, None).await;
    assert!(stage.admin("metrics").await.1.contains("\nalovoice_gateway_event_streams_open 2\n"));
    let refused = Subscriber::refused(&stage.acme(), EVENTS, None).await;
    refused.problem(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), "10");
    let head = stage.acme().send(reqwest::Method::HEAD, EVENTS, &[("accept", "text/event-stream")], "").await;
    assert_eq!(head.status, 429, "HEAD has the status of GET");
    let _others = Subscriber::open(&stage.globex(), EVENTS, None).await;
    assert_eq!(stage.acme().get(EVENTS).await.status, 200, "the limit does not apply to pages of events");
    stage.in_flight(0).await;

    drop(first);
    // The gateway notices the disconnect at the next heartbeat.
    while !stage.admin("metrics").await.1.contains("\nalovoice_gateway_event_streams_open 2\n") {}
    Subscriber::open(&stage.acme(), EVENTS, None).await;
}

#[tokio::test]
async fn a_head_request_for_a_stream_has_no_body_and_opens_no_stream() {
    let stage = quiet_stage().await;
    let head = stage.acme().send(reqwest::Method::HEAD, EVENTS, &[("accept", "text/event-stream")], "").await;
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
    assert!(stage.admin("metrics").await.1.contains("\nalovoice_gateway_event_streams_open 0\n"));
}

#[tokio::test]
async fn a_slow_reader_delays_no_other_stream() {
    let stage = quiet_stage().await;
    let mut idle = Subscriber::open(&stage.acme(), EVENTS, None).await;
    let mut eager = Subscriber::open(&stage.acme(), EVENTS, None).await;
    let calls: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    finish(&stage, &calls.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for call in &calls {
        assert_eq!(eager.call().await, *call);
    }
    for call in &calls {
        assert_eq!(idle.call().await, *call);
    }
}
