//! `check`: reports every problem that would prevent `serve` from working.

use std::sync::{Arc, Mutex};

use super::{Failed, print, variable};
use crate::app;
use crate::auth::{Refresh, RefreshOutcome, Verifier};
use crate::config::{Settings, SettingsProblems, StoreUrl};
use crate::domain::clock::SystemClock;
use crate::secrets::Encryption;
use crate::store::{postgres, sqlite};
use crate::telemetry::spans::CollectorHeaders;

pub(super) async fn run(settings: &Settings) -> Result<(), Failed> {
    let mut wrong = Vec::new();
    let mut note = |checked: Result<(), SettingsProblems>| {
        if let Err(SettingsProblems(problems)) = checked {
            wrong.extend(problems);
        }
    };
    note(app::tenants(settings, &variable).map(drop));
    note(Encryption::load(&settings.encryption).map(drop));
    note(CollectorHeaders::load(&settings.traces).map(drop));
    let (verifier, errors) = verifier(settings);
    let mut faults = Vec::new();
    match verifier {
        Ok(verifier) => verifier.refresh_once().await,
        Err(problems) => note(Err(problems)),
    }
    if let Ok(mut errors) = errors.lock() {
        faults.append(&mut errors);
    }
    if let Err(error) = inspect_store(settings).await {
        faults.push(format!("store: {error}"));
    }
    let report = wrong.iter().map(ToString::to_string).chain(faults).collect::<Vec<_>>().join("\n");
    match (wrong.is_empty(), report.is_empty()) {
        (true, true) => print("settings, secrets, issuers' keys and store are valid"),
        (true, false) => Err(Failed::Fault(report)),
        (false, _) => Err(Failed::Usage(report)),
    }
}

/// Returns the verifier of tokens, and a list that receives an error for each issuer whose keys fail to load.
fn verifier(settings: &Settings) -> (Result<Verifier, SettingsProblems>, Arc<Mutex<Vec<String>>>) {
    let errors = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&errors);
    let note = move |refresh: &Refresh| {
        if let RefreshOutcome::Failed(error) = &refresh.outcome
            && let Ok(mut errors) = sink.lock()
        {
            errors.push(format!("issuer {}: {error}", refresh.issuer));
        }
    };
    (Verifier::new(&settings.auth, Arc::new(SystemClock), note), errors)
}

async fn inspect_store(settings: &Settings) -> Result<(), String> {
    match &settings.store.url {
        StoreUrl::Sqlite(path) => sqlite::inspect(path).map_err(|error| error.to_string()),
        StoreUrl::Postgres(url) => {
            postgres::inspect(url, &settings.store).await.map(drop).map_err(|error| error.to_string())
        }
    }
}
