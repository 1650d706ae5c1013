//! SOCKS proxies: name resolution, credentials, and the reason of each failure.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::ssrf::Names;
use super::*;

/// No authentication (RFC 1928, 3).
const NO_AUTHENTICATION: &[u8] = &[5, 0];
/// User name and password.
const USER_AND_PASSWORD: &[u8] = &[5, 2];
const NO_METHOD: &[u8] = &[5, 0xff];
/// The proxy has connected (RFC 1928, 6).
const CONNECTED: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

/// A SOCKS5 proxy with fixed replies. After the last one it forwards to one server.
struct SocksProxy {
    address: SocketAddr,
    messages: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl SocksProxy {
    async fn start(replies: &[&'static [u8]], server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let messages: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (seen, replies) = (Arc::clone(&messages), replies.to_vec());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                for reply in &replies {
                    let mut message = vec![0; 512];
                    let length = client.read(&mut message).await.unwrap();
                    message.truncate(length);
                    seen.lock().unwrap().push(message);
                    client.write_all(reply).await.unwrap();
                }
                let mut server = TcpStream::connect(server).await.unwrap();
                // A client that was refused has closed its connection.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
        Self { address, messages }
    }

    /// The message with this number.
    fn message(&self, number: usize) -> Vec<u8> {
        self.messages.lock().unwrap()[number].clone()
    }

    /// A sender of callbacks through the proxy.
    fn sender(&self, scheme: &str, user: &str) -> Sender {
        let url = format!("{scheme}://{user}{}", self.address).parse().ok();
        assert!(url.is_some());
        let settings_of_network = NetworkSettings {
            https_proxy: url.clone(),
            http_proxy: url,
            proxy_callbacks: true,
            ..NetworkSettings::default()
        };
        let network = Network::new(&settings_of_network).unwrap();
        Sender::with_lookup(&settings(), &network, Names::new("unused", &[])).unwrap()
    }
}

async fn receiver() -> Receiver {
    Receiver::start(Then::Answer("HTTP/1.1 204 Taken\r\n\r\n".into())).await
}

#[tokio::test]
async fn with_socks5h_the_proxy_resolves_names_and_with_socks5_the_gateway() {
    let receiver = receiver().await;
    let delivered = AttemptOutcome::Delivered { status: 204 };
    let proxy = SocksProxy::start(&[NO_AUTHENTICATION, CONNECTED], receiver.address).await;
    assert_eq!(send(&proxy.sender("socks5h", ""), "http://crm.test/hook").await.outcome, delivered);
    // Address type 3 is a name (RFC 1928, 5).
    assert_eq!(proxy.message(1), [&[5, 1, 0, 3, 8][..], b"crm.test", &[0, 80]].concat());

    let proxy = SocksProxy::start(&[NO_AUTHENTICATION, CONNECTED], receiver.address).await;
    let url = receiver.url("/hook");
    assert_eq!(send(&proxy.sender("socks5", ""), &url).await.outcome, delivered);
    let port = receiver.address.port().to_be_bytes();
    assert_eq!(proxy.message(1), [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port].concat());
    let outcome = send(&proxy.sender("socks5", ""), "http://crm.invalid/hook").await.outcome;
    assert_eq!(outcome.label(), "dns", "{outcome:?}");
}

#[tokio::test]
async fn a_socks_proxy_gets_the_user_name_and_the_password() {
    let receiver = receiver().await;
    let proxy = SocksProxy::start(&[USER_AND_PASSWORD, &[1, 0], CONNECTED], receiver.address).await;
    let outcome = send(&proxy.sender("socks5h", "gateway:p@ss:w%23@"), "http://crm.test/hook").await.outcome;
    assert_eq!(outcome, AttemptOutcome::Delivered { status: 204 });
    assert_eq!(proxy.message(1), [&[1, 7][..], b"gateway", &[7], b"p@ss:w#"].concat()[..]);
}

#[tokio::test]
async fn each_fault_of_a_socks_proxy_has_its_own_reason() {
    let receiver = receiver().await;
    // The proxy's reply "connection refused".
    const REFUSED: &[u8] = &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0];
    let cases: [(&str, &[&'static [u8]], TransportError); 3] = [
        ("", &[NO_METHOD], TransportError::ProxyAuthentication),
        ("gateway:wrong@", &[USER_AND_PASSWORD, &[1, 1]], TransportError::ProxyAuthentication),
        ("", &[NO_AUTHENTICATION, REFUSED], TransportError::ProxyRefused),
    ];
    for (user, replies, error) in cases {
        let proxy = SocksProxy::start(replies, receiver.address).await;
        for url in ["http://crm.test/hook", "https://crm.test/hook"] {
            let outcome = send(&proxy.sender("socks5h", user), url).await.outcome;
            assert_eq!(outcome, AttemptOutcome::Failed { error }, "{url}");
        }
    }
    let mut proxy = SocksProxy::start(&[], receiver.address).await;
    let closed = closed_port();
    proxy.address = closed.local_addr().unwrap();
    for url in ["http://crm.test/hook", "https://crm.test/hook"] {
        let outcome = send(&proxy.sender("socks5h", ""), url).await.outcome;
        assert_eq!(outcome, AttemptOutcome::Failed { error: TransportError::ProxyUnreachable }, "{url}");
    }
}
