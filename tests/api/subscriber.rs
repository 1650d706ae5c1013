//! A client of the event stream that follows the HTML standard (9.2.6) strictly and does not read ahead.

use std::time::Instant;

use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::Value;

use crate::caller::{Answer, Caller};
use crate::patience::PATIENCE;

/// An open event stream.
pub(crate) struct Subscriber {
    response: Response,
    received: Vec<u8>,
    last_event_id: String,
}

/// A block of an event stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StreamBlock {
    /// An event with its data.
    Event { id: String, kind: String, data: Value },
    /// A comment.
    Comment(String),
}

impl Subscriber {
    /// Opens a stream and reads the first block, which holds the current position.
    pub(crate) async fn open(caller: &Caller, path: &str, last_event_id: Option<&str>) -> Self {
        Self::try_open(caller, path, last_event_id).await.unwrap_or_else(|status| panic!("{path}: {status}"))
    }

    /// Opens a stream like [`Self::open`], or returns the status of the refusal.
    pub(crate) async fn try_open(
        caller: &Caller,
        path: &str,
        last_event_id: Option<&str>,
    ) -> Result<Self, u16> {
        let response = ask(caller, path, last_event_id).await;
        if response.status() != 200 {
            return Err(response.status().as_u16());
        }
        let mut subscriber = Self {
            response,
            received: Vec::new(),
            last_event_id: last_event_id.unwrap_or_default().to_owned(),
        };
        let head = subscriber.block().await.unwrap();
        assert!(head.starts_with("retry: 2000\nid: "), "{head}");
        subscriber.last_event_id = head.lines().last().unwrap()["id: ".len()..].to_owned();
        Ok(subscriber)
    }

    /// Requests a stream and returns the error response.
    pub(crate) async fn refused(caller: &Caller, path: &str, last_event_id: Option<&str>) -> Answer {
        let response = ask(caller, path, last_event_id).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = Answer { status, headers, body: response.bytes().await.unwrap() };
        crate::contract::check(&Method::GET, "/v1/events", &answer);
        answer
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The `Last-Event-ID` to send when the stream is resumed.
    pub(crate) fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The next block, or `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<StreamBlock> {
        let block = self.block().await?;
        if let Some(comment) = block.strip_prefix(": ") {
            return Some(StreamBlock::Comment(comment.to_owned()));
        }
        let [id, kind, data] = block.lines().collect::<Vec<_>>().try_into().unwrap();
        let field = |line: &str, name: &str| line.strip_prefix(name).unwrap().to_owned();
        let (id, kind) = (field(id, "id: "), field(kind, "event: "));
        let data: Value = serde_json::from_str(&field(data, "data: ")).unwrap();
        assert_eq!((data["id"].as_str(), data["type"].as_str()), (Some(&*id), Some(&*kind)));
        crate::contract::check_event(&data);
        self.last_event_id.clone_from(&id);
        Some(StreamBlock::Event { id, kind, data })
    }

    /// The call ID of the next event.
    pub(crate) async fn call(&mut self) -> String {
        loop {
            match self.next().await.unwrap() {
                StreamBlock::Event { data, .. } => {
                    return data["data"]["call_id"].as_str().unwrap().to_owned();
                }
                StreamBlock::Comment(comment) => assert_eq!(comment, "ping"),
            }
        }
    }

    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.received.drain(..end + 2).collect();
                return Some(String::from_utf8(block[..end].to_vec()).unwrap());
            }
            let Some(chunk) = self.response.chunk().await.unwrap() else {
                assert!(self.received.is_empty(), "the stream ended inside a block");
                return None;
            };
            self.received.extend_from_slice(&chunk);
        }
    }
}

/// Requests a stream until the answer is not 503, as [`Caller::send`] does.
async fn ask(caller: &Caller, path: &str, last_event_id: Option<&str>) -> Response {
    let began = Instant::now();
    loop {
        let response = ask_once(caller, path, last_event_id).await;
        if response.status() != 503 || began.elapsed() > PATIENCE {
            return response;
        }
    }
}

async fn ask_once(caller: &Caller, path: &str, last_event_id: Option<&str>) -> Response {
    let mut request = caller.http.get(caller.api.join(path).unwrap()).header("accept", "text/event-stream");
    if let Some(authorization) = &caller.authorization {
        request = request.header("authorization", authorization);
    }
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id);
    }
    request.send().await.unwrap()
}
