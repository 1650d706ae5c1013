//! The keys that seal what is kept and handed out.

use std::sync::Arc;

use super::{Reload, Watched};
use crate::config::{EncryptionSettings, SecretSource, SettingsProblem, SettingsProblems};
use crate::domain::sealing::SealingKeys;

/// The settings key of the keys' file.
const KEY: &str = "encryption.key_file";

/// `[encryption]`, as it is now.
#[derive(Debug)]
pub struct Encryption(Option<Watched<SealingKeys>>);

impl Encryption {
    /// Reads the keys, if there is a file of them.
    ///
    /// # Errors
    /// [`SettingsProblems`], if the file cannot be read or holds something else.
    pub fn load(settings: &EncryptionSettings) -> Result<Self, SettingsProblems> {
        let problem = |error: super::UnusableSecret| {
            SettingsProblems(vec![SettingsProblem { path: KEY.to_owned(), detail: error.to_string() }])
        };
        let source = settings.key_file.clone().map(SecretSource::File);
        let keys = source.map(|source| Watched::load(&source, &|_| None)).transpose().map_err(problem)?;
        Ok(Self(keys))
    }

    /// The keys as they are now. Not to be kept: the next use asks again.
    pub fn keys(&self) -> Option<Arc<SealingKeys>> {
        self.0.as_ref().map(Watched::current)
    }

    /// Whether the file could not be used at the last look: the keys from before still count.
    pub fn is_failing(&self) -> bool {
        self.0.as_ref().is_some_and(Watched::is_failing)
    }

    /// Looks at the file again; `None` if there is nothing to tell. It reads a small file and so blocks.
    pub fn reload_once(&self) -> Option<Reload> {
        let outcome = self.0.as_ref()?.reload()?;
        Some(Reload { key: KEY.to_owned(), outcome })
    }
}
