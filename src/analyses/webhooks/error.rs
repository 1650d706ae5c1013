//! The errors of the use cases about webhooks.

use crate::analyses::{InvalidCursor, MemoryUsedUp};
use crate::callbacks::Forbidden;
use crate::domain::field_problem::FieldProblem;
use crate::domain::webhooks::InvalidHeader;
use crate::store::StoreError;

/// The reason why a use case about webhooks failed.
#[derive(Debug, thiserror::Error)]
pub enum WebhooksError {
    /// The tenant has no such webhook, delivery or replay.
    #[error("there is no {0} with this id")]
    NotFound(&'static str),
    /// `encryption.key_file` is not set, so secrets cannot be encrypted.
    #[error("no encryption key is configured")]
    NotConfigured,
    /// The URL points to a forbidden address.
    #[error("the address is forbidden")]
    Forbidden(#[from] Forbidden),
    /// The template is not allowed, or does not compile.
    #[error("the template {}", .0.detail)]
    Template(FieldProblem),
    /// The custom headers exceed a limit.
    #[error("the headers {0}")]
    Headers(#[from] InvalidHeader),
    /// A burst was chosen, and there is no rate.
    #[error("a burst needs a rate")]
    BurstWithoutRate,
    /// The tenant has the maximum number of webhooks.
    #[error("the tenant has the maximum number of webhooks")]
    TooMany,
    /// The webhook is disabled.
    #[error("the webhook is disabled")]
    Disabled,
    /// Another replay to the webhook is unfinished.
    #[error("a replay to this webhook is in progress")]
    ReplayUnderWay,
    /// No key in `encryption.key_file` decrypts the stored custom headers.
    #[error("no configured key decrypts the stored headers")]
    Unopenable,
    /// The cursor belongs to another list.
    #[error("the cursor belongs to another list")]
    InvalidCursor(#[from] InvalidCursor),
    /// The memory budget for renderings is used up.
    #[error(transparent)]
    MemoryUsedUp(#[from] MemoryUsedUp),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
