//! Secrets in files or environment variables that the settings name.
//!
//! A secret in a file may change while the process runs, for example when Kubernetes updates a mounted Secret. The
//! secret refresher worker reads each file again every few seconds through [`ReloadableSecret`]. A reader gets the
//! new value with its next call. Readers take no lock.

mod encryption;
mod file;
mod kind;
mod unusable;
mod watched;

use std::sync::Arc;

pub use encryption::Encryption;
pub use kind::SecretKind;
pub use unusable::UnusableSecret;
pub(crate) use watched::{Watched, trimmed, utf8};

/// A secret whose file may change while the process runs.
pub trait ReloadableSecret: Send + Sync {
    /// Returns the settings key that names the file, such as `tenants.acme.vendor_token_file`.
    fn key(&self) -> &str;

    /// Returns the kind of secret.
    fn kind(&self) -> SecretKind;

    /// Reads the file again. Returns `None` if neither the secret nor the state of its file has changed since the
    /// last read.
    ///
    /// The call blocks on the file system, so async code must run it on a blocking thread.
    fn reload(&self) -> Option<Reload>;

    /// Whether the last read of the file failed. Until a read succeeds, the previous value stays in use.
    fn is_unreadable(&self) -> bool;
}

/// All secrets of one part of the gateway. A worker reads their files again.
pub type ReloadableSecrets = Vec<Arc<dyn ReloadableSecret>>;

/// The result of reading a secret's file again.
#[derive(Debug)]
pub enum Reload {
    /// The file has a new value, which is used from now on.
    Changed,
    /// The file cannot be used, so the previous value stays in use. Each new reason is reported once.
    Failed(UnusableSecret),
    /// The file can be used again, and its content is the value in use.
    Recovered,
}
