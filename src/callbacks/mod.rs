//! Callbacks on their way out: signed, kept away from inside addresses, sent once.
//!
//! - [`sign`] makes the `webhook-signature` (Standard Webhooks).
//! - [`guard`] says which receivers are allowed: at submission by the URL, at delivery by every address.
//!
//! When to attempt, and what to do after it, is not decided here: see [`crate::domain::retries`].

pub mod guard;
pub mod sign;

pub use guard::{Forbidden, Guard};
pub use sign::{SignatureError, SignedHeaders, sign, verify};
