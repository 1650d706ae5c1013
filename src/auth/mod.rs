//! Verifies bearer tokens and returns a [`Caller`] or a [`Rejection`]. The module does not depend on the web framework.
//!
//! The steps of a verification:
//!
//! 1. [`bearer`] reads the token from the `Authorization` header.
//! 2. [`Verifier::verify`] returns the cached caller if the token was verified before, is still valid, and its issuer's keys
//!    are still the same.
//! 3. Otherwise `jws` parses the header, and `claims` reads `iss`. Only the keys of that issuer (`issuer_keys`) are used.
//! 4. The other claims are checked only after the signature is valid.
//!
//! Invariants: a key is pinned to its algorithms when it is loaded, so a token's `alg` can only choose one of these algorithms
//! (RFC 8725, 3.1). Nothing in a token can name the source of a key (`jku`, `jwk`, `x5u` and `x5c` are not read). No error
//! repeats any part of a token, except for [`Verifier::explain`], which quotes claims.

mod bearer;
mod caller;
mod claims;
mod development_token;
mod explanation;
mod issuer_keys;
mod jwks_client;
mod jws;
mod key;
mod key_set;
mod rejection;
mod remote_keys;
mod scope;
mod verifier;
#[cfg(test)]
mod wycheproof;

pub use bearer::bearer;
pub use caller::{Caller, Scopes};
pub use development_token::{DevelopmentToken, MintError};
pub use explanation::TokenCheck;
pub use jwks_client::FetchError;
pub use key::KeyFault;
pub use key_set::KeySetError;
pub use rejection::{RejectedToken, Rejection};
pub use remote_keys::{Refresh, RefreshOutcome};
pub use scope::Scope;
pub use verifier::Verifier;
