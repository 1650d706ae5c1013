//! The statuses of the items of a batch, for the audit log.

/// The statuses of the items of a batch that name a call, in their order. A handler leaves them in the extensions of its
/// response.
pub(super) struct ItemStatuses(pub(super) Vec<u16>);
