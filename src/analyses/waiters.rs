//! Requests that wait for a call to finish (`Prefer: wait`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::cache::Key;

/// The signals of calls that have waiting requests. A call without waiting requests takes no memory.
#[derive(Default)]
pub(super) struct Waiters(Mutex<HashMap<Key, watch::Sender<()>>>);

/// The registration of one waiting request. Dropping the value ends the registration.
pub(super) struct Waiting<'a> {
    waiters: &'a Waiters,
    key: Key,
    signal: Option<watch::Receiver<()>>,
}

impl Waiters {
    /// Registers a waiting request. From now on, the request misses no change of `key`.
    pub(super) fn join(&self, key: Key) -> Waiting<'_> {
        let mut signals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let signal = signals.entry(key.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        Waiting { waiters: self, key, signal: Some(signal) }
    }

    pub(super) fn wake(&self, key: &Key) {
        if let Some(signal) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            signal.send_replace(());
        }
    }

    pub(super) fn wake_all(&self) {
        for signal in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            signal.send_replace(());
        }
    }
}

impl Waiting<'_> {
    /// Waits for the next change. Returns at once if a change happened since the registration or the previous wait.
    pub(super) async fn changed(&mut self) {
        if let Some(signal) = &mut self.signal {
            // The sender lives as long as the registration, so this wait does not fail.
            let _ = signal.changed().await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut signals = self.waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.signal = None;
        if signals.get(&self.key).is_some_and(|signal| signal.receiver_count() == 0) {
            signals.remove(&self.key);
        }
    }
}
