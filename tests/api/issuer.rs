//! A token issuer that publishes its key set over HTTP and can be taken down.

use std::sync::Arc;

use alovoice_gateway::domain::clock::{Clock, SystemClock};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

use crate::stage::{AUDIENCE, EVERY_SCOPE};

const KEY_ID: &str = "one";

pub(crate) struct Issuer {
    pub(crate) url: Url,
    key: Vec<u8>,
    state: Arc<watch::Sender<State>>,
}

#[derive(Default)]
struct State {
    is_down: bool,
    /// Requests are accepted but not answered.
    is_held: bool,
    /// Number of requests that arrived while requests were held.
    held: usize,
    /// Number of requests that arrived while the issuer was down.
    refused: usize,
}

impl Issuer {
    /// The `iss` of its tokens.
    pub(crate) const NAME: &str = "https://keys.test";

    pub(crate) async fn start() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let jwk =
            json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": KEY_ID, "x": x});
        let body = json!({"keys": [jwk]}).to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
        let state = Arc::new(watch::Sender::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, answer.clone(), Arc::clone(&shared)));
            }
        });
        Self { url, key: document.as_ref().to_vec(), state }
    }

    /// Takes the issuer down or up, and waits until the gateway has noticed an outage.
    pub(crate) async fn set_down(&self, is_down: bool) {
        self.state.send_modify(|state| state.is_down = is_down);
        // The second refused request shows that the gateway has processed the first failure.
        self.state.subscribe().wait_for(|state| !is_down || state.refused >= 2).await.unwrap();
    }

    /// Holds requests without an answer until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.state.send_modify(|state| state.is_held = true);
    }

    pub(crate) fn release(&self) {
        self.state.send_modify(|state| state.is_held = false);
    }

    /// Waits until a request is held.
    pub(crate) async fn asked_while_held(&self) {
        self.state.subscribe().wait_for(|state| state.held > 0).await.unwrap();
    }

    /// A token with every scope. `subject` makes the token unique.
    pub(crate) fn token(&self, tenant: &str, subject: &str) -> String {
        self.token_of_key(KEY_ID, tenant, subject)
    }

    /// A token that names a key that is not in the key set.
    pub(crate) fn token_of_unknown_key(&self) -> String {
        self.token_of_key("unknown", "acme", "unknown")
    }

    fn token_of_key(&self, key_id: &str, tenant: &str, subject: &str) -> String {
        let now = SystemClock.now().as_seconds();
        let claims = json!({
            "iss": Self::NAME, "aud": AUDIENCE, "sub": subject, "tenant": tenant, "scope": EVERY_SCOPE,
            "iat": now, "exp": now + 3600,
        });
        let header = Header { kid: Some(key_id.to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &EncodingKey::from_ed_der(&self.key)).unwrap()
    }
}

async fn serve(mut connection: TcpStream, answer: String, state: Arc<watch::Sender<State>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if !matches!(connection.read_buf(&mut request).await, Ok(1..)) {
            return;
        }
    }
    if state.borrow().is_down {
        state.send_modify(|state| state.refused += 1);
        return;
    }
    if state.borrow().is_held {
        state.send_modify(|state| state.held += 1);
        // The sender is gone if the test has ended.
        let _ = state.subscribe().wait_for(|state| !state.is_held).await;
    }
    // The client may have disconnected.
    let _ = connection.write_all(answer.as_bytes()).await;
}
