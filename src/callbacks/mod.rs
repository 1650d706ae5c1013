//! Signs and sends callbacks.
//!
//! - [`mod@sign`] computes the `webhook-signature` (Standard Webhooks).
//! - [`guard`] protects internal addresses (SSRF): it checks the URL at submission, and each resolved address at delivery.
//! - [`resolve`] makes the HTTP client use only addresses that the guard allows.
//! - [`send`] makes one attempt and returns its outcome.
//!
//! [`crate::domain::retries`] decides when to make an attempt and what follows from its outcome.

pub mod guard;
pub mod resolve;
pub mod send;
pub mod sign;
mod tracked_body;

pub use crate::http_client::{Lookup, hold_during_lookups};
pub use guard::{Forbidden, Guard};
pub use send::{Outgoing, Sender, Sent};
pub use sign::{SignatureError, SignedHeaders, sign, verify};
