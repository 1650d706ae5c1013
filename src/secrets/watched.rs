//! One secret that may change under way.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::ReloadOutcome;
use super::text::{FromSecretText, UnusableSecret, read};
use crate::config::SecretSource;

/// A secret and the file that it comes from. One from a variable stays as it is: a process keeps its environment.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    current: ArcSwap<T>,
    file: Option<WatchedFile>,
}

#[derive(Debug)]
struct WatchedFile {
    path: PathBuf,
    /// Why the last look failed, so that one reason is told once.
    failing: Mutex<Option<String>>,
}

impl<T: FromSecretText> Watched<T> {
    /// Reads the secret for the first time.
    pub(crate) fn load(
        source: &SecretSource,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<Self, UnusableSecret> {
        let (secret, file) = match source {
            SecretSource::File(path) => {
                (read(path)?, Some(WatchedFile { path: path.clone(), failing: Mutex::default() }))
            }
            SecretSource::Env(name) => {
                (T::from_secret_text(&variable(name).ok_or(UnusableSecret::NotSet)?)?, None)
            }
        };
        Ok(Self { current: ArcSwap::from_pointee(secret), file })
    }

    /// The secret as it is now.
    pub(crate) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Whether the last look failed: what the file held before still counts.
    pub(crate) fn is_failing(&self) -> bool {
        let Some(WatchedFile { failing, .. }) = &self.file else { return false };
        failing.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Looks at the file again; `None` if there is nothing to tell.
    ///
    /// A file that is just being written may be seen empty or cut short. Empty fails and is mended by the next look; a token
    /// cut short cannot be told from a whole one, so files had better be replaced by a rename, as Kubernetes does.
    pub(crate) fn reload(&self) -> Option<ReloadOutcome> {
        let WatchedFile { path, failing } = self.file.as_ref()?;
        // Held to the end, so that of two looks at once the later one does not put the older secret back.
        let mut failing = failing.lock().unwrap_or_else(PoisonError::into_inner);
        match read::<T>(path) {
            Ok(secret) if self.current.load().is_same(&secret) => {
                failing.take().map(|_| ReloadOutcome::Recovered)
            }
            Ok(secret) => {
                *failing = None;
                self.current.store(Arc::new(secret));
                Some(ReloadOutcome::Changed)
            }
            Err(error) => {
                let reason = error.to_string();
                let is_known = failing.as_ref() == Some(&reason);
                *failing = Some(reason);
                (!is_known).then_some(ReloadOutcome::Failed(error))
            }
        }
    }
}
