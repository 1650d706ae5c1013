//! What a peer was asked, in order, and a way to wait for more without sleeping.

use std::sync::Mutex;

use tokio::sync::watch;

/// A growing list that tells its watchers about each entry.
pub(super) struct Log<T> {
    entries: watch::Sender<Vec<T>>,
    /// How many entries `next` has handed out.
    handed_out: Mutex<usize>,
}

impl<T: Clone> Log<T> {
    pub(super) fn new() -> Self {
        Self { entries: watch::Sender::new(Vec::new()), handed_out: Mutex::new(0) }
    }

    pub(super) fn push(&self, entry: T) {
        self.entries.send_modify(|entries| entries.push(entry));
    }

    /// Adds an entry and tells how many like it went before, in one step.
    pub(super) fn push_counting(&self, entry: T, is_alike: impl Fn(&T, &T) -> bool) -> usize {
        let mut alike = 0;
        self.entries.send_modify(|entries| {
            alike = entries.iter().filter(|earlier| is_alike(earlier, &entry)).count();
            entries.push(entry);
        });
        alike
    }

    pub(super) fn all(&self) -> Vec<T> {
        self.entries.borrow().clone()
    }

    pub(super) fn count(&self, mut is_counted: impl FnMut(&T) -> bool) -> usize {
        self.entries.borrow().iter().filter(|entry| is_counted(entry)).count()
    }

    /// Waits until the list satisfies the predicate, which it may do already.
    pub(super) async fn wait_for(&self, mut predicate: impl FnMut(&[T]) -> bool) -> Vec<T> {
        let mut watcher = self.entries.subscribe();
        match watcher.wait_for(|entries| predicate(entries)).await {
            Ok(entries) => entries.clone(),
            Err(_) => unreachable!("the sender lives in self"),
        }
    }

    /// Waits for the entry after the one handed out last. An entry is handed out once, and none is lost
    /// when a waiter gives up.
    pub(super) async fn next(&self) -> T {
        let mut taken = None;
        self.wait_for(|entries| {
            let mut handed_out = self.handed_out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            taken = entries.get(*handed_out).cloned();
            *handed_out += usize::from(taken.is_some());
            taken.is_some()
        })
        .await;
        match taken {
            Some(entry) => entry,
            None => unreachable!("waited until there was one"),
        }
    }
}
