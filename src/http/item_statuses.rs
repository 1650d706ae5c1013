//! The statuses of the items of a batch, for the audit log.

/// The statuses of those items of a batch that name a valid call, in the order of the items. The handler adds them to the
/// extensions of its response.
pub(super) struct ItemStatuses(pub(super) Vec<u16>);
