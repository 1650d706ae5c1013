//! Receivers with internal addresses are refused, however the URL names them.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use alovoice_gateway::callbacks::Lookup;

use super::*;

/// A resolver with fixed answers. Each lookup of a name returns its next answer.
#[derive(Default)]
pub(crate) struct Names {
    answers: Mutex<HashMap<&'static str, Vec<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn new(name: &'static str, answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        // In reverse order, so that `pop` returns the next answer.
        let answers = answers.iter().rev().map(parse).collect();
        Arc::new(Self { answers: Mutex::new(HashMap::from([(name, answers)])), asked: Mutex::default() })
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Lookup for Names {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut answers = self.answers.lock().unwrap();
        answers.get_mut(name).and_then(Vec::pop).ok_or_else(|| io::Error::other("no such name"))
    }
}

/// A receiver on this machine, which the settings allow.
async fn receiver() -> Receiver {
    Receiver::start(Then::Answer("HTTP/1.1 204 Taken\r\n\r\n".into())).await
}

#[track_caller]
fn assert_forbidden(sent: &Sent, kind: &str) {
    let AttemptOutcome::Forbidden { detail } = &sent.outcome else { panic!("{:?}", sent.outcome) };
    assert!(detail.contains(kind), "{detail}");
    assert_eq!((sent.status, sent.response.len()), (None, 0));
}

/// The detail does not tell the caller what kind of address the name has.
#[track_caller]
pub(crate) fn assert_forbidden_name(sent: &Sent) {
    assert_forbidden(sent, "must be public");
    let AttemptOutcome::Forbidden { detail } = &sent.outcome else { panic!("{:?}", sent.outcome) };
    assert_eq!(detail, "the host's address must be public, but it is not");
}

#[tokio::test]
async fn one_forbidden_address_refuses_the_name() {
    for addresses in [
        ["127.0.0.1", "10.0.0.5"],
        ["169.254.169.254", "127.0.0.1"],
        ["127.0.0.1", "::ffff:192.168.0.1"],
        ["127.0.0.1", "64:ff9b::a9fe:a9fe"],
        ["127.0.0.1", "fd00::1"],
    ] {
        let mut receiver = receiver().await;
        let names = Names::new("crm.example.uz", &[&addresses]);
        let sender = Sender::with_lookup(&settings(), &network(), names.clone()).unwrap();
        let url = format!("http://crm.example.uz:{}/hook", receiver.address.port());
        assert_forbidden_name(&send(&sender, &url).await);
        assert!(receiver.is_untouched(), "{addresses:?}");
        assert_eq!(names.asked(), ["crm.example.uz"]);
    }
}

#[tokio::test]
async fn the_client_connects_to_the_checked_address() {
    let receiver = receiver().await;
    // The second lookup returns an internal address.
    let names = Names::new("crm.example.uz", &[&["127.0.0.1"], &["10.0.0.5"]]);
    let sender = Sender::with_lookup(&settings(), &network(), names.clone()).unwrap();
    let url = format!("http://crm.example.uz:{}/hook", receiver.address.port());
    assert_eq!(send(&sender, &url).await.outcome, AttemptOutcome::Delivered { status: 204 });
    assert_eq!(names.asked(), ["crm.example.uz"]);
    // The next attempt uses the open connection to the checked address.
    assert_eq!(send(&sender, &url).await.outcome, AttemptOutcome::Delivered { status: 204 });
    assert_eq!((names.asked().len(), receiver.connections()), (1, 1));
    // A new connection causes a new lookup and a new check.
    let port = receiver.address.port().wrapping_add(1);
    assert_forbidden_name(&send(&sender, &format!("http://crm.example.uz:{port}/hook")).await);
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_literal_address_is_refused_in_every_spelling() {
    let mut receiver = receiver().await;
    let nothing_inside = CallbackSettings { allow_networks: Vec::new(), ..settings() };
    let names = Names::new("unused", &[]);
    let sender = Sender::with_lookup(&nothing_inside, &network(), names.clone()).unwrap();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.1",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "a.localhost",
    ] {
        let url = format!("http://{host}:{}/hook", receiver.address.port());
        assert_forbidden(&send(&sender, &url).await, "loopback");
    }
    assert!(receiver.is_untouched());
    assert!(names.asked().is_empty());
}

#[tokio::test]
async fn http_is_refused_unless_allowed() {
    let mut receiver = receiver().await;
    let sender = Sender::new(&CallbackSettings { allow_http: false, ..settings() }, &network()).unwrap();
    assert_forbidden(&send(&sender, &receiver.url("/hook")).await, "must use https");
    assert!(receiver.is_untouched());
}

#[tokio::test]
async fn a_name_without_addresses_is_a_dns_fault() {
    let names = Names::new("empty.example.uz", &[&[]]);
    let sender = Sender::with_lookup(&settings(), &network(), names).unwrap();
    for name in ["empty.example.uz", "unknown.example.uz"] {
        let sent = send(&sender, &format!("http://{name}/hook")).await;
        assert_eq!(sent.outcome, AttemptOutcome::Failed { error: TransportError::UnknownHost });
    }
}

#[tokio::test]
async fn a_lookup_that_never_ends_is_a_timeout() {
    struct Never;

    #[async_trait::async_trait]
    impl Lookup for Never {
        async fn lookup(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
            std::future::pending().await
        }
    }

    let sender = Sender::with_lookup(&impatient(), &network(), Arc::new(Never)).unwrap();
    let sent = send(&sender, "http://crm.example.uz/hook").await;
    assert_eq!(sent.outcome, AttemptOutcome::Failed { error: TransportError::Timeout });
}
