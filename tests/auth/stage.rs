//! The fixture of each test: a verifier, a clock, key files, and the results of key refreshes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alovoice_gateway::auth::{Caller, Refresh, RefreshOutcome, Verifier};
use alovoice_gateway::config::{AuthSettings, IssuerSettings, KeySource, NetworkSettings, SettingsProblems};
use alovoice_gateway::domain::claim_path::ClaimPath;
use alovoice_gateway::domain::clock::{Clock, Timestamp};
use alovoice_gateway::http_client::Network;
use alovoice_gateway::secrets::Reload;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

use crate::clock::ManualClock;

pub(crate) const ISSUER: &str = "https://issuer.test";
pub(crate) const AUDIENCE: &str = "alovoice-gateway";
/// Time at the start of each test, in seconds since the epoch.
pub(crate) const NOW: i64 = 1_716_207_617;
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) const REFRESH: Duration = Duration::from_secs(600);
pub(crate) const MAX_STALE: Duration = Duration::from_secs(3600);
pub(crate) const REFETCH_PAUSE: Duration = Duration::from_secs(30);

pub(crate) struct Stage {
    pub(crate) verifier: Verifier,
    pub(crate) clock: Arc<ManualClock>,
    refreshes: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    pub(crate) fn new(issuers: Vec<IssuerSettings>) -> Self {
        Self::try_new(issuers).unwrap()
    }

    pub(crate) fn try_new(issuers: Vec<IssuerSettings>) -> Result<Self, SettingsProblems> {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_millis(NOW * 1000)));
        let refreshes: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&refreshes);
        let observer = move |refresh: &Refresh| {
            assert!(!format!("{refresh:?}").contains("hunter2"), "the URL is never shown");
            let outcome = match &refresh.outcome {
                RefreshOutcome::Updated => "updated".to_owned(),
                RefreshOutcome::Unchanged => "unchanged".to_owned(),
                RefreshOutcome::Failed(reason) => format!("failed: {reason}"),
            };
            log.lock().unwrap().push(outcome);
        };
        let network = Network::new(&NetworkSettings::default())?;
        let verifier = Verifier::new(&AuthSettings { issuers }, &network, clock.clone(), observer)?;
        Ok(Self { verifier, clock, refreshes })
    }

    /// Verifies a token; the error is the reason for its rejection.
    pub(crate) async fn verify(&self, token: &str) -> Result<Arc<Caller>, &'static str> {
        self.verifier.verify(token).await.map_err(|rejected| rejected.rejection.reason())
    }

    /// `ok`, or the reason for the token's rejection.
    pub(crate) async fn verdict(&self, token: &str) -> &'static str {
        self.verify(token).await.map_or_else(|reason| reason, |_| "ok")
    }

    /// Advances the clock, fetches the JWKS URLs that are due, and returns the results since the last call.
    pub(crate) async fn refresh_after(&self, time: Duration) -> Vec<String> {
        self.clock.advance(time);
        self.verifier.refresh_once().await;
        self.refreshes()
    }

    /// The results of fetches since the last call.
    pub(crate) fn refreshes(&self) -> Vec<String> {
        std::mem::take(&mut *self.refreshes.lock().unwrap())
    }

    /// Reads all key files again and returns the results.
    pub(crate) fn reload(&self) -> Vec<String> {
        let results = self.verifier.secrets().into_iter().filter_map(|secret| {
            Some(match secret.reload()? {
                Reload::Changed => "changed".to_owned(),
                Reload::Failed(error) => format!("failed: {error}"),
                Reload::Recovered => "recovered".to_owned(),
            })
        });
        results.collect()
    }

    /// Time until the next fetch.
    pub(crate) fn pause(&self) -> Duration {
        self.verifier.next_refresh().unwrap().since(self.clock.now())
    }
}

/// Settings of an issuer with these algorithms and keys.
pub(crate) fn issuer(algorithms: &[Algorithm], keys: KeySource) -> IssuerSettings {
    IssuerSettings {
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned(), "another-of-ours".to_owned()],
        algorithms: algorithms.to_vec(),
        keys,
        tenant_claim: paths(&["tenant"]),
        scope_claim: paths(&["scope"]),
    }
}

/// Keys at a JWKS URL.
pub(crate) fn jwks_url(url: &Url) -> KeySource {
    KeySource::JwksUrl {
        url: url.clone(),
        refresh: REFRESH,
        max_stale: MAX_STALE,
        refetch_pause: REFETCH_PAUSE,
        // The machine may be busy.
        timeout: Duration::from_mins(5),
    }
}

/// Paths of claims.
pub(crate) fn paths(names: &[&str]) -> Vec<ClaimPath> {
    names.iter().map(|name| ClaimPath::parse(name).unwrap()).collect()
}

/// Valid claims.
pub(crate) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 86_400, "tenant": "acme"})
}

/// Valid claims with changes; a `null` removes a claim.
pub(crate) fn claims_with(changes: &Value) -> Value {
    let mut claims = claims();
    let members = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    claims
}

/// A temporary directory with one file.
pub(crate) fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    std::fs::write(&path, content).unwrap();
    (directory, path)
}
