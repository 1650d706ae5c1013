//! Changes that a transaction announces when it commits.

use super::Change;

/// The announcements of one transaction.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Changes that may make a cached value stale.
    invalidating: Vec<Change>,
    /// Changes that only wake waiting tasks.
    waking: Vec<Change>,
}

impl Changes {
    /// Returns the announcement that any row may have changed.
    pub(super) fn everything() -> Self {
        Self { invalidating: Vec::new(), waking: vec![Change::Everything] }
    }

    /// Adds a change that only wakes waiting tasks.
    pub(super) fn notify(&mut self, change: Change) {
        self.waking.push(change);
    }

    /// Adds a change that may make a cached value stale.
    pub(super) fn invalidate(&mut self, change: Change) {
        self.invalidating.push(change);
    }

    /// Returns the changes that may make a cached value stale.
    pub(super) fn invalidating(&self) -> &[Change] {
        &self.invalidating
    }

    /// Returns the changes that may make a cached value stale, and the changes that only wake waiting tasks.
    pub(super) fn into_parts(self) -> (Vec<Change>, Vec<Change>) {
        (self.invalidating, self.waking)
    }
}
