//! The feed as Server-Sent Events (HTML standard, 9.2).

use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use actix_web::web::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;

use crate::analyses::{EventStream, StreamItem};
use crate::auth::{Rejection, Verifier, bearer};
use crate::domain::feed::FeedEvent;
use crate::store::StoreError;

/// Delay before a client reconnects, in milliseconds.
const RETRY_MS: u32 = 2000;
/// A comment that keeps the connection open through proxies. Clients ignore it.
const PING: &[u8] = b": ping\n\n";

/// The token of a stream. The token is verified again before each write. So open streams also end when the key of the token is
/// withdrawn.
pub(super) struct StreamToken {
    verifier: Arc<Verifier>,
    token: String,
}

impl StreamToken {
    /// Takes the token from the headers of a request.
    pub(super) fn new(verifier: &Arc<Verifier>, headers: &HeaderMap) -> Result<Self, Rejection> {
        let token = bearer(headers.get_all(AUTHORIZATION).map(HeaderValue::as_bytes))?.to_owned();
        Ok(Self { verifier: Arc::clone(verifier), token })
    }

    async fn is_valid(&self) -> bool {
        self.verifier.verify(&self.token).await.is_ok()
    }
}

/// The state of a stream.
enum StreamState {
    Opening(EventStream, StreamToken),
    Open(EventStream, StreamToken),
    Closed,
}

/// Returns the body of the stream. The server polls the body for the next chunk after it has sent the previous one.
pub(super) fn stream(
    events: EventStream,
    token: StreamToken,
) -> impl Stream<Item = Result<Bytes, StoreError>> {
    unfold(StreamState::Opening(events, token), |stage| async move {
        match stage {
            StreamState::Opening(events, token) => {
                // An id without data comes first, so that a client that disconnects before the first event can resume
                // here.
                let head = format!("retry: {RETRY_MS}\nid: {}\n\n", events.cursor());
                Some((Ok(head.into()), StreamState::Open(events, token)))
            }
            StreamState::Open(mut events, token) => Some(match events.next().await {
                Ok(StreamItem::End(why)) => (Ok(format!(": {why}\n\n").into()), StreamState::Closed),
                Ok(_) if !token.is_valid().await => {
                    (Ok(Bytes::from_static(b": the token is no longer valid\n\n")), StreamState::Closed)
                }
                Ok(StreamItem::Event(event)) => (Ok(encode(&event)), StreamState::Open(events, token)),
                Ok(StreamItem::Heartbeat) => (Ok(Bytes::from_static(PING)), StreamState::Open(events, token)),
                Ok(StreamItem::Unreadable(ids)) => (Ok(skipped(&ids)), StreamState::Open(events, token)),
                Err(error) => {
                    tracing::error!(%error, "event stream failed");
                    (Err(error), StreamState::Closed)
                }
            }),
            StreamState::Closed => None,
        }
    })
}

/// Returns a comment about events that cannot be read. JSON escapes line breaks, which would end the comment.
fn skipped(ids: &[String]) -> Bytes {
    format!(": unreadable {}\n\n", serde_json::json!(ids)).into()
}

fn encode(event: &FeedEvent) -> Bytes {
    let mut text = Vec::with_capacity(event.body.len() + 160);
    text.extend_from_slice(format!("id: {}\nevent: {}\ndata: ", event.id, event.kind).as_bytes());
    event.write_json(&mut text);
    text.extend_from_slice(b"\n\n");
    text.into()
}
