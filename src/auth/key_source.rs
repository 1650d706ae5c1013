//! Where an issuer's keys come from: a file, read at once and looked at again and again, or an address.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use secrecy::SecretSlice;
use url::Url;

use super::key::{Key, KeyFault};
use super::key_set::KeySet;
use crate::http_client;
use crate::secrets::{FileFault, read_whole};

/// More than any key set needs; a bound on what a mistaken path or a hostile server can make us hold.
const MOST_BYTES: usize = 1024 * 1024;

/// One deadline over connection, headers and body.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Why keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeySourceError {
    /// The file could not be read.
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    /// A directory, a device, a pipe.
    #[error("is not a regular file")]
    NotAFile,
    /// No HTTP client could be made, for instance because the system has no root certificates.
    #[error("has no HTTP client to be fetched with: {}", innermost(.0))]
    Client(#[source] reqwest::Error),
    /// The address could not be fetched. The error has lost its URL, which may carry a password.
    #[error("cannot be fetched: {}", innermost(.0))]
    Fetch(#[source] reqwest::Error),
    /// The address answered something other than 200; redirects are not followed.
    #[error("answered with status {0}")]
    Status(u16),
    /// More than 1 MiB, if need be after decompression.
    #[error("is larger than 1 MiB")]
    TooLarge,
    /// Not a JWK Set (RFC 7517, 5).
    #[error("is not a JWK Set (line {line}, column {column})")]
    NotAKeySet {
        /// Where reading it failed.
        line: usize,
        /// Where reading it failed.
        column: usize,
    },
    /// A JWK Set with no key in it.
    #[error("is a JWK Set without keys")]
    Empty,
    /// A JWK Set with keys, but none for us.
    #[error("has no usable key among its {keys}; the first {first}")]
    NoUsableKey {
        /// How many it has.
        keys: usize,
        /// What is wrong with the first.
        first: KeyFault,
    },
    /// Shared secrets beside public keys: sooner or later somebody publishes such a file.
    #[error("has shared secrets and public keys in one set")]
    Mixed,
    /// The one key in the file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFault),
}

/// reqwest's own text stops short of the reason.
fn innermost(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// What a source's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A JWK Set that anybody may fetch.
    PublishedJwks,
    /// A JWK Set on our own disk, which may hold shared secrets.
    Jwks,
    /// A PEM public key.
    PublicKey,
    /// A shared secret.
    Secret,
}

impl Format {
    /// Makes keys of the bytes.
    pub(super) fn parse(self, bytes: &[u8], allowed: &[Algorithm]) -> Result<KeySet, KeySourceError> {
        match self {
            Self::PublishedJwks => KeySet::from_jwks(bytes, allowed, true),
            Self::Jwks => KeySet::from_jwks(bytes, allowed, false),
            Self::PublicKey => Ok(KeySet::of(Key::from_pem(bytes, allowed)?)),
            Self::Secret => Ok(KeySet::of(Key::from_secret(bytes, allowed)?)),
        }
    }
}

/// Reads a file of keys, one of which may be a secret.
pub(super) fn read(path: &Path) -> Result<SecretSlice<u8>, KeySourceError> {
    read_whole(path, MOST_BYTES).map_err(|fault| match fault {
        FileFault::Unreadable(source) => KeySourceError::Read(source),
        FileFault::NotAFile => KeySourceError::NotAFile,
        FileFault::TooLarge => KeySourceError::TooLarge,
    })
}

/// The same, off the threads that serve requests: a mount may hang.
pub(super) async fn read_aside(path: PathBuf) -> Result<SecretSlice<u8>, KeySourceError> {
    match tokio::task::spawn_blocking(move || read(&path)).await {
        Ok(read) => read,
        Err(error) => Err(KeySourceError::Read(io::Error::other(error))),
    }
}

/// The client that fetches key sets: straight to the address that the settings name, and no further.
pub(super) fn http_client() -> Result<reqwest::Client, KeySourceError> {
    http_client::builder().timeout(FETCH_TIMEOUT).build().map_err(KeySourceError::Client)
}

/// Fetches a published key set.
pub(super) async fn fetch(client: &reqwest::Client, url: &Url) -> Result<SecretSlice<u8>, KeySourceError> {
    let failed = |error: reqwest::Error| KeySourceError::Fetch(error.without_url());
    let mut response = client.get(url.clone()).send().await.map_err(failed)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(KeySourceError::Status(response.status().as_u16()));
    }
    let mut bytes = Vec::new();
    // Chunks come decompressed, so the bound holds for what a small gzip body unfolds to.
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MOST_BYTES {
            return Err(KeySourceError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.into())
}
