//! Observation and control of the stand-in by tests.

use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::domain::clock::Timestamp;
use alovoice_gateway::sandbox::stand_in::{Operation, Ready, VendorOptions};
use tokio::io::AsyncReadExt;

use crate::clock::ManualClock;
use crate::play::{Play, id};

#[tokio::test]
async fn a_result_is_ready_after_the_processing_time() {
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_millis(0)));
    let processing = Ready::AfterDuration(Duration::from_secs(3));
    let play =
        Play::start_with(VendorOptions { processing, clock: clock.clone(), ..VendorOptions::default() })
            .await;
    play.submit("1").await;
    clock.advance(Duration::from_millis(2_999));
    assert_eq!(play.poll("1").await, "200 head");
    clock.advance(Duration::from_millis(1));
    assert_eq!(play.poll("1").await, "200 finished");
    assert_eq!(play.vendor.calls()[2].at, Timestamp::from_millis(3_000));
    play.submit("1").await;
    assert_eq!(play.poll("1").await, "200 head", "a second submit starts again");
}

#[tokio::test]
async fn requests_are_recorded_with_their_headers() {
    let play = Play::start().await;
    let url = play.url("callsendai", "a%3Ab");
    play.client.get(url).header("traceparent", "00-1-2-00").send().await.unwrap();
    let request = play.vendor.next().await;
    assert_eq!((request.operation, request.call_id, request.token_ok), (Operation::Submit, id("a:b"), true));
    assert_eq!(request.traceparent.as_deref(), Some("00-1-2-00"));
    play.poll("a:b").await;
    assert_eq!(play.vendor.next().await.operation, Operation::Result);
    assert_eq!((play.vendor.submits(&id("a:b")), play.vendor.polls(&id("a:b"))), (1, 1));
}

#[tokio::test]
async fn while_down_no_submit_is_accepted_or_answered() {
    let play = Play::start().await;
    play.vendor.set_down(true);
    assert_eq!(play.submit("1").await, "reset");
    assert_eq!(play.poll("known-1").await, "reset");
    assert_eq!((play.vendor.submits(&id("1")), play.vendor.accepted_submits(&id("1"))), (1, 0));
    play.vendor.set_down(false);
    assert_eq!(play.submit("1").await, "200 head");
}

#[tokio::test]
async fn held_answers_wait_until_the_stop() {
    let play = Play::start().await;
    play.vendor.set_held(true);
    let released = tokio::join!(play.submit("1"), async {
        play.vendor.wait_for(|requests| requests.len() == 1).await;
        assert_eq!(play.vendor.accepted_submits(&id("1")), 1);
        play.vendor.set_held(false);
    });
    assert_eq!(released.0, "200 head");

    play.vendor.set_held(true);
    let mut stream = play.raw("callgetairesult", "known-1").await;
    play.vendor.wait_for(|requests| requests.len() == 2).await;
    play.vendor.stop().await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(answer.ends_with(b"}}"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    use tokio::io::AsyncWriteExt;
    let play = Play::start().await;
    let mut stream = play.raw("callsendai", "1").await;
    let path = play.url("callgetairesult", "2").path().to_owned();
    let second = format!("GET {path} HTTP/1.1\r\nHost: vendor\r\n\r\n");
    stream.write_all(second.as_bytes()).await.unwrap();
    play.vendor.wait_for(|requests| requests.len() == 2).await;
    play.vendor.stop().await;
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 1);
    assert_eq!(answers.matches("HTTP/1.1 404 Not Found").count(), 1);
}
