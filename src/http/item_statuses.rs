//! The statuses of the items of a batch, for the audit log.

/// The statuses of a batch's items, in the order of the items, without those of items that name no valid call. The handler adds
/// them to the extensions of its response.
pub(super) struct ItemStatuses(pub(super) Vec<u16>);
