//! The order in which due work on calls is claimed.

/// Order in which a claim selects the due calls of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimOrder {
    /// The calls that have been due for the longest time, whether or not their last request failed.
    OldestFirst,
    /// The calls whose last request did not fail, and then the other calls.
    UnfailedFirst {
        /// Maximum number of claimed calls whose last request failed.
        max_failed: usize,
        /// Whether the calls that became due last come first. Many waiting calls may be about to fail for the first time, and
        /// the store cannot distinguish these calls from others. With this order, a new call does not wait for all these calls.
        newest: bool,
    },
}
