//! The keys that seal stored secrets and links.

use std::sync::Arc;

use super::{ReloadableSecrets, SecretKind, Watched, utf8};
use crate::config::{EncryptionSettings, SettingsProblems};
use crate::domain::sealing::SealingKeys;

/// The settings key of the key file.
const KEY: &str = "encryption.key_file";

/// The keys of `[encryption]`, read again when their file changes. By default there are none.
#[derive(Debug, Default)]
pub struct Encryption(Option<Arc<Watched<SealingKeys>>>);

impl Encryption {
    /// Reads the key file, if the settings name one.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or its content is not a list of keys.
    pub fn load(settings: &EncryptionSettings) -> Result<Self, SettingsProblems> {
        let load = |path| {
            Watched::from_file(SecretKind::EncryptionKey, KEY.to_owned(), path, utf8(SealingKeys::parse))
        };
        Ok(Self(settings.key_file.as_deref().map(load).transpose()?))
    }

    /// Returns the current keys; `None` if none are configured. Callers must call this method again for each use, because the
    /// keys may change.
    pub fn keys(&self) -> Option<Arc<SealingKeys>> {
        self.0.as_deref().map(Watched::current)
    }

    /// Returns the secrets that may change while the process runs.
    pub fn secrets(&self) -> ReloadableSecrets {
        self.0.iter().map(|keys| keys.clone() as _).collect()
    }
}
