//! The keys of one issuer: from a file or from a URL.

use std::sync::Arc;

use super::jwks_client::JwksClient;
use super::jws::Jws;
use super::key_set::{KeyFormat, KeySet};
use super::rejection::Rejection;
use super::remote_keys::{RefreshObserver, RemoteKeys, Timing};
use crate::config::{IssuerSettings, KeySource, SettingsProblem, key_path};
use crate::domain::clock::{Clock, Timestamp};
use crate::http_client::Network;
use crate::secrets::{SecretKind, UnusableSecret, Watched};

/// The keys of one issuer.
#[derive(Clone)]
pub(super) enum IssuerKeys {
    /// Keys from a file. The worker that watches all secret files reads them again.
    File(Arc<Watched<KeySet>>),
    /// Keys from a JWKS URL, fetched in the background.
    Remote(Arc<RemoteKeys>),
}

impl IssuerKeys {
    /// Reads a key file immediately. The first refresh fetches a JWKS URL. `path` is the settings key of the
    /// issuer.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has no usable key, or if no HTTP client can be built.
    pub(super) fn load(
        settings: &IssuerSettings,
        path: &str,
        network: &Network,
        clock: &Arc<dyn Clock>,
        observer: &RefreshObserver,
    ) -> Result<Self, SettingsProblem> {
        let (setting, file, format) = match &settings.keys {
            KeySource::JwksUrl { url, refresh, max_stale, refetch_pause, timeout } => {
                let client = JwksClient::new(url.clone(), *timeout, network);
                let client = client.map_err(|error| SettingsProblem {
                    path: key_path(path, "jwks_url"),
                    detail: error.to_string(),
                })?;
                let timing =
                    Timing { refresh: *refresh, max_stale: *max_stale, refetch_pause: *refetch_pause };
                let (clock, observer) = (Arc::clone(clock), Arc::clone(observer));
                return Ok(Self::Remote(RemoteKeys::new(settings, client, timing, clock, observer)));
            }
            KeySource::JwksFile(file) => ("jwks_file", file, KeyFormat::Jwks),
            KeySource::PublicKeyFile(file) => ("public_key_file", file, KeyFormat::PublicKey),
            KeySource::HmacSecretFile(file) => ("hmac_secret_file", file, KeyFormat::Secret),
        };
        let allowed = settings.algorithms.clone();
        let parse = move |content: &[u8]| {
            KeySet::parse(format, content, &allowed)
                .map_err(|error| UnusableSecret::InvalidKeys(Box::new(error)))
        };
        Watched::from_file(SecretKind::IssuerKey, key_path(path, setting), file, parse).map(Self::File)
    }

    /// Returns the current keys; `None` if they were never fetched, or if the last good ones are too old.
    pub(super) fn current(&self, now: Timestamp) -> Option<Arc<KeySet>> {
        match self {
            Self::File(keys) => Some(keys.current()),
            Self::Remote(keys) => keys.current(now),
        }
    }

    /// Checks the token's signature and returns the keys that verified it.
    ///
    /// # Errors
    /// The errors of [`KeySet::verify`], and [`Rejection::KeysUnavailable`] if there are no current keys.
    pub(super) async fn verify(&self, jws: &Jws<'_>) -> Result<Arc<KeySet>, Rejection> {
        match self {
            Self::File(keys) => {
                let keys = keys.current();
                keys.verify(jws).map(|()| keys)
            }
            Self::Remote(keys) => keys.verify(jws).await,
        }
    }
}
