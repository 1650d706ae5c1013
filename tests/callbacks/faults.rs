//! Receivers that send invalid answers or none.

use std::sync::Arc;

use alovoice_gateway::callbacks::Lookup;
use tokio::sync::Notify;

use super::*;

const fn failed(error: TransportError) -> AttemptOutcome {
    AttemptOutcome::Failed { error }
}

async fn attempt(settings: &CallbackSettings, then: Then) -> Sent {
    let receiver = Receiver::start(then).await;
    send(&Sender::new(settings, &network()).unwrap(), &receiver.url("/hook")).await
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_a_timeout() {
    for begin in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"] {
        let sent = attempt(&impatient(), Then::Stall(begin.into())).await;
        assert_eq!((sent.outcome, sent.status), (failed(TransportError::Timeout), None), "{begin:?}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_change_the_outcome() {
    let settings = settings();
    let attempt = |status| {
        let head = format!("HTTP/1.1 {status} Any\r\ncontent-length: 100\r\n\r\nso far");
        attempt(&settings, Then::Stall(head.into()))
    };
    let (ok, gone, error) = tokio::join!(attempt(200), attempt(410), attempt(500));
    assert_eq!(ok.outcome, AttemptOutcome::Delivered { status: 200 });
    assert_eq!(gone.outcome, AttemptOutcome::Gone);
    assert_eq!(error.outcome, AttemptOutcome::Refused { status: 500, retry_after: None });
    assert!([ok, gone, error].iter().all(|sent| sent.response == b"so far"));
}

#[tokio::test]
async fn a_connection_closed_early_counts_as_answered_if_the_status_arrived() {
    for begin in ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\n"] {
        let sent = attempt(&settings(), Then::Close(begin.into())).await;
        assert_eq!(sent.outcome, failed(TransportError::Closed), "{begin:?}");
    }
    let head = "HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\nhalf";
    let sent = attempt(&settings(), Then::Close(head.into())).await;
    assert_eq!(sent.outcome, AttemptOutcome::Delivered { status: 202 });
    assert_eq!(sent.response, b"half");
}

async fn judged(settings: &CallbackSettings, then: Then, preset: &str) -> Sent {
    let receiver = Receiver::start(then).await;
    let sender = Sender::new(settings, &network()).unwrap();
    send_judged(&sender, &receiver.url("/hook"), Some(preset)).await
}

#[tokio::test]
async fn a_preset_waits_for_the_body_that_it_judges() {
    let (body, signal) = (r#"{"error": "ERROR_ARGUMENT"}"#, Arc::new(Notify::new()));
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let then = Then::Later(head.clone().into(), Arc::clone(&signal), body.into());
    let mut receiver = Receiver::start(then).await;
    let (sender, url) = (Sender::new(&settings(), &network()).unwrap(), receiver.url("/hook"));
    let send_body = async {
        receiver.request().await;
        // This attempt ends when the time for a body that no preset judges is over.
        let unjudged = attempt(&settings(), Then::Stall(head.into())).await;
        assert_eq!(unjudged.outcome, AttemptOutcome::Delivered { status: 200 });
        signal.notify_one();
    };
    let (sent, ()) = tokio::join!(send_judged(&sender, &url, Some("bitrix24.transcript")), send_body);
    let reason = "Bitrix24 answered ERROR_ARGUMENT".to_owned();
    assert_eq!(sent.outcome, AttemptOutcome::Rejected { status: 200, reason });
}

#[tokio::test]
async fn an_answer_whose_judged_body_is_cut_has_an_unknown_outcome() {
    let cut = |status| format!("HTTP/1.1 {status} Any\r\ncontent-length: 100\r\n\r\nhalf").into_bytes();
    for preset in ["bitrix24.comment", "amocrm.call", "telegram.message"] {
        let closed = judged(&settings(), Then::Close(cut(200)), preset).await;
        assert_eq!(closed.outcome, failed(TransportError::Closed), "{preset}");
        assert_eq!((closed.status, closed.is_written), (Some(200), true), "{preset}");
        assert_eq!(closed.response, b"half");
        let stalled = judged(&impatient(), Then::Stall(cut(200)), preset).await;
        assert_eq!(stalled.outcome, failed(TransportError::Timeout), "{preset}");
        let refused = judged(&settings(), Then::Close(cut(400)), preset).await;
        assert_eq!(refused.outcome, AttemptOutcome::Refused { status: 400, retry_after: None }, "{preset}");
    }
    let by_status = judged(&settings(), Then::Close(cut(200)), "zendesk.comment").await;
    assert_eq!(by_status.outcome, AttemptOutcome::Delivered { status: 200 });
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_protocol_fault() {
    let sent = attempt(&settings(), Then::Answer("SSH-2.0-OpenSSH_9.6\r\n\r\n".into())).await;
    assert_eq!(sent.outcome, failed(TransportError::Protocol));
}

#[tokio::test]
async fn a_closed_port_is_a_connect_fault() {
    let closed = closed_port();
    let url = format!("http://{}/hook", closed.local_addr().unwrap());
    let sent = send(&Sender::new(&settings(), &network()).unwrap(), &url).await;
    assert_eq!(sent.outcome, failed(TransportError::Refused));
}

#[tokio::test]
async fn a_receiver_without_tls_is_a_tls_fault() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/hook", listener.local_addr().unwrap());
    for (answer, error) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), TransportError::NoTls),
        (b"", TransportError::TlsHandshake),
    ] {
        let receiver = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Read first: closing with unread bytes would reset the connection instead of ending it.
            let mut hello = vec![0; 16 * 1024];
            tokio::io::AsyncReadExt::read(&mut stream, &mut hello).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        };
        let sender = Sender::new(&settings(), &network()).unwrap();
        let (sent, ()) = tokio::join!(send(&sender, &url), receiver);
        assert_eq!(sent.outcome, failed(error), "{answer:?}");
    }
}

