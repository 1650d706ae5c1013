//! Corporate networks: forward proxies, certificate authorities, and the reasons of failed connections.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use alovoice_gateway::sandbox::stand_in::VendorOptions;
use reqwest::StatusCode;
use serde_json::Value;

use crate::forward_proxy::{ForwardProxy, Policy};
use crate::gateway::{Serving, within};
use crate::peers::run_patiently;
use crate::stage::Stage;
use crate::tls_server::{Authority, Identity, serve};

/// `Proxy-Authorization` of the user `gateway` with the password `pass-s3cr3t`.
const CREDENTIALS: &str = "Basic Z2F0ZXdheTpwYXNzLXMzY3IzdA==";

fn address_of(stage: &Stage) -> SocketAddr {
    stage.vendor.base_url().socket_addrs(|| None).unwrap()[0]
}

/// Puts TLS with this identity before the vendor stand-in, and returns the address.
fn with_tls(stage: &Stage, identity: Identity) -> SocketAddr {
    let vendor = address_of(stage);
    serve(identity, move |request| forwarded(request, vendor))
}

/// Sends a request without a body to the vendor stand-in, and returns its answer as the last one of the connection.
fn forwarded(request: &[u8], to: SocketAddr) -> Vec<u8> {
    let mut upstream = TcpStream::connect(to).unwrap();
    upstream.write_all(request).unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let length = upstream.read(&mut part).unwrap();
        answer.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        // A 304 has no body.
        let expected = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        if body.len() >= expected.parse::<usize>().unwrap() || length == 0 {
            let line = answer.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            answer.splice(line..line, b"connection: close\r\n".iter().copied());
            return answer;
        }
    }
}

