//! A vendor and receivers that never finish: the TLS handshake, the head of the answer, or the resolution of their name.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::gateway::{Serving, within};
use crate::stage::{CALLBACK_SECRET, SCOPES, Stage, send};

/// Pause between two bytes of an answer.
const PAUSE: Duration = Duration::from_millis(20);
/// Start of an answer whose head never ends.
const HEAD: &[u8] = b"HTTP/1.1 200 ";
/// URL of a name whose resolution never ends.
const UNRESOLVED: &str = "https://hanging.test";

/// A server that accepts connections and never finishes an answer.
struct HangingPeer {
    address: SocketAddr,
    closed: watch::Receiver<usize>,
}

impl HangingPeer {
    /// Starts a server that sends nothing.
    async fn silent() -> Self {
        Self::start(false).await
    }

    /// Starts a server that sends the head of an answer byte by byte.
    async fn trickling() -> Self {
        Self::start(true).await
    }

    async fn start(trickles: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (closing, closed) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let closing = closing.clone();
                tokio::spawn(async move {
                    // An error means that the gateway has reset the connection.
                    let _ = hang(stream, trickles).await;
                    closing.send_modify(|closed| *closed += 1);
                });
            }
        });
        Self { address, closed }
    }

    /// Waits until the gateway has closed this number of connections.
    async fn closed(&self, connections: usize) {
        let closing =
            async { self.closed.clone().wait_for(|closed| *closed >= connections).await.map(|_| ()) };
        within("closed connections", closing).await.unwrap();
    }
}

/// Serves a connection until the gateway closes it.
async fn hang(mut stream: TcpStream, trickles: bool) -> std::io::Result<()> {
    let mut bytes = HEAD.iter().chain(std::iter::repeat(&b'x'));
    // An answer that begins before its request would end the connection.
    let (mut request, mut is_asked, mut next) = ([0; 4096], false, Instant::now());
    loop {
        tokio::select! {
            read = stream.read(&mut request) => {
                if read? == 0 {
                    return Ok(());
                }
                is_asked = true;
            }
            () = sleep_until(next), if trickles && is_asked => {
                stream.write_all(&[*bytes.next().unwrap()]).await?;
                next = Instant::now() + PAUSE;
            }
        }
    }
}