#[tokio::test]
async fn four_kibibytes_of_an_endless_body_are_kept() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"] {
        let sent = attempt(&settings(), Then::Repeat(head.into(), vec![b'x'; 1000])).await;
        assert_eq!(sent.outcome, AttemptOutcome::Delivered { status: 200 });
        assert_eq!(sent.response, vec![b'x'; 4096]);
    }
}

#[tokio::test]
async fn an_endless_head_is_a_fault() {
    let sent = attempt(&settings(), Then::Repeat("HTTP/1.1 200 OK\r\nx: ".into(), vec![b'x'; 1000])).await;
    assert_eq!(sent.outcome, failed(TransportError::Protocol));
}

#[tokio::test]
async fn a_compressed_answer_is_kept_compressed() {
    let body = b"\x1f\x8b\x08 and no gzip after all";
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len())
            .into_bytes();
    answer.extend(body);
    let sent = attempt(&settings(), Then::Answer(answer)).await;
    assert_eq!(sent.outcome, AttemptOutcome::Delivered { status: 200 });
    assert_eq!(sent.response, body);
}

#[tokio::test]
async fn headers_and_bodies_may_be_any_bytes() {
    let mut answer =
        b"HTTP/1.1 503 \xff\xfe\r\nretry-after: \xd0\xbf\xff\r\nx-\x6eame: \x80\r\ncontent-length: 2\r\n\r\n"
            .to_vec();
    answer.extend([0xff, 0x00]);
    let sent = attempt(&settings(), Then::Answer(answer)).await;
    assert_eq!(sent.outcome, AttemptOutcome::Refused { status: 503, retry_after: None });
    assert_eq!(sent.response, [0xff, 0x00]);
}

/// The answer is stored without decompression, so it cannot exceed its bound.
#[tokio::test]
async fn the_first_bytes_of_a_gzip_bomb_are_kept() {
    // A stream of zeros: every 1,000 bytes on the wire decompress to a million.
    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    bomb.extend(std::iter::repeat_n(0x00, 990));
    for coding in ["gzip", "br", "deflate", "zstd"] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\n\r\n");
        let sent = attempt(&settings(), Then::Repeat(head.into(), bomb.clone())).await;
        assert_eq!(sent.outcome, AttemptOutcome::Delivered { status: 200 });
        assert_eq!(sent.response, bomb.iter().copied().cycle().take(4096).collect::<Vec<_>>());
    }
}

/// One deadline covers the whole attempt, even if bytes keep arriving.
#[tokio::test]
async fn a_slow_answer_does_not_extend_the_deadline() {
    let head = Then::Drip("HTTP/1.1 200 OK\r\nx: ".into(), "x".into());
    let sent = attempt(&impatient(), head).await;
    assert_eq!((sent.outcome, sent.status), (failed(TransportError::Timeout), None));
    // After the head, the time limit of the body ends the attempt.
    let sent = attempt(&settings(), Then::Drip("HTTP/1.1 503 Any\r\n\r\n".into(), "x".into())).await;
    assert_eq!(sent.outcome, AttemptOutcome::Refused { status: 503, retry_after: None });
    assert!(sent.response.iter().all(|byte| *byte == b'x') && sent.response.len() < 4096);
}

/// A resolver that fails with the text of an operating system.
struct FailingLookup(&'static str);

#[async_trait::async_trait]
impl Lookup for FailingLookup {
    async fn lookup(&self, _: &str) -> std::io::Result<Vec<std::net::IpAddr>> {
        Err(std::io::Error::other(format!("failed to lookup address information: {}", self.0)))
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_distinguished_from_a_broken_name_server() {
    for (text, error) in [
        // glibc, then musl.
        ("Name or service not known", TransportError::UnknownHost),
        ("No address associated with hostname", TransportError::UnknownHost),
        ("Temporary failure in name resolution", TransportError::NameServer),
        ("Non-recoverable failure in name resolution", TransportError::NameServer),
        ("Name does not resolve", TransportError::UnknownHost),
        ("Try again", TransportError::NameServer),
        ("Unrecoverable error", TransportError::NameServer),
    ] {
        let lookup = std::sync::Arc::new(FailingLookup(text));
        let sender = Sender::with_lookup(&settings(), &network(), lookup).unwrap();
        let outcome = send(&sender, "https://crm.test/hook").await.outcome;
        assert_eq!((outcome.label(), outcome), ("dns", AttemptOutcome::Failed { error }), "{text}");
    }
}
