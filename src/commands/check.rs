//! `check`: reports every problem that would prevent `serve` from working.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Failed, print, variable};
use crate::alovoice::check_connection;
use crate::app;
use crate::auth::{Refresh, RefreshOutcome, Verifier};
use crate::config::{
    AuthSettings, IssuerSettings, KeySource, NetworkSettings, Settings, SettingsProblem, SettingsProblems,
    StoreUrl,
};
use crate::domain::clock::SystemClock;
use crate::http_client::Network;
use crate::secrets::Encryption;
use crate::store::postgres::{self, PostgresOpenError};
use crate::store::sqlite::{self, SqliteOpenError};
use crate::telemetry::spans::CollectorHeaders;

/// The problems found so far.
#[derive(Default)]
struct Report {
    /// Mistakes in the settings and in the files that they name.
    settings: Vec<String>,
    /// Faults of this machine and of other servers, which may be temporary.
    faults: Vec<String>,
    /// Outages that do not prevent a start.
    warnings: Vec<String>,
}

impl Report {
    /// Records the problems of settings, and returns the value if there are none.
    fn accept<T>(&mut self, checked: Result<T, SettingsProblems>) -> Option<T> {
        checked
            .map_err(|SettingsProblems(found)| self.settings.extend(found.iter().map(ToString::to_string)))
            .ok()
    }

    fn finish(self) -> Result<(), Failed> {
        for warning in &self.warnings {
            writeln!(std::io::stderr(), "warning: {warning}").map_err(Failed::fault)?;
        }
        let (has_settings, has_faults) = (!self.settings.is_empty(), !self.faults.is_empty());
        let report = [self.settings, self.faults].concat().join("\n");
        match (has_settings, has_faults) {
            (false, false) => print("settings, secrets, issuers' keys, addresses and store are valid"),
            (false, true) => Err(Failed::Fault(report)),
            (true, _) => Err(Failed::Usage(report)),
        }
    }
}

pub(super) async fn run(settings: &Settings) -> Result<(), Failed> {
    let mut report = Report::default();
    report.accept(app::tenants(settings, &variable));
    report.accept(Encryption::load(&settings.encryption));
    report.accept(CollectorHeaders::load(&settings.traces));
    check_vendor(settings, &mut report);
    let network = report.accept(Network::new(&settings.network));
    if let Some(network) = &network {
        check_vendor_connection(settings, network, &mut report).await;
    }
    let network = network.or_else(|| {
        // The unusable file is omitted, so that the issuers are also checked.
        Network::new(&NetworkSettings { ca_file: None, ..settings.network.clone() }).ok()
    });
    if let Some(network) = network {
        check_issuers(settings, &network, &mut report).await;
    }
    let is_used = check_address("server.listen", settings.server.listen, &mut report);
    check_address("server.admin_listen", settings.server.admin_listen, &mut report);
    check_store(settings, is_used, &mut report).await;
    report.finish()
}

/// Reports a `vendor.base_url` without TLS, because requests to the vendor contain tokens. `serve` works with such a URL and logs
/// a warning. A loopback address is never reported, and `vendor.allow_http` permits all other hosts.
fn check_vendor(settings: &Settings, report: &mut Report) {
    if settings.vendor.exposes_tokens() {
        let detail = "must be an https URL: the URLs of requests contain the tenants' tokens, and everyone on the network path \
                      can read them (vendor.allow_http allows it)";
        let problem = SettingsProblem { path: "vendor.base_url".to_owned(), detail: detail.to_owned() };
        report.settings.push(problem.to_string());
    }
}

/// Reports a vendor that does not answer. This outage is only a warning, because `serve` would start and its work would wait.
async fn check_vendor_connection(settings: &Settings, network: &Network, report: &mut Report) {
    let base_url = &settings.vendor.base_url;
    if settings.vendor.exposes_tokens() {
        return;
    }
    if let Err(reason) = check_connection(base_url, network).await {
        let problem = format!("vendor.base_url: cannot connect to {base_url}: {reason}");
        if reason.is_permanent() { report.faults.push(problem) } else { report.warnings.push(problem) }
    }
}

/// Reports key files that cannot be used, and key sets that cannot be fetched.
async fn check_issuers(settings: &Settings, network: &Network, report: &mut Report) {
    let failures: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let verifier = |settings: &AuthSettings| {
        let sink = Arc::clone(&failures);
        let note = move |refresh: &Refresh| {
            if let RefreshOutcome::Failed(error) = &refresh.outcome {
                let failure = (refresh.issuer.clone(), error.to_string());
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
            }
        };
        Verifier::new(settings, network, Arc::new(SystemClock), note)
    };
    let verifier = report.accept(verifier(&settings.auth)).or_else(|| {
        // A key file that cannot be used must not hide a URL that does not answer.
        let by_url = |issuer: &&IssuerSettings| matches!(issuer.keys, KeySource::JwksUrl { .. });
        let issuers = settings.auth.issuers.iter().filter(by_url).cloned().collect();
        verifier(&AuthSettings { issuers }).ok()
    });
    let Some(verifier) = verifier else { return };
    verifier.refresh_once().await;
    for (index, issuer) in settings.auth.issuers.iter().enumerate() {
        let KeySource::JwksUrl { url, .. } = &issuer.keys else { continue };
        let failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((name, error)) = failures.iter().find(|(name, _)| *name == issuer.issuer) else { continue };
        // A query may contain a key.
        let mut shown = url.clone();
        shown.set_query(None);
        report.faults.push(format!("auth.issuers[{index}].jwks_url: issuer {name}, {shown}: {error}"));
    }
}

/// Reports an address that this machine does not have, or whose port needs more rights. Returns whether its port is in use. A
/// port in use is not a problem here: `check` often runs while the gateway runs.
fn check_address(key: &str, address: SocketAddr, report: &mut Report) -> bool {
    match TcpListener::bind(address) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::AddrInUse => true,
        Err(error) => {
            report.faults.push(format!("{key}: cannot listen on {address}: {error}"));
            false
        }
    }
}

/// Reports a store that cannot be opened. If a gateway with these settings seems to run (`is_serving`), a SQLite file that is in
/// use is not a problem.
async fn check_store(settings: &Settings, is_serving: bool, report: &mut Report) {
    match &settings.store.url {
        StoreUrl::Sqlite(path) => match sqlite::inspect(path) {
            Err(SqliteOpenError::InUse(_)) if is_serving => {}
            checked => report.faults.extend(checked.err().map(|error| format!("store: {error}"))),
        },
        StoreUrl::Postgres(url) => match postgres::inspect(url, &settings.store).await {
            Ok(_) => {}
            // The error names the key.
            Err(PostgresOpenError::Settings(error)) => report.settings.push(error),
            Err(error) => report.faults.push(format!("store: {error}")),
        },
    }
}
