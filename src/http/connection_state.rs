//! The state that a connection of the API shares with its requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use actix_web::HttpRequest;
use tokio::sync::OwnedSemaphorePermit;

use super::open_connections::OpenConnection;
use crate::domain::ids::TenantId;

/// The state that a connection shares with its requests.
pub struct ConnectionState {
    /// The entry of this connection among the open connections of the server thread.
    pub(super) open: Rc<OpenConnection>,
    /// Number of requests whose answers are not complete.
    requests: Cell<usize>,
    /// The place of this connection in the connection limit of the tenant that sent the last request with a valid token or
    /// link.
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

/// An open connection that counts against the limit of a tenant.
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

/// A request in progress: from its start until the framework has the complete answer. Its connection is not idle during this
/// time.
pub(super) struct RequestInProgress(Rc<ConnectionState>);

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
    }
}

impl ConnectionState {
    /// Creates the state of a new connection.
    pub(super) fn new(open: Rc<OpenConnection>) -> Rc<Self> {
        Rc::new(Self {
            open,
            requests: Cell::default(),
            place: RefCell::default(),
            is_last: Cell::default(),
            has_waiting_head: Cell::default(),
            body: Cell::default(),
            is_paused: Cell::default(),
            reader: Cell::default(),
        })
    }

    /// Whether a request is in progress, or its head waits for a handler.
    pub(super) fn has_request(&self) -> bool {
        self.requests.get() > 0 || self.has_waiting_head.get()
    }

    /// Returns the state of a request's connection; `None` in tests without a connection.
    pub(super) fn of(request: &HttpRequest) -> Option<&Rc<Self>> {
        request.conn_data()
    }

    /// Begins a request. Its body stays with the client until [`ConnectionState::resume`].
    pub(super) fn begin(self: &Rc<Self>, body: BodyLength) -> RequestInProgress {
        self.requests.set(self.requests.get() + 1);
        self.open.end_idle();
        self.has_waiting_head.set(false);
        self.body.set(body);
        self.is_paused.set(body != BodyLength::None);
        self.wake();
        RequestInProgress(Rc::clone(self))
    }

    /// Ends the body of a request. The next head may follow.
    pub(super) fn end_body(&self) {
        self.body.set(BodyLength::None);
        self.resume();
    }

    /// Stops reading from the client, so that the unread bytes stay in the kernel.
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

/// Whether the connection of a request ends after the answer. The connection ends if the tenant has too many connections, if
/// the server needs room for another connection, or if the client asks for another protocol. The gateway supports no other
/// protocol.
pub fn is_last(request: &HttpRequest) -> bool {
    let ends = |state: &Rc<ConnectionState>| state.is_last.get() || state.open.is_last_place_taken();
    request.head().upgrade() || ConnectionState::of(request).is_some_and(ends)
}
