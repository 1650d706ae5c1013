//! From a file's or variable's text to a secret, and the reasons why not.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::{FileFault, read_whole};
use crate::domain::sealing::SealingKeys;
use crate::domain::secrets::{CallbackSecret, InvalidSecret, VendorToken};

/// No secret is larger; whoever names `/dev/zero` by mistake is told so and does not fill the memory.
const MAX_BYTES: usize = 64 * 1024;

/// Why a secret cannot be had. It never repeats the text, nor what may be the secret in the place of its file or variable.
#[derive(Debug, thiserror::Error)]
pub enum UnusableSecret {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", shown(.file))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("{} is not a regular file", shown(.0))]
    NotAFile(PathBuf),
    /// Far beyond any secret.
    #[error("{} is larger than a secret can be (64 KiB)", shown(.0))]
    TooLarge(PathBuf),
    /// Not UTF-8.
    #[error("{} is not a text in UTF-8", shown(.0))]
    NotText(PathBuf),
    /// The environment has no such variable.
    #[error("the environment variable of this name is not set")]
    NotSet,
    /// The text cannot be such a secret.
    #[error("the secret {0}")]
    Invalid(#[from] InvalidSecret),
}

/// What does not begin like a path may be a token that was put where its file's path belongs.
fn shown(file: &Path) -> String {
    let path = file.display().to_string();
    if path.starts_with(['/', '.']) { format!("{path:?}") } else { "the file".to_owned() }
}

/// What is made of a secret's text.
pub(crate) trait FromSecretText: Sized {
    /// Reads the text.
    fn from_secret_text(text: &str) -> Result<Self, InvalidSecret>;

    /// Whether both are the same secret.
    fn is_same(&self, other: &Self) -> bool;
}

impl FromSecretText for VendorToken {
    fn from_secret_text(text: &str) -> Result<Self, InvalidSecret> {
        Self::parse(text)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

/// Several secrets with white space between them.
impl FromSecretText for Vec<CallbackSecret> {
    fn from_secret_text(text: &str) -> Result<Self, InvalidSecret> {
        let secrets = text.split_whitespace().map(CallbackSecret::parse).collect::<Result<Self, _>>()?;
        if secrets.is_empty() { Err(InvalidSecret::Empty) } else { Ok(secrets) }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other).all(|(one, other)| one.matches(other))
    }
}

impl FromSecretText for SealingKeys {
    fn from_secret_text(text: &str) -> Result<Self, InvalidSecret> {
        Self::parse(text)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

/// Reads a secret from a file.
pub(super) fn read<T: FromSecretText>(file: &Path) -> Result<T, UnusableSecret> {
    let bytes = read_whole(file, MAX_BYTES).map_err(|fault| match fault {
        FileFault::Unreadable(source) => UnusableSecret::Unreadable { file: file.to_owned(), source },
        FileFault::NotAFile => UnusableSecret::NotAFile(file.to_owned()),
        FileFault::TooLarge => UnusableSecret::TooLarge(file.to_owned()),
    })?;
    let text =
        std::str::from_utf8(bytes.expose_secret()).map_err(|_| UnusableSecret::NotText(file.to_owned()))?;
    Ok(T::from_secret_text(text)?)
}
