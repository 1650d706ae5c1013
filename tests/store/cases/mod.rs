//! The cases of the contract, which run on every engine.

pub(crate) mod attributes;
pub(crate) mod batches;
pub(crate) mod claims;
pub(crate) mod contention;
pub(crate) mod deadlines;
pub(crate) mod deletion;
pub(crate) mod deliverer;
pub(crate) mod deliveries;
pub(crate) mod delivery_rates;
pub(crate) mod delivery_shares;
pub(crate) mod expiry;
pub(crate) mod feed;
pub(crate) mod idempotency;
pub(crate) mod learned_answers;
pub(crate) mod listings;
pub(crate) mod paces;
pub(crate) mod refreshes;
pub(crate) mod refused_work;
pub(crate) mod replays;
pub(crate) mod sealed;
pub(crate) mod submissions;
pub(crate) mod times;
pub(crate) mod transitions;
pub(crate) mod unreadable;
pub(crate) mod usage;
pub(crate) mod webhooks;
