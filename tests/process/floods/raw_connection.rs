//! A client that writes raw bytes to a socket.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use url::Url;

use crate::gateway::within;

/// Pause between two bytes of a slow client.
const SLOW_PAUSE: Duration = Duration::from_millis(20);

/// A raw connection to the gateway.
pub(super) struct RawConnection(TcpStream);

/// The outcome of a flood.
#[derive(Debug)]
pub(super) struct FloodOutcome {
    /// All bytes of the response until the connection closed.
    pub(super) answer: String,
}

impl RawConnection {
    pub(super) async fn open(api: &Url) -> Self {
        let address = (api.host_str().unwrap(), api.port().unwrap());
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Opens a connection with a small buffer for unread bytes.
    pub(super) async fn open_narrow(api: &Url) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2048).unwrap();
        Self(socket.connect(api.socket_addrs(|| None).unwrap()[0]).await.unwrap())
    }

    /// Sends as many bytes as the gateway and the kernel take now. A closed connection takes none.
    pub(super) async fn offer(&mut self, bytes: &[u8]) {
        let mut offered = 0;
        while offered < bytes.len() {
            // The kernel moves bytes to the gateway in the background.
            tokio::task::yield_now().await;
            match self.0.try_write(&bytes[offered..]) {
                Ok(written) => offered += written,
                Err(_) => return,
            }
        }
    }

    /// Whether the gateway reset the connection before the end of its answer.
    pub(super) async fn ends_with_reset(mut self) -> bool {
        let mut answer = Vec::new();
        self.0.read_to_end(&mut answer).await.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }

    /// Reads until the gateway closes the connection.
    pub(super) async fn until_closed(mut self) {
        let _ = self.0.read_to_end(&mut Vec::new()).await;
    }

    /// Reads a kilobyte at a time with pauses, until the gateway closes the connection.
    pub(super) async fn read_slowly(mut self) {
        while self.0.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {
            tokio::time::sleep(SLOW_PAUSE).await;
        }
    }

    /// Sends bytes, and panics if the gateway does not accept them.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads the head of a response, and returns its status.
    pub(super) async fn status(&mut self) -> u16 {
        let mut read = Vec::new();
        while !read.windows(4).any(|window| window == b"\r\n\r\n") {
            assert!(self.0.read_buf(&mut read).await.unwrap() > 0, "{}", String::from_utf8_lossy(&read));
        }
        status_of(&String::from_utf8_lossy(&read))
    }

    /// Sends the pieces while the gateway accepts them, and reads at the same time, until the gateway closes the connection.
    pub(super) async fn flood(self, pieces: impl Iterator<Item = Vec<u8>>, pause: bool) -> FloodOutcome {
        let (mut read, mut write) = self.0.into_split();
        let sending = async {
            for piece in pieces {
                if write.write_all(&piece).await.is_err() {
                    break;
                }
                if pause {
                    tokio::time::sleep(SLOW_PAUSE).await;
                }
            }
            // The connection stays open on this side, because the gateway must close it.
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        let listening = async {
            // A reset ends the connection too.
            while read.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {}
        };
        within("the end of a flooded connection", async {
            tokio::select! {
                () = sending => {}
                () = listening => {}
            }
        })
        .await;
        FloodOutcome { answer: String::from_utf8_lossy(&answer).into_owned() }
    }
}

impl FloodOutcome {
    pub(super) fn status(&self) -> u16 {
        status_of(&self.answer)
    }

    /// The code of a response that is a problem.
    pub(super) fn problem(&self) -> String {
        assert!(self.answer.contains("content-type: application/problem+json"), "{self:?}");
        let body = self.answer.split_once("\r\n\r\n").unwrap().1;
        let problem: Value = serde_json::from_str(body).unwrap();
        problem["code"].as_str().unwrap().to_owned()
    }
}

fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

/// The text in pieces of one byte.
pub(super) fn byte_by_byte(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.as_bytes().to_vec().into_iter().map(|byte| vec![byte])
}
