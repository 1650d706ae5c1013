//! One secret and the file that it comes from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use secrecy::ExposeSecret;

use super::file::read_whole;
use super::{Reload, ReloadableSecret, SecretKind, UnusableSecret};
use crate::config::SettingsProblem;
use crate::domain::secrets::{InvalidSecret, check_visible};

/// Function that creates a secret from the content of its file.
type Parser<T> = Box<dyn Fn(&[u8]) -> Result<T, UnusableSecret> + Send + Sync>;

/// A secret that is read again when its file changes. A secret from an environment variable never changes.
pub(crate) struct Watched<T> {
    kind: SecretKind,
    key: String,
    current: ArcSwap<T>,
    file: Option<WatchedFile<T>>,
}

struct WatchedFile<T> {
    path: PathBuf,
    parse: Parser<T>,
    last_read: Mutex<LastRead>,
}

/// The state after the last read of a file.
struct LastRead {
    /// SHA-256 of the content in use, without the trailing line break and the byte-order mark.
    fingerprint: digest::Digest,
    /// Reason why the last read failed. Each reason is reported once.
    failure: Option<String>,
}

impl<T> Watched<T> {
    /// Reads a secret from its file for the first time; `key` is the settings key that names the file.
    pub(crate) fn from_file(
        kind: SecretKind,
        key: String,
        path: &Path,
        parse: impl Fn(&[u8]) -> Result<T, UnusableSecret> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, SettingsProblem> {
        let (secret, fingerprint) = match read(kind, path, &parse) {
            Ok(read) => read,
            Err(error) => return Err(SettingsProblem { path: key, detail: error.to_string() }),
        };
        let last_read = Mutex::new(LastRead { fingerprint, failure: None });
        let file = WatchedFile { path: path.to_owned(), parse: Box::new(parse), last_read };
        Ok(Arc::new(Self { kind, key, current: ArcSwap::from_pointee(secret), file: Some(file) }))
    }

    /// Takes a secret from the value of an environment variable; `key` is the settings key that names the variable.
    pub(crate) fn from_variable(
        kind: SecretKind,
        key: String,
        value: Option<String>,
        parse: impl Fn(&[u8]) -> Result<T, UnusableSecret>,
    ) -> Result<Arc<Self>, SettingsProblem> {
        match value.ok_or(UnusableSecret::NotSet).and_then(|value| parse(value.as_bytes())) {
            Ok(secret) => {
                Ok(Arc::new(Self { kind, key, current: ArcSwap::from_pointee(secret), file: None }))
            }
            Err(error) => Err(SettingsProblem { path: key, detail: error.to_string() }),
        }
    }

    /// Returns the secret in use.
    pub(crate) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }
}

impl<T: Send + Sync> ReloadableSecret for Watched<T> {
    fn key(&self) -> &str {
        &self.key
    }

    fn kind(&self) -> SecretKind {
        self.kind
    }

    /// Reads the file again. Another program may be writing the file, so the file may look empty or truncated. An empty file is
    /// an error, which the next read corrects. But a truncated token looks like a complete one, so operators should replace
    /// files by a rename, as Kubernetes does.
    fn reload(&self) -> Option<Reload> {
        let file = self.file.as_ref()?;
        // The lock is held until the end, so that the older of two concurrent reads cannot overwrite the newer one.
        let mut last_read = file.last_read();
        match read(self.kind, &file.path, &file.parse) {
            Ok((_, fingerprint)) if fingerprint.as_ref() == last_read.fingerprint.as_ref() => {
                last_read.failure.take().map(|_| Reload::Recovered)
            }
            Ok((secret, fingerprint)) => {
                *last_read = LastRead { fingerprint, failure: None };
                self.current.store(Arc::new(secret));
                Some(Reload::Changed)
            }
            Err(error) => {
                let reason = Some(error.to_string());
                let is_known = last_read.failure == reason;
                last_read.failure = reason;
                (!is_known).then_some(Reload::Failed(error))
            }
        }
    }

    fn is_unreadable(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.last_read().failure.is_some())
    }
}

impl<T> WatchedFile<T> {
    fn last_read(&self) -> MutexGuard<'_, LastRead> {
        self.last_read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Reads and parses the file of a secret.
fn read<T>(
    kind: SecretKind,
    path: &Path,
    parse: &impl Fn(&[u8]) -> Result<T, UnusableSecret>,
) -> Result<(T, digest::Digest), UnusableSecret> {
    let content = read_whole(path, kind.max_file_bytes())?;
    let content = content.expose_secret();
    let fingerprint = digest::digest(&digest::SHA256, trimmed(content));
    Ok((parse(content)?, fingerprint))
}

/// Returns the content without the line break at its end and, if it is text, without a byte-order mark. Editors add
/// both, but they are not part of a secret.
pub(crate) fn trimmed(content: &[u8]) -> &[u8] {
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    match std::str::from_utf8(content) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).as_bytes(),
        Err(_) => content,
    }
}

/// Creates a parser of a file's content from a parser of text. The new parser removes a byte-order mark and refuses
/// other invisible characters.
pub(crate) fn utf8<T>(
    parse: impl Fn(&str) -> Result<T, InvalidSecret>,
) -> impl Fn(&[u8]) -> Result<T, UnusableSecret> {
    move |content| {
        if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
            return Err(UnusableSecret::Utf16);
        }
        let text = std::str::from_utf8(content).map_err(|_| UnusableSecret::NotText)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        check_visible(text)?;
        Ok(parse(text)?)
    }
}
