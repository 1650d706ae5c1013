//! The hostile tenant: all attacks at the same time.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alovoice_gateway::sandbox::receiver::{Receiver, ReceiverOptions};
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::attacks::{Attack, EXPENSIVE, raw};
use super::{HOSTILE, Soak};

/// Number of requests for expensive reads at the same time.
const READERS: usize = 32;
/// Pause after a refused request.
const PAUSE: Duration = Duration::from_millis(200);
/// Number of silent receivers.
const SILENT: u64 = 16;

/// Numbers of attempts and of answers.
#[derive(Default)]
pub(super) struct Attempts(Mutex<BTreeMap<String, usize>>);

impl Attempts {
    fn count(&self, what: String) {
        *self.0.lock().unwrap().entry(what).or_default() += 1;
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| hostile tenant | number |\n| --- | --- |")?;
        for (what, number) in &*self.0.lock().unwrap() {
            writeln!(f, "| {what} | {number} |")?;
        }
        Ok(())
    }
}

/// The running attacks.
pub(super) struct Hostile {
    attempts: Arc<Attempts>,
    tasks: JoinSet<()>,
    _receiver: Receiver,
}

impl Hostile {
    pub(super) async fn start(soak: &Arc<Soak>) -> Self {
        // All addresses of loopback reach this receiver, and each is an origin of its own.
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let receiver =
            Receiver::start(ReceiverOptions { address, ..ReceiverOptions::default() }).await.unwrap();
        let port = receiver.base_url().port().unwrap();
        let (attempts, mut tasks) = (Arc::<Attempts>::default(), JoinSet::new());
        for attack in raw() {
            for _ in 0..attack.connections {
                tasks.spawn(occupy(soak.clone(), attack, attempts.clone()));
            }
        }
        for reader in 0..READERS {
            tasks.spawn(read(soak.clone(), EXPENSIVE[reader % EXPENSIVE.len()], attempts.clone()));
        }
        tasks.spawn(submit(soak.clone(), port, attempts.clone()));
        Self { attempts, tasks, _receiver: receiver }
    }

    /// Ends all attacks.
    pub(super) async fn stop(mut self) -> Arc<Attempts> {
        self.tasks.shutdown().await;
        self.attempts
    }
}

/// Keeps one connection of an attack open, again and again.
async fn occupy(soak: Arc<Soak>, attack: Attack, attempts: Arc<Attempts>) {
    let address = soak.gateway.api.socket_addrs(|| None).unwrap()[0];
    loop {
        attempts.count(attack.name.to_owned());
        let connection = timeout(attack.hold, connect(address)).await;
        if let Ok(Ok(connection)) = connection {
            let token = soak.stage.token_of(HOSTILE, "analyses:read analyses:write audio:read");
            let _ended = timeout(attack.hold, send(connection, attack, &token)).await;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Opens a connection with a small buffer for unread bytes.
async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(2048)?;
    socket.connect(address).await
}

/// Sends the bytes of an attack, then does nothing. The answer is never read.
async fn send(mut connection: TcpStream, attack: Attack, token: &str) {
    let bytes = (attack.bytes)(token);
    if attack.is_slow {
        for byte in bytes {
            if connection.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(250)).await;
        }
    } else if connection.write_all(&bytes).await.is_err() {
        return;
    }
    std::future::pending::<()>().await;
}

/// Sends one expensive read after the other, and reads the answers.
async fn read(soak: Arc<Soak>, path: &str, attempts: Arc<Attempts>) {
    loop {
        let status = match soak.request(HOSTILE, Method::GET, path).send().await {
            Ok(answer) => answer.status().as_u16(),
            Err(_) => 0,
        };
        attempts.count(format!("expensive reads with status {status}"));
        if status != 200 {
            sleep(PAUSE).await;
        }
    }
}

/// Submits calls that the vendor never answers well, and calls whose receivers never answer.
async fn submit(soak: Arc<Soak>, port: u16, attempts: Arc<Attempts>) {
    for number in 0.. {
        let silent = format!("http://127.0.0.{}:{port}/hook/hang", 2 + number % SILENT);
        let body = match number % 4 {
            0 => json!({"call_id": format!("result-500-forever~{number}")}),
            1 => json!({"call_id": format!("hang-forever~{number}")}),
            _ => json!({"call_id": format!("silent-{number}"), "callback": {"url": silent}}),
        };
        let request = soak.request(HOSTILE, Method::POST, "v1/analyses");
        let request = request.header("content-type", "application/json").body(body.to_string());
        let status = request.send().await.map_or(0, |answer| answer.status().as_u16());
        attempts.count(format!("submissions with status {status}"));
        sleep(PAUSE).await;
    }
}
