//! The unread rest of a request body.
//!
//! After an answer, the framework closes the connection if something still holds an unread body. Otherwise it reads the
//! body to its end, so a client with an endless chunked body would occupy the connection forever. Therefore the body is
//! held until its answer is sent.

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

/// A request that is held, with the unread rest of its body, until its answer is sent.
pub(super) struct HeldRequest {
    unread: Option<Unread>,
    _in_progress: Option<RequestInProgress>,
}

/// The body of a request, shared by its reader and the answer that holds it.
#[derive(Clone)]
struct Unread {
    payload: Rc<RefCell<Payload>>,
    connection: Option<Rc<ConnectionState>>,
}

impl HeldRequest {
    /// Begins a request, and shares its body. The body is received only after the request has passed all checks and has
    /// memory for it.
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

    /// Holds the request until the answer is sent.
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
    /// Continues to read from a client whose body was not read. The connection discards the rest of the body.
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
