//! Callbacks and forward proxies.

use super::forward_proxy::{ForwardProxy, Policy};
use super::ssrf::{Names, assert_forbidden_name};
use super::*;

/// `Proxy-Authorization` of the user `gateway` with the password `s3cr3t`.
const CREDENTIALS: &str = "Basic Z2F0ZXdheTpzM2NyM3Q=";

async fn receiver() -> Receiver {
    Receiver::start(Then::Answer("HTTP/1.1 204 Taken\r\n\r\n".into())).await
}

/// Connections through a proxy for http:// URLs.
fn through(proxy: &ForwardProxy, proxy_callbacks: bool) -> Network {
    let url = format!("http://gateway:s3cr3t@{}", proxy.address).parse().ok();
    let no_proxy = vec!["direct.test".to_owned(), "127.0.0.0/8".to_owned()];
    let settings = NetworkSettings {
        https_proxy: url.clone(),
        http_proxy: url,
        no_proxy,
        proxy_callbacks,
        ca_file: None,
    };
    assert!(settings.http_proxy.is_some() && !format!("{settings:?}").contains("s3cr3t"), "{settings:?}");
    Network::new(&settings).unwrap()
}

#[tokio::test]
async fn callbacks_use_a_proxy_only_if_the_settings_say_so() {
    let mut receiver = receiver().await;
    let proxy = ForwardProxy::start(Policy::Authenticated(CREDENTIALS), receiver.address).await;
    // Names that only the proxy resolves.
    let names = Names::new("unused", &[]);
    let url = "http://crm.test/hook";
    let direct = Sender::with_lookup(&settings(), &through(&proxy, false), names.clone()).unwrap();
    let unknown = AttemptOutcome::Failed { error: TransportError::UnknownHost };
    assert_eq!(send(&direct, url).await.outcome, unknown);
    assert!(proxy.lines().is_empty());

    let proxied = Sender::with_lookup(&settings(), &through(&proxy, true), names.clone()).unwrap();
    assert_eq!(send(&proxied, url).await.outcome, AttemptOutcome::Delivered { status: 204 });
    assert_eq!(proxy.lines(), ["POST http://crm.test/hook HTTP/1.1"]);
    assert!(!receiver.request().await.has_header("proxy-authorization"));
    // In no_proxy: the gateway connects itself.
    assert_eq!(send(&proxied, "http://direct.test/hook").await.outcome, unknown);
    assert_eq!(proxy.lines().len(), 1);
}

#[tokio::test]
async fn the_guard_checks_names_that_go_through_a_proxy() {
    let mut receiver = receiver().await;
    let proxy = ForwardProxy::start(Policy::Authenticated(CREDENTIALS), receiver.address).await;
    let names = Names::new("wiki.test", &[&["10.0.0.5"]]);
    let sender = Sender::with_lookup(&settings(), &through(&proxy, true), names.clone()).unwrap();
    assert_forbidden_name(&send(&sender, "http://wiki.test/hook").await);
    assert_eq!(names.asked(), ["wiki.test"]);
    assert!(proxy.lines().is_empty() && receiver.is_untouched());
}

#[tokio::test]
async fn each_fault_of_a_proxy_has_its_own_reason() {
    let receiver = receiver().await;
    let proxy = ForwardProxy::start(Policy::Forbidding, receiver.address).await;
    let sender = Sender::with_lookup(&settings(), &through(&proxy, true), Names::new("unused", &[])).unwrap();
    for (policy, error) in [
        (Policy::Forbidding, TransportError::ProxyRefused),
        (Policy::Closing, TransportError::ProxyRefused),
        (Policy::Authenticated("Basic b3RoZXI="), TransportError::ProxyAuthentication),
    ] {
        proxy.set(policy);
        let outcome = send(&sender, "https://crm.test/hook").await.outcome;
        assert_eq!((outcome.label(), outcome), ("proxy", AttemptOutcome::Failed { error }));
    }
    assert_eq!(proxy.lines()[0], "CONNECT crm.test:443 HTTP/1.1");
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_says_so() {
    let receiver = receiver().await;
    let closed = closed_port();
    let mut proxy = ForwardProxy::start(Policy::Open, receiver.address).await;
    proxy.address = closed.local_addr().unwrap();
    let sender = Sender::with_lookup(&settings(), &through(&proxy, true), Names::new("unused", &[])).unwrap();
    for url in ["https://crm.test/hook", "http://crm.test/hook"] {
        let unreachable = AttemptOutcome::Failed { error: TransportError::ProxyUnreachable };
        assert_eq!(send(&sender, url).await.outcome, unreachable, "{url}");
    }
}
