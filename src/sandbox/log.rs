//! The requests that a peer received, in order. Tests can wait for further requests without sleeping.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

/// A growing list. Waiters are notified of each new entry.
pub(super) struct RequestLog<T> {
    /// The entries. Waiters share the list and hold no lock while they read the list. The list is copied only if an entry is
    /// added during such a read.
    entries: watch::Sender<Arc<Vec<T>>>,
    /// Number of entries that `next` has returned.
    returned: Mutex<usize>,
}

impl<T: Clone> RequestLog<T> {
    pub(super) fn new() -> Self {
        Self { entries: watch::Sender::new(Arc::default()), returned: Mutex::new(0) }
    }

    pub(super) fn push(&self, entry: T) {
        self.entries.send_modify(|entries| Arc::make_mut(entries).push(entry));
    }

    /// Adds an entry. Returns the number of earlier entries that are similar to the new one. Both happen in one atomic step.
    pub(super) fn push_counting(&self, entry: T, is_similar: impl Fn(&T, &T) -> bool) -> usize {
        let mut similar = 0;
        self.entries.send_modify(|entries| {
            similar = entries.iter().filter(|earlier| is_similar(earlier, &entry)).count();
            Arc::make_mut(entries).push(entry);
        });
        similar
    }

    pub(super) fn all(&self) -> Vec<T> {
        self.entries.borrow().to_vec()
    }

    pub(super) fn count(&self, mut is_counted: impl FnMut(&T) -> bool) -> usize {
        self.entries.borrow().iter().filter(|entry| is_counted(entry)).count()
    }

    /// Waits until the list satisfies the predicate. The predicate may take any lock, and may use this log.
    pub(super) async fn wait_for(&self, mut predicate: impl FnMut(&[T]) -> bool) -> Vec<T> {
        let mut watcher = self.entries.subscribe();
        loop {
            let entries = Arc::clone(&watcher.borrow_and_update());
            if predicate(&entries) {
                return entries.to_vec();
            }
            drop(entries);
            if watcher.changed().await.is_err() {
                unreachable!("the sender lives in self");
            }
        }
    }

    /// Waits for the next entry. Each entry is returned once, and no entry is lost if a waiter is cancelled.
    pub(super) async fn next(&self) -> T {
        let mut taken = None;
        self.wait_for(|entries| {
            let mut returned = self.returned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            taken = entries.get(*returned).cloned();
            *returned += usize::from(taken.is_some());
            taken.is_some()
        })
        .await;
        match taken {
            Some(entry) => entry,
            None => unreachable!("waited until there was one"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_predicate_may_use_the_log_while_an_entry_is_added() {
        let log = RequestLog::new();
        log.push(1);
        let found = log.wait_for(|entries| {
            // Another thread adds the entry, as in the servers of the sandbox.
            std::thread::scope(|threads| threads.spawn(|| log.push(2)).join().unwrap());
            entries.len() < log.count(|_| true)
        });
        assert_eq!(found.await, [1]);
        assert_eq!(log.all(), [1, 2]);
    }
}
