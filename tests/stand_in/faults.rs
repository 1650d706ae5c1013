//! Each fault as a client sees it, in order.

use alovoice_gateway::sandbox::stand_in::{Behaviour, Operation};
use tokio::io::AsyncReadExt;

use crate::play::{Play, id};

/// A larger answer is large enough for the test.
const ENOUGH_BYTES: usize = 20 << 20;

#[tokio::test]
async fn submits_and_polls_show_the_behaviour_in_the_call_id() {
    let play = Play::start().await;
    // The begin of a call id, the answers to three submits, and the answers to four polls after them.
    let head = "200 head, 200 head, 200 head";
    let usual = "200 head, 200 head, 200 finished, 200 finished";
    for (name, submits, polls) in [
        ("documented", head, usual),
        ("not-ready-no-stalk", head, usual),
        ("not-ready-null", head, "200 null, 200 null, 200 finished, 200 finished"),
        ("not-ready-missing", head, "200 missing, 200 missing, 200 finished, 200 finished"),
        ("not-ready-string", head, "200 string, 200 string, 200 finished, 200 finished"),
        ("not-ready-empty", head, "200 empty, 200 empty, 200 finished, 200 finished"),
        ("not-ready-202", head, "202 head, 202 head, 200 finished, 200 finished"),
        ("not-ready-204", head, "204 nothing, 204 nothing, 200 finished, 200 finished"),
        ("not-ready-404", head, "404 error, 404 error, 200 finished, 200 finished"),
        ("never-ready", head, "200 head, 200 head, 200 head, 200 head"),
        ("silent", head, "200 empty, 200 empty, 200 empty, 200 empty"),
        ("tags-late", head, "200 head, 200 head, 200 untagged, 200 finished"),
        ("gzip", head, usual),
        ("redirect", "302 html, 302 html, 200 head", "302 html, 302 html, 200 finished, 200 finished"),
        ("submit-202", "202 head, 202 head, 200 head", usual),
        ("submit-204", "204 nothing, 204 nothing, 200 head", usual),
        ("submit-html", "200 html, 200 html, 200 head", usual),
        ("submit-html-lost", "200 html, 200 html, 200 head", usual),
        ("submit-reset", "reset, reset, 200 head", usual),
        ("submit-reset-lost", "reset, reset, 200 head", usual),
        ("submit-500-taken", "500 error, 500 error, 200 head", usual),
        ("submit-500-lost", "500 error, 500 error, 200 head", usual),
        ("submit-400", "400 error, 400 error, 200 head", usual),
        ("submit-401", "401 error, 401 error, 200 head", usual),
        ("submit-403", "403 error, 403 error, 200 head", usual),
        ("submit-404", "404 error, 404 error, 200 head", usual),
        (
            "submit-404-forever",
            "404 error, 404 error, 404 error",
            "404 error, 404 error, 404 error, 404 error",
        ),
        ("submit-429", "429 error retry-after, 429 error retry-after, 200 head", usual),
        ("result-400", head, "400 error, 400 error, 200 finished, 200 finished"),
        ("result-401", head, "401 error, 401 error, 200 finished, 200 finished"),
        ("result-403", head, "403 error, 403 error, 200 finished, 200 finished"),
        ("result-404", head, "404 error, 404 error, 200 finished, 200 finished"),
        ("result-429", head, "429 error retry-after, 429 error retry-after, 200 finished, 200 finished"),
        ("result-500", head, "500 error, 500 error, 200 finished, 200 finished"),
        ("result-503", head, "503 error retry-after, 503 error retry-after, 200 finished, 200 finished"),
        ("result-503-date", head, "503 error retry-after, 503 error retry-after, 200 finished, 200 finished"),
        ("result-html", head, "200 html, 200 html, 200 finished, 200 finished"),
        ("result-html-forever", head, "200 html, 200 html, 200 html, 200 html"),
        ("reset", head, "reset, reset, 200 finished, 200 finished"),
        ("reset-forever", head, "reset, reset, reset, reset"),
        ("truncated", head, "200 cut short, 200 cut short, 200 finished, 200 finished"),
        ("truncated-gzip", head, "200 cut short, 200 cut short, 200 finished, 200 finished"),
    ] {
        let call_id = format!("{name}~1");
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(play.submit(&call_id).await);
        }
        assert_eq!(seen.join(", "), submits, "submits of {call_id}");
        seen.clear();
        for _ in 0..4 {
            seen.push(play.poll(&call_id).await);
        }
        assert_eq!(seen.join(", "), polls, "polls of {call_id}");
    }
    assert!(play.vendor.calls().iter().all(|request| request.operation != Operation::OtherHost));
}

