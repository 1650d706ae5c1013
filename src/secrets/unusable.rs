//! Reasons why a secret cannot be used.

use std::error::Error;
use std::path::{Path, PathBuf};

use crate::domain::secrets::InvalidSecret;

/// Reason why a secret cannot be used. Its text never repeats the secret.
#[derive(Debug, thiserror::Error)]
pub enum UnusableSecret {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", display(.file))]
    Unreadable {
        /// The path from the settings.
        file: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The path leads to a directory, a device or a pipe.
    #[error("{} is not a regular file", display(.0))]
    NotAFile(PathBuf),
    /// The file is larger than any secret of its kind.
    #[error("{} is larger than {limit_kib} KiB", display(.file))]
    TooLarge {
        /// The path from the settings.
        file: PathBuf,
        /// The largest size that is read, in KiB.
        limit_kib: usize,
    },
    /// The content is not valid UTF-8.
    #[error("the secret is not valid UTF-8")]
    NotText,
    /// The content is encoded in UTF-16.
    #[error("the secret is encoded in UTF-16: save the file as UTF-8")]
    Utf16,
    /// The environment has no such variable.
    #[error("the environment variable with this name is not set")]
    NotSet,
    /// The content has the wrong form.
    #[error("the secret {0}")]
    Invalid(#[from] InvalidSecret),
    /// The keys in the key file of an issuer cannot be used.
    #[error("the key file {0}")]
    InvalidKeys(#[source] Box<dyn Error + Send + Sync>),
    /// The file of certificate authorities cannot be used.
    #[error("the file {0}")]
    InvalidAuthorities(#[source] Box<dyn Error + Send + Sync>),
}

/// Returns the path for error texts. If the value does not look like a path, the text does not contain the value, because the
/// value may be a secret under the wrong key.
fn display(file: &Path) -> String {
    let path = file.display().to_string();
    if path.starts_with(['/', '.']) { format!("{path:?}") } else { "the file".to_owned() }
}