/// Starts a server without TLS that answers everything with 400.
fn plain() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The whole first message of the handshake, so that the close does not reset the connection.
            let _ = stream.read(&mut [0; 16 * 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    address
}

fn proxy_url(proxy: &ForwardProxy) -> String {
    format!("http://gateway:pass-s3cr3t@{}", proxy.address)
}

/// An address where no server listens.
const CLOSED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

async fn serving(stage: &Stage, command: Command) -> Serving {
    Serving::start(command, &stage.client).await
}

/// Waits for the `last_error` of a call. On a busy machine, the vendor may seem slow first.
async fn last_error(stage: &Stage, gateway: &Serving, call_id: &str) -> Value {
    let appears = async {
        loop {
            let error = stage.analysis(gateway, call_id).await["last_error"].take();
            if error["detail"].as_str().is_some_and(|detail| !detail.contains(" in time")) {
                return error;
            }
        }
    };
    within("last_error", appears).await
}

#[tokio::test]
async fn the_vendor_is_reached_through_a_proxy_of_the_environment() {
    let mut stage = Stage::set_up().await;
    let authority = Authority::new();
    let vendor = with_tls(&stage, authority.identity("vendor.test"));
    let proxy = ForwardProxy::start(Policy::Authenticated(CREDENTIALS), vendor).await;
    stage.set("VENDOR__BASE_URL", "https://vendor.test");
    stage.set_file("NETWORK__CA_FILE", &authority.pem);
    let mut command = stage.command(&["serve"]);
    command.env("HTTPS_PROXY", proxy_url(&proxy)).env("HTTP_PROXY", proxy_url(&proxy));
    let gateway = serving(&stage, command).await;
    assert_eq!(stage.get(&gateway, "known-1", "").await.status(), StatusCode::OK);
    assert!(!proxy.lines().is_empty());
    // The callback goes to its receiver directly, although the proxy is also for http:// URLs.
    assert_eq!(stage.submit(&gateway, "known-1").await.unwrap().status(), StatusCode::OK);
    gateway.process.stderr.line("the delivery", |line| line.contains("callback delivered")).await;
    let is_to_vendor = |line: &String| line == "CONNECT vendor.test:443 HTTP/1.1";
    assert!(proxy.lines().iter().all(is_to_vendor), "{:?}", proxy.lines());
    gateway.process.terminate();
    let log = gateway.process.stderr.whole().await;
    assert!(log.contains("forward proxy in use") && log.contains(&proxy.address.to_string()), "{log}");
    assert!(!log.contains("s3cr3t") && !log.contains("Z2F0ZXdheTp"), "{log}");
}

#[tokio::test]
async fn no_proxy_names_the_hosts_that_are_reached_directly() {
    let mut stage = Stage::set_up().await;
    let vendor = address_of(&stage);
    let proxy = ForwardProxy::start(Policy::Forbidding, vendor).await;
    stage.set("NETWORK__HTTP_PROXY", &proxy_url(&proxy));
    for (name, hosts) in [
        ("NO_PROXY", "localhost,127.0.0.0/8".to_owned()),
        ("no_proxy", format!("localhost,, .svc {vendor},")),
        ("NO_PROXY", "*".to_owned()),
    ] {
        let mut command = stage.command(&["serve"]);
        command.env(name, &hosts);
        let gateway = serving(&stage, command).await;
        assert_eq!(stage.get(&gateway, "known-1", "").await.status(), StatusCode::OK, "{hosts}");
        assert!(proxy.lines().is_empty(), "{hosts}");
        gateway.stop().await;
    }
    let mut command = stage.command(&["serve"]);
    command.env("NO_PROXY", format!("localhost,127.0.0.1:{}", CLOSED.port()));
    let gateway = serving(&stage, command).await;
    assert_eq!(stage.submit(&gateway, "another-port").await.unwrap().status(), StatusCode::ACCEPTED);
    last_error(&stage, &gateway, "another-port").await;
    assert!(!proxy.lines().is_empty(), "the entry is for another port");
    gateway.kill();
}

/// A refusal by the proxy does not count as a refusal by the vendor. The work waits until the proxy forwards again.
#[tokio::test]
async fn work_waits_while_the_proxy_refuses() {
    let mut stage = Stage::set_up().await;
    let authority = Authority::new();
    let vendor = with_tls(&stage, authority.identity("vendor.test"));
    stage.set_file("NETWORK__CA_FILE", &authority.pem);
    // Through a tunnel, and through a proxy that sees the request.
    for (base_url, server) in [("https://vendor.test", vendor), ("http://vendor.test", address_of(&stage))] {
        let proxy = ForwardProxy::start(Policy::Authenticated("Basic b3RoZXI="), server).await;
        let call_id = if base_url.starts_with("https") { "tunnel-1" } else { "plain-1" };
        stage.set("VENDOR__BASE_URL", base_url);
        stage.set("NETWORK__HTTPS_PROXY", &proxy_url(&proxy));
        stage.set("NETWORK__HTTP_PROXY", &proxy_url(&proxy));
        let gateway = stage.serve().await;
        assert_eq!(stage.submit(&gateway, call_id).await.unwrap().status(), StatusCode::ACCEPTED);
        let error = last_error(&stage, &gateway, call_id).await;
        assert_eq!(error["code"], "vendor_unreachable");
        let detail = error["detail"].as_str().unwrap();
        assert!(detail.contains("the proxy requires a valid user name and password (407)"), "{detail}");
        proxy.set(Policy::Authenticated(CREDENTIALS));
        stage.completed(&gateway, call_id).await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn the_log_and_last_error_say_why_the_vendor_cannot_be_reached() {
    let mut stage = Stage::set_up().await;
    let (authority, other) = (Authority::new(), Authority::new());
    stage.set_file("NETWORK__CA_FILE", &authority.pem);
    let over_tls = |address: SocketAddr| format!("https://{address}");
    let base_urls = [
        (over_tls(with_tls(&stage, authority.expired())), "certificate has expired"),
        (over_tls(with_tls(&stage, authority.not_yet_valid())), "certificate is not valid yet"),
        (
            over_tls(with_tls(&stage, authority.identity("elsewhere.test"))),
            "certificate is for another host name",
        ),
        (over_tls(with_tls(&stage, other.identity("127.0.0.1"))), "certificate is from an unknown authority"),
        (over_tls(with_tls(&stage, Identity::self_signed(true))), "certificate is self-signed"),
        (over_tls(plain()), "does not speak TLS"),
        (format!("http://{CLOSED}"), "the connection was refused"),
    ];
    for (number, (base_url, reason)) in base_urls.iter().enumerate() {
        stage.set("VENDOR__BASE_URL", base_url);
        let gateway = stage.serve().await;
        let call_id = format!("why-{number}");
        assert_eq!(stage.submit(&gateway, &call_id).await.unwrap().status(), StatusCode::ACCEPTED);
        let error = last_error(&stage, &gateway, &call_id).await;
        let detail = error["detail"].as_str().unwrap();
        assert!(detail.starts_with("cannot connect to the vendor: ") && detail.contains(reason), "{detail}");
        let line = gateway
            .process
            .stderr
            .line(reason, |line| line.contains("vendor request failed") && line.contains(reason));
        assert!(!line.await.contains(VendorOptions::TOKEN), "the token is in no error");
        gateway.kill();
    }
}

/// An outage of the vendor does not prevent a start. An invalid certificate or a refusal by the proxy needs an operator.
#[tokio::test]
async fn check_says_why_the_vendor_cannot_be_reached() {
    let mut stage = Stage::set_up().await;
    let authority = Authority::new();
    stage.set_file("NETWORK__CA_FILE", &authority.pem);
    let over_tls = |address: SocketAddr| format!("https://{address}/");
    let valid = with_tls(&stage, authority.identity("127.0.0.1"));
    let refusing = ForwardProxy::start(Policy::Authenticated("Basic b3RoZXI="), valid).await;
    for (base_url, proxy, code, report) in [
        (over_tls(valid), None, 0, ""),
        (over_tls(serve(authority.expired(), |_| Vec::new())), None, 1, "the TLS certificate has expired"),
        (over_tls(plain()), None, 1, "the server does not speak TLS on this port"),
        (over_tls(CLOSED), None, 0, "the connection was refused"),
        (
            "https://vendor.test/".to_owned(),
            Some(proxy_url(&refusing)),
            1,
            "the proxy requires a valid user name and password (407)",
        ),
    ] {
        stage.set("VENDOR__BASE_URL", &base_url);
        let command = || {
            let mut command = stage.command(&["check"]);
            command.envs(proxy.as_ref().map(|proxy| ("HTTPS_PROXY", proxy)));
            command
        };
        let output = run_patiently(command).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{message}");
        let prefix = if code == 0 { "warning: " } else { "" };
        let expected = format!("{prefix}vendor.base_url: cannot connect to {base_url}: {report}\n");
        assert_eq!(message, if report.is_empty() { String::new() } else { expected });
        assert!(!message.contains("s3cr3t"), "{message}");
    }
    // Without the file of authorities, the connection would fail for that reason.
    stage.set("VENDOR__BASE_URL", &over_tls(valid));
    stage.set("NETWORK__CA_FILE", "/no/such/ca.pem");
    let output = run_patiently(|| stage.command(&["check"])).await;
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), message.lines().count()), (Some(2), 1), "{message}");
    assert!(message.starts_with("network.ca_file: "), "{message}");
}

#[tokio::test]
async fn check_says_why_the_keys_of_an_issuer_cannot_be_fetched() {
    let mut stage = Stage::set_up().await;
    let authority = Authority::new();
    let expired = serve(authority.expired(), |_| Vec::new());
    let missing = serve(authority.identity("127.0.0.1"), |_| {
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec()
    });
    stage.set_file("NETWORK__CA_FILE", &authority.pem);
    stage.unset("AUTH__ISSUERS__0__HMAC_SECRET_FILE");
    stage.set("AUTH__ISSUERS__0__ALGORITHMS", "RS256");
    for (address, reason) in [
        (expired, "the TLS certificate has expired"),
        (missing, "the JWKS URL answered with status 404"),
        (CLOSED, "the connection was refused"),
    ] {
        let url = format!("https://{address}/keys");
        stage.set("AUTH__ISSUERS__0__JWKS_URL", &format!("{url}?key=s3cr3t"));
        let output = run_patiently(|| stage.command(&["check"])).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        let expected = format!("auth.issuers[0].jwks_url: issuer https://issuer.test, {url}: ");
        assert!(message.starts_with(&expected) && message.contains(reason), "{message}");
        assert!(!message.contains("s3cr3t"), "{message}");
    }
}
