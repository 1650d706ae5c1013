//! The unread rest of a request body.
//!
//! If an unread body still exists after the answer, the framework closes the connection. If the body was dropped before, the
//! framework reads the rest of the body. A client with an endless chunked body would then occupy the connection forever.
//! Therefore the gateway keeps the body until its answer is sent.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::HttpMessage;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::web::Bytes;
use futures_util::Stream;

use super::connection_state::{BodyLength, ConnectionState, RequestInProgress};

/// A request whose body is kept, with its unread rest, until the answer is sent.
pub(super) struct HeldRequest {
    unread: Option<Unread>,
    _in_progress: Option<RequestInProgress>,
}

/// The body of a request. The reader of the body and the answer share it.
#[derive(Clone)]
struct Unread {
    payload: Rc<RefCell<Payload>>,
    connection: Option<Rc<ConnectionState>>,
}

impl HeldRequest {
    /// Registers a request with its connection, and prepares its body so that the answer can keep it. The gateway receives the
    /// body only after the request has passed all checks and the body has a permit for its memory.
    pub(super) fn begin(request: &mut ServiceRequest) -> Self {
        let connection = ConnectionState::of(request.request()).cloned();
        let payload = request.take_payload();
        let has_body = !matches!(payload, Payload::None);
        let length = if has_body { length(request) } else { BodyLength::None };
        let in_progress = connection.as_ref().map(|connection| connection.begin(length));
        let unread = has_body.then(|| Unread { payload: Rc::new(RefCell::new(payload)), connection });
        if let Some(unread) = &unread {
            request.set_payload(Payload::Stream { payload: Box::pin(unread.clone()) });
        }
        Self { unread, _in_progress: in_progress }
    }

    /// Keeps the request until the answer is sent.
    pub(super) fn hold(self, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        response.map_body(|_, body| BoxBody::new(Holding { body, request: self }))
    }
}

impl Stream for Unread {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = ready!(Pin::new(&mut *self.payload.borrow_mut()).poll_next(context));
        if chunk.is_none()
            && let Some(connection) = &self.connection
        {
            connection.end_body();
        }
        Poll::Ready(chunk)
    }
}

/// Returns the length of a body.
fn length(request: &ServiceRequest) -> BodyLength {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match length.and_then(|length| length.trim().parse().ok()) {
        Some(bytes) => BodyLength::Bytes(bytes),
        None => BodyLength::Chunked,
    }
}

struct Holding {
    body: BoxBody,
    request: HeldRequest,
}

impl Drop for Holding {
    /// Lets the connection read from the client again. If the body was not read, the connection discards the rest of the body.
    fn drop(&mut self) {
        if let Some(connection) = self.request.unread.as_ref().and_then(|unread| unread.connection.as_ref()) {
            connection.resume();
        }
    }
}

impl MessageBody for Holding {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