/// Compiles the library that makes the resolution of [`UNRESOLVED`] hang, and preloads it.
fn with_hanging_name(stage: &Stage, mut command: Command) -> Command {
    let library = stage.home.path().join("hanging_names.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/hanging_names.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).args([source, "-ldl"]);
    assert!(compiler.status().unwrap().success());
    command.env("LD_PRELOAD", library);
    command
}

async fn serving(stage: &Stage) -> Serving {
    Serving::start(with_hanging_name(stage, stage.command(&["serve"])), &stage.client).await
}

async fn submit(stage: &Stage, gateway: &Serving, tenant: &str, call_id: &str, callback: Option<&str>) {
    let mut submission = json!({"call_id": call_id});
    if let Some(url) = callback {
        submission["callback"] = json!({"url": url});
    }
    let request = stage.client.post(gateway.api.join("v1/analyses").unwrap());
    let request = request.header("content-type", "application/json").body(submission.to_string());
    let answer = send(request.bearer_auth(stage.token_of(tenant, SCOPES))).await.unwrap();
    assert_eq!(answer.status(), 202);
}

async fn get(stage: &Stage, gateway: &Serving, path: &str) -> Value {
    let request = stage.client.get(gateway.api.join(path).unwrap()).bearer_auth(stage.token(SCOPES));
    serde_json::from_slice(&send(request).await.unwrap().bytes().await.unwrap()).unwrap()
}

/// Waits for the outcome of the first attempt of a call's callback, and returns the attempt.
async fn first_attempt(stage: &Stage, gateway: &Serving, call_id: &str) -> Value {
    let ended = async {
        loop {
            let list = get(stage, gateway, &format!("v1/deliveries?call_id={call_id}")).await;
            let Some(id) = list.pointer("/deliveries/0/id").and_then(Value::as_str) else { continue };
            let attempt = get(stage, gateway, &format!("v1/deliveries/{id}")).await["attempts"].take();
            let attempt = attempt.get(0).cloned().unwrap_or_default();
            if attempt["outcome"].is_string() {
                return attempt;
            }
        }
    };
    within("the outcome of an attempt", ended).await
}

#[tokio::test]
async fn receivers_that_never_finish_time_out_and_delay_no_other_callback_and_no_stop() {
    let mut stage = Stage::set_up().await;
    stage.set("CALLBACKS__TIMEOUT", "1s");
    stage.set_file("TENANTS__GLOBEX__VENDOR_TOKEN_FILE", "token-of-globex");
    stage.set_file("TENANTS__GLOBEX__CALLBACK_SECRET_FILE", CALLBACK_SECRET);
    let token = std::fs::read_to_string(stage.home.path().join("tenants__acme__vendor_token_file")).unwrap();
    stage.vendor.set_tokens(vec![token, "token-of-globex".to_owned()]);
    let gateway = serving(&stage).await;
    let (silent, trickling) = (HangingPeer::silent().await, HangingPeer::trickling().await);
    let urls = [
        ("handshake", format!("https://{}/hook", silent.address)),
        ("head", format!("http://{}/hook", trickling.address)),
        ("name", format!("{UNRESOLVED}/hook")),
    ];
    for (call_id, url) in &urls {
        submit(&stage, &gateway, "acme", call_id, Some(url)).await;
    }
    for (call_id, _) in &urls {
        let attempt = first_attempt(&stage, &gateway, call_id).await;
        assert_eq!(attempt["outcome"], "timeout", "{call_id}: {attempt}");
        assert_eq!(attempt["error"], "the answer did not arrive in time", "{call_id}: {attempt}");
        assert_eq!(attempt["status"], Value::Null, "{call_id}: {attempt}");
    }
    // The attempts are repeated meanwhile.
    for (tenant, call_id) in [("acme", "good-1"), ("globex", "good-2")] {
        submit(&stage, &gateway, tenant, call_id, Some(&stage.hook_of(call_id))).await;
        let path = format!("/hook/ok/{call_id}");
        let delivered = stage.receiver.wait_for(|all| all.iter().any(|received| received.path == path));
        within("the callback of another receiver", delivered).await;
    }
    // Each attempt has its own connection, which ends with the attempt.
    silent.closed(2).await;
    trickling.closed(2).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_vendor_that_never_finishes_times_out_and_delays_no_stop() {
    let mut stage = Stage::set_up().await;
    let base_url = stage.vendor.base_url();
    let (silent, trickling) = (HangingPeer::silent().await, HangingPeer::trickling().await);
    let connecting = "cannot connect to the vendor: the connection was not established in time";
    for (call_id, url, detail) in [
        ("handshake", format!("https://{}", silent.address), connecting),
        ("head", format!("http://{}", trickling.address), "the vendor did not answer in time"),
        ("name", UNRESOLVED.to_owned(), connecting),
    ] {
        stage.set("VENDOR__BASE_URL", &url);
        stage.set("VENDOR__REQUEST_TIMEOUT", "1s");
        let gateway = serving(&stage).await;
        submit(&stage, &gateway, "acme", call_id, None).await;
        let failed = async {
            loop {
                let error = stage.analysis(&gateway, call_id).await["last_error"].take();
                if error["detail"] == detail {
                    return error;
                }
            }
        };
        assert_eq!(within("the reason", failed).await["code"], "vendor_timeout");
        gateway.stop().await;
    }
    silent.closed(1).await;
    trickling.closed(1).await;

    // The vendor answers again, and the calls are completed.
    stage.set("VENDOR__BASE_URL", base_url.as_str());
    stage.set("VENDOR__REQUEST_TIMEOUT", "1m");
    let gateway = serving(&stage).await;
    for call_id in ["handshake", "head", "name"] {
        stage.completed(&gateway, call_id).await;
    }
    gateway.stop().await;
}
