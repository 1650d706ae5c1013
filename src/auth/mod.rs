//! Who may call: bearer tokens in, a [`Caller`] or a [`Rejection`] out. Free of the web framework.
//!
//! A token's way through the house:
//!
//! 1. [`bearer`] takes it from the one `Authorization` header.
//! 2. [`Verifier::verify`] answers at once if it has checked this very token before and neither the clock nor
//!    the issuer's keys say otherwise.
//! 3. Else `jws` reads the header, `claims` the `iss`; that issuer's `key_ring`, and no other, is asked for the key.
//! 4. Only when the signature holds are the other claims believed and checked.
//!
//! What never varies: a key is pinned to its algorithms when it is loaded, so a token's `alg` can only choose
//! among them (RFC 8725, 3.1); nothing in a token can name where a key comes from (`jku`, `jwk`, `x5u`, `x5c` are
//! not read); and no error repeats any part of a token.

mod bearer;
mod caller;
mod claims;
mod development_token;
mod issuer_keys;
mod jwks_client;
mod jws;
mod key;
mod key_set;
mod rejection;
mod remote_keys;
mod verifier;
#[cfg(test)]
mod wycheproof;

pub use bearer::bearer;
pub use caller::{Caller, Scopes};
pub use development_token::{DevelopmentToken, MintError};
pub use jwks_client::FetchError;
pub use key::KeyFault;
pub use key_set::KeySetError;
pub use rejection::Rejection;
pub use remote_keys::{Refresh, RefreshOutcome};
pub use verifier::Verifier;
