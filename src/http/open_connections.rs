//! The open connections of a server thread.
//!
//! A client needs no token to open a connection. So idle connections must not prevent clients with requests from
//! connecting. A connection is idle while no request is in progress, even if part of a head has arrived. The connection
//! of a caller without a valid token is also idle while the caller does not read its answer.
//!
//! A server thread has a fixed number of places for connections, and keeps the last place free for a new connection. A connection
//! that takes the last place evicts the connection that has been idle longest. If no connection is idle, the next connection that
//! completes an answer is closed after this answer. A connection with a request in progress is never evicted. An evicted
//! connection reads once more before it closes. If a head has arrived, the evicted connection stays open, and another idle
//! connection is evicted instead. The connection that took the last place is not evicted then, because its first head may still
//! be on its way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::Waker;

/// The open connections of a server thread.
pub struct OpenConnections {
    /// Maximum number of open connections, not counting the last place, which is kept free for a new connection.
    places: usize,
    /// Number of open connections, not counting evicted ones.
    open: Cell<usize>,
    /// Key for the next connection that becomes idle.
    next: Cell<u64>,
    /// Key of the newest connection, until its first head arrives.
    newest: Cell<Option<u64>>,
    /// The idle connections, in the order in which they became idle.
    idle: RefCell<BTreeMap<u64, Rc<OpenConnection>>>,
}

impl OpenConnections {
    /// Creates the list of a server thread with `max` places for connections. The minimum is two places.
    pub fn new(max: usize) -> Rc<Self> {
        let (open, next, newest, idle) =
            (Cell::default(), Cell::default(), Cell::default(), RefCell::default());
        Rc::new(Self { places: max.saturating_sub(1).max(1), open, next, newest, idle })
    }

    /// Adds a connection, which is idle. Evicts another idle connection if only the last place was free.
    pub(super) fn add(self: &Rc<Self>) -> Rc<OpenConnection> {
        self.newest.set(None);
        self.count_one_more();
        let (key, is_evicted, closer) = (Cell::default(), Cell::default(), Cell::default());
        let connection = Rc::new(OpenConnection { connections: Rc::clone(self), key, is_evicted, closer });
        self.insert(&connection);
        self.newest.set(connection.key.get());
        connection
    }

    /// Counts one more connection. Evicts the connection that has been idle longest if the last place is taken.
    fn count_one_more(&self) {
        self.open.set(self.open.get() + 1);
        if self.is_full() {
            let newest = self.newest.get();
            let mut idle = self.idle.borrow_mut();
            let longest_idle = idle.keys().copied().find(|key| Some(*key) != newest);
            let longest_idle = longest_idle.and_then(|key| idle.remove(&key));
            drop(idle);
            if let Some(longest_idle) = longest_idle {
                longest_idle.evict();
            }
        }
    }

    fn insert(&self, connection: &Rc<OpenConnection>) {
        let key = self.next.get();
        self.next.set(key + 1);
        connection.key.set(Some(key));
        self.idle.borrow_mut().insert(key, Rc::clone(connection));
    }

    fn is_full(&self) -> bool {
        self.open.get() > self.places
    }
}

/// An open connection.
pub(super) struct OpenConnection {
    connections: Rc<OpenConnections>,
    /// Key in the list of idle connections; `None` while a request is in progress.
    key: Cell<Option<u64>>,
    is_evicted: Cell<bool>,
    /// Wakes the connection when it is evicted.
    closer: Cell<Option<Waker>>,
}

impl OpenConnection {
    /// Lists the connection as idle, or evicts it if the last place is taken. `closer` wakes the connection when it is
    /// evicted.
    pub(super) fn begin_idle(self: &Rc<Self>, closer: &Waker) {
        let known = self.closer.take().filter(|known| known.will_wake(closer));
        self.closer.set(Some(known.unwrap_or_else(|| closer.clone())));
        if self.key.get().is_some() || self.is_evicted.get() {
            return;
        }
        if self.connections.is_full() {
            self.evict();
        } else {
            self.connections.insert(self);
        }
    }

    /// Removes the connection from the list of idle ones. If it was evicted, it stays open and counts as open again.
    pub(super) fn end_idle(&self) {
        self.unlist();
        if self.is_evicted.take() {
            self.connections.count_one_more();
        }
    }

    /// Removes the connection when it has closed.
    pub(super) fn close(&self) {
        self.unlist();
        if !self.is_evicted.get() {
            self.connections.open.set(self.connections.open.get() - 1);
        }
    }

    fn unlist(&self) {
        if let Some(key) = self.key.take() {
            self.connections.idle.borrow_mut().remove(&key);
        }
    }

    /// Whether the connection must close.
    pub(super) fn is_evicted(&self) -> bool {
        self.is_evicted.get()
    }

    /// Whether even the last place of the server thread is taken, so that no place is free for a new connection.
    pub(super) fn is_last_place_taken(&self) -> bool {
        self.connections.is_full()
    }

    fn evict(&self) {
        self.connections.open.set(self.connections.open.get() - 1);
        self.key.set(None);
        self.is_evicted.set(true);
        if let Some(closer) = self.closer.take() {
            closer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns four connections: two with requests in progress, an evicted one, and a new one. The new one took the last place
    /// and evicted the third.
    fn full() -> (Rc<OpenConnections>, [Rc<OpenConnection>; 4]) {
        let connections = OpenConnections::new(4);
        let all = [(); 4].map(|()| {
            let connection = connections.add();
            if connections.open.get() < 3 {
                connection.end_idle();
            }
            connection
        });
        assert_eq!(all.each_ref().map(|connection| connection.is_evicted()), [false, false, true, false]);
        (connections, all)
    }

    #[test]
    fn a_connection_that_stays_open_does_not_evict_a_new_one() {
        let (connections, [_, _, evicted, new]) = full();
        evicted.end_idle();
        assert!(!evicted.is_evicted() && !new.is_evicted());
        assert_eq!(connections.open.get(), 4);
    }

    #[test]
    fn a_connection_that_stays_open_evicts_the_longest_idle_of_the_others() {
        let (connections, [first, second, evicted, new]) = full();
        second.begin_idle(Waker::noop());
        evicted.end_idle();
        assert!(second.is_evicted() && !first.is_evicted() && !new.is_evicted());
        assert_eq!(connections.open.get(), 3);

        // After its first request and answer, the new connection counts like any other.
        new.end_idle();
        new.begin_idle(Waker::noop());
        second.end_idle();
        assert!(new.is_evicted());
    }
}
