//! Callbacks on their way out: signed, kept away from inside addresses, sent once.
//!
//! - [`mod@sign`] makes the `webhook-signature` (Standard Webhooks).
//! - [`guard`] says which receivers are allowed: at submission by the URL, at delivery by every address.
//! - [`resolve`] looks names up for the HTTP client and lets through what the guard allows.
//! - [`send`] makes one attempt and says what became of it.
//!
//! When to attempt, and what to do after it, is not decided here: see [`crate::domain::retries`].

pub mod guard;
pub mod resolve;
pub mod send;
pub mod sign;

pub use guard::{Forbidden, Guard};
pub use resolve::{Lookup, SystemLookup};
pub use send::{Outgoing, Sender, Sent};
pub use sign::{SignatureError, SignedHeaders, sign, verify};
