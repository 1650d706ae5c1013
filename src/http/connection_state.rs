//! The state that a connection of the API shares with its requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use actix_web::HttpRequest;
use tokio::sync::OwnedSemaphorePermit;

use crate::domain::ids::TenantId;

/// The state that a connection shares with its requests.
#[derive(Default)]
pub struct ConnectionState {
    /// Place among the connections of a tenant: the tenant of the last request with a valid token.
    pub(super) place: RefCell<Option<ConnectionPlace>>,
    /// Whether the connection ends after the current answer.
    pub(super) is_last: Cell<bool>,
    /// Whether the framework has received a head that no request handles yet.
    pub(super) has_waiting_head: Cell<bool>,
    pub(super) body: Cell<BodyLength>,
    pub(super) is_paused: Cell<bool>,
    /// Wakes the connection when it may read again.
    pub(super) reader: Cell<Option<Waker>>,
}

/// A place among the connections of a tenant.
pub(super) struct ConnectionPlace {
    pub(super) tenant: TenantId,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// The unread part of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum BodyLength {
    #[default]
    None,
    Bytes(u64),
    Chunked,
}

impl ConnectionState {
    /// Returns the state of a request's connection; `None` in tests without a connection.
    pub(super) fn of(request: &HttpRequest) -> Option<&Rc<Self>> {
        request.conn_data()
    }

    /// Begins a request. Its body stays with the client until [`ConnectionState::resume`].
    pub(super) fn begin(&self, body: BodyLength) {
        self.has_waiting_head.set(false);
        self.body.set(body);
        self.is_paused.set(body != BodyLength::None);
        self.wake();
    }

    /// Ends the body of a request. The next head may follow.
    pub(super) fn end_body(&self) {
        self.body.set(BodyLength::None);
        self.resume();
    }

    /// Stops reading from the client, so that its bytes stay in the kernel.
    pub(super) fn pause(&self) {
        self.is_paused.set(true);
    }

    /// Continues to read from the client.
    pub(super) fn resume(&self) {
        self.is_paused.set(false);
        self.wake();
    }

    fn wake(&self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// Whether the connection of a request ends after the answer: the tenant has too many connections, or the client asks
/// for another protocol, which the gateway does not support.
pub fn is_last(request: &HttpRequest) -> bool {
    request.head().upgrade()
        || ConnectionState::of(request).is_some_and(|connection| connection.is_last.get())
}
