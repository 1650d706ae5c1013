//! Secrets that come from files or variables, as they are now.
//!
//! One in a file can be changed under way (a rotated Kubernetes Secret, say): whoever holds it looks at the file again
//! every few seconds, and readers see the new value with the next call, without a lock.

mod encryption;
mod file;
mod text;
mod watched;

pub use encryption::Encryption;
pub(crate) use file::{FileFault, read_whole};
pub(crate) use text::FromSecretText;
pub use text::UnusableSecret;
pub(crate) use watched::Watched;

/// What a look at a secret's file has to tell.
#[derive(Debug)]
pub struct Reload {
    /// The settings key that leads to the file.
    pub key: String,
    /// What happened to it.
    pub outcome: ReloadOutcome,
}

/// What happened to a secret between two looks.
#[derive(Debug)]
pub enum ReloadOutcome {
    /// A new value counts from now on.
    Changed,
    /// The file cannot serve as it is now; the old value still counts. Told once for each new reason, not at each look.
    Failed(UnusableSecret),
    /// The file is well again, and says what it said before.
    Recovered,
}
