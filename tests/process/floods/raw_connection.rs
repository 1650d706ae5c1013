//! A client with its hand on the socket.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use crate::gateway::within;

/// Between two bytes of a client that drips.
const DRIP_PAUSE: Duration = Duration::from_millis(20);

/// A connection to the gateway.
pub(super) struct Wire(TcpStream);

/// What came of a flood.
#[derive(Debug)]
pub(super) struct Met {
    /// All that was answered until the connection was closed.
    pub(super) answer: String,
}

impl Wire {
    pub(super) async fn open(api: &Url) -> Self {
        let address = (api.host_str().unwrap(), api.port().unwrap());
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Sends, and the other side must take it.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads the head of an answer and as much of its body as comes along.
    pub(super) async fn status(&mut self) -> u16 {
        let mut read = Vec::new();
        while !read.windows(4).any(|window| window == b"\r\n\r\n") {
            assert!(self.0.read_buf(&mut read).await.unwrap() > 0, "{}", String::from_utf8_lossy(&read));
        }
        status_of(&String::from_utf8_lossy(&read))
    }

    /// Sends the pieces as long as they are taken, and listens meanwhile, until the other side closes the connection.
    pub(super) async fn flood(self, pieces: impl Iterator<Item = Vec<u8>>, pause: bool) -> Met {
        let (mut read, mut write) = self.0.into_split();
        let sending = async {
            for piece in pieces {
                if write.write_all(&piece).await.is_err() {
                    break;
                }
                if pause {
                    tokio::time::sleep(DRIP_PAUSE).await;
                }
            }
            // Not closed: that is for the other side to do.
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        let listening = async {
            // A reset ends it as well as a close.
            while read.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {}
        };
        within("the end of a flooded connection", async {
            tokio::select! {
                () = sending => {}
                () = listening => {}
            }
        })
        .await;
        Met { answer: String::from_utf8_lossy(&answer).into_owned() }
    }
}

impl Met {
    pub(super) fn status(&self) -> u16 {
        status_of(&self.answer)
    }

    /// The problem's code, of an answer that is one.
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

/// One byte at a time.
pub(super) fn drips(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.as_bytes().to_vec().into_iter().map(|byte| vec![byte])
}