#[tokio::test]
async fn a_submit_is_accepted_or_lost_as_its_name_says() {
    let play = Play::start().await;
    for (name, taken) in [
        ("documented", 1),
        ("redirect", 0),
        ("submit-202", 1),
        ("submit-204", 1),
        ("submit-html", 1),
        ("submit-html-lost", 0),
        ("submit-reset", 1),
        ("submit-reset-lost", 0),
        ("submit-500-taken", 1),
        ("submit-500-lost", 0),
        ("submit-404", 0),
        ("submit-429", 0),
    ] {
        let call_id = format!("{name}~taken");
        play.submit(&call_id).await;
        assert_eq!(play.vendor.accepted_submits(&id(&call_id)), taken, "{name}");
        assert_eq!(play.vendor.submits(&id(&call_id)), 1, "{name}");
        if taken == 0 && name != "redirect" {
            assert_eq!(play.poll(&call_id).await, "404 error", "{name}");
        }
    }
}

#[tokio::test]
async fn a_hanging_request_is_accepted_or_not_and_never_answered() {
    for (method, call_id, taken) in [
        ("callsendai", "submit-hang~1", 1),
        ("callsendai", "submit-hang-lost~1", 0),
        ("callgetairesult", "known-hang~1", 0),
    ] {
        let play = Play::start().await;
        let mut stream = play.raw(method, call_id).await;
        play.vendor.wait_for(|requests| requests.len() == 1).await;
        assert_eq!(play.vendor.accepted_submits(&id(call_id)), taken, "{call_id}");
        play.vendor.stop().await;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty(), "{call_id}");
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_and_not_a_close() {
    let play = Play::start().await;
    let mut stream = play.raw("callsendai", "submit-reset~1").await;
    let error = stream.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn oversized_answers_do_not_end() {
    let play = Play::start().await;
    for call_id in ["known-huge~1", "known-gzip-bomb~1"] {
        let mut response = play.get("callgetairesult", call_id).await;
        let mut unpacked = 0;
        while unpacked < ENOUGH_BYTES {
            unpacked += response.chunk().await.unwrap().unwrap().len();
        }
        drop(response);
        play.poll_past_fault(call_id).await;
    }
    let mut response = play.get("callgetairesult", "known-drip~1").await;
    for _ in 0..2 {
        assert_eq!(response.chunk().await.unwrap().unwrap(), " ");
    }
}

#[tokio::test]
async fn a_truncated_answer_announces_more_than_it_has() {
    let play = Play::start().await;
    let mut stream = play.raw("callgetairesult", "known-truncated~1").await;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    // The cut may be inside a character.
    let answer = String::from_utf8_lossy(&bytes);
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let announced: usize =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
    assert!(bytes.len() - head.len() - 4 < announced);
}

#[tokio::test]
async fn a_redirect_leads_to_another_host_that_records_requests() {
    let play = Play::start().await;
    let response = play.get("callsendai", "redirect~1").await;
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    assert!(location.starts_with("http://localhost:"), "{location}");
    let path = location.split_once("/elsewhere").unwrap().1;
    let here = play.vendor.base_url().join(&format!("elsewhere{path}")).unwrap();
    play.client.get(here).send().await.unwrap();
    assert_eq!(play.vendor.calls().last().unwrap().operation, Operation::OtherHost);
}

#[tokio::test]
async fn every_temporary_fault_of_submits_ends() {
    let play = Play::start().await;
    let hanging = [Behaviour::SubmitHang, Behaviour::SubmitHangLost];
    for behaviour in Behaviour::ALL.iter().filter(|behaviour| !hanging.contains(behaviour)) {
        let call_id = behaviour.call_id("last").unwrap();
        for _ in 0..2 {
            play.submit(call_id.as_str()).await;
        }
        assert_eq!(play.submit(call_id.as_str()).await, "200 head", "{behaviour:?}");
    }
}

impl Play {
    /// Sends the second faulty poll without reading its answer; the third poll succeeds.
    async fn poll_past_fault(&self, call_id: &str) {
        drop(self.get("callgetairesult", call_id).await);
        assert_eq!(self.poll(call_id).await, "200 finished", "{call_id}");
    }
}
