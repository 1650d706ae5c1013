//! The feed as Server-Sent Events (the HTML standard, 9.2).

use std::sync::Arc;

use actix_web::http::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use actix_web::web::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;

use crate::analyses::{EventStream, StreamItem};
use crate::auth::{Rejection, Verifier, bearer};
use crate::domain::feed::FeedEvent;
use crate::store::StoreError;

/// How long a client may take to come back after the end: other replicas are there at once.
const RETRY_MS: u32 = 2000;
/// What keeps the connection alive through proxies: a comment, which clients pass over.
const PING: &[u8] = b": ping\n\n";

/// Whether a stream is asked for: `Accept` names its type, and no other type of ours as more welcome.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let welcome = |wanted: &str| {
        let ranges = headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok());
        let ranges = ranges.flat_map(|value| value.split(',')).filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_named = parts.next()?.eq_ignore_ascii_case(wanted);
            let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            is_named.then(|| quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0)))
        });
        ranges.fold(0.0, f64::max)
    };
    let quality = welcome("text/event-stream");
    quality > 0.0 && quality >= welcome("application/json")
}

/// The token that a stream was opened with. It is looked at again before anything is written: a key that was taken away
/// ends the stream as it would end requests.
pub(super) struct Pass {
    verifier: Arc<Verifier>,
    token: String,
}

impl Pass {
    /// The one in these headers.
    pub(super) fn new(verifier: &Arc<Verifier>, headers: &HeaderMap) -> Result<Self, Rejection> {
        let token = bearer(headers.get_all(AUTHORIZATION).map(HeaderValue::as_bytes))?.to_owned();
        Ok(Self { verifier: Arc::clone(verifier), token })
    }

    async fn is_good(&self) -> bool {
        self.verifier.verify(&self.token).await.is_ok()
    }
}

/// How far the writing has come.
enum StreamState {
    Begins(EventStream, Pass),
    GoesOn(EventStream, Pass),
    Ended,
}

/// The body. It is asked for more when what it gave has gone out.
pub(super) fn stream(events: EventStream, pass: Pass) -> impl Stream<Item = Result<Bytes, StoreError>> {
    unfold(StreamState::Begins(events, pass), |stage| async move {
        match stage {
            StreamState::Begins(events, pass) => {
                // An id without data: who is cut off before the first event comes back to this place.
                let head = format!("retry: {RETRY_MS}\nid: {}\n\n", events.cursor());
                Some((Ok(head.into()), StreamState::GoesOn(events, pass)))
            }
            StreamState::GoesOn(mut events, pass) => Some(match events.next().await {
                Ok(StreamItem::End(why)) => (Ok(format!(": {why}\n\n").into()), StreamState::Ended),
                Ok(_) if !pass.is_good().await => {
                    (Ok(Bytes::from_static(b": the token counts no more\n\n")), StreamState::Ended)
                }
                Ok(StreamItem::Event(event)) => (Ok(written(&event)), StreamState::GoesOn(events, pass)),
                Ok(StreamItem::Heartbeat) => {
                    (Ok(Bytes::from_static(PING)), StreamState::GoesOn(events, pass))
                }
                Err(error) => {
                    tracing::error!(%error, "an event stream broke off");
                    (Err(error), StreamState::Ended)
                }
            }),
            StreamState::Ended => None,
        }
    })
}

fn written(event: &FeedEvent) -> Bytes {
    let mut text = Vec::with_capacity(event.body.len() + 160);
    text.extend_from_slice(format!("id: {}\nevent: {}\ndata: ", event.id, event.kind).as_bytes());
    event.write_json(&mut text);
    text.extend_from_slice(b"\n\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_stream_is_for_who_asks_for_it() {
        let wanted = |accept| {
            let request = TestRequest::get().insert_header((ACCEPT, accept)).to_http_request();
            is_wanted(request.headers())
        };
        for accept in [
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "text/event-stream, */*",
            "application/json;q=0.5, text/event-stream",
            "application/json, text/event-stream",
        ] {
            assert!(wanted(accept), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/*",
            "application/json",
            "text/event-stream;q=0",
            "application/json, text/event-stream;q=0.9",
        ] {
            assert!(!wanted(accept), "{accept}");
        }
        assert!(!is_wanted(TestRequest::get().to_http_request().headers()));
    }
}
