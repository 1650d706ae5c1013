//! Runs the commands of the program.

mod health;
mod sandbox;
mod store_copy;
mod store_reseal;

use std::fmt::Display;
use std::future::Future;
use std::io::Write;
use std::sync::Arc;

use secrecy::zeroize::Zeroizing;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{self, StartError};
use crate::auth::{DevelopmentToken, Refresh, RefreshOutcome, Verifier};
use crate::cli::{Cli, Command, ConfigArgs, StoreCommand, TokenArgs};
use crate::config::{self, IssuerSettings, KeySource, Settings, SettingsProblems, StoreUrl};
use crate::domain::clock::{Clock, SystemClock};
use crate::http::document;
use crate::secrets::Encryption;
use crate::store::{postgres, sqlite};
use crate::telemetry::spans::CollectorHeaders;
use crate::telemetry::{Telemetry, TelemetryError};

/// The error of a command, which decides the exit code.
#[derive(Debug)]
pub enum Failed {
    /// An error at run time: exit code 1.
    Fault(String),
    /// Wrong usage or settings: exit code 2.
    Usage(String),
}

impl Failed {
    /// An error at run time.
    pub fn fault(error: impl Display) -> Self {
        Self::Fault(error.to_string())
    }

    fn usage(error: impl Display) -> Self {
        Self::Usage(error.to_string())
    }

    fn of_telemetry(error: &TelemetryError) -> Self {
        if matches!(error, TelemetryError::Settings(_)) { Self::usage(error) } else { Self::fault(error) }
    }

    fn of_start(error: &StartError) -> Self {
        if error.is_of_settings() { Self::usage(error) } else { Self::fault(error) }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// [`Failed`], whose text belongs on standard error.
pub async fn run(cli: Cli) -> Result<(), Failed> {
    match cli.command {
        Command::Serve(arguments) => serve(&load(&arguments)?).await,
        Command::Sandbox(arguments) => sandbox::run(&arguments, shutdown_signal()?).await,
        Command::Token(arguments) => print(&token(&arguments)?),
        Command::Openapi => print(&openapi()?),
        Command::Check(arguments) => check(&load(&arguments)?).await,
        Command::Health(arguments) => health::run(&load(&arguments)?).await,
        Command::Store(StoreCommand::Copy(arguments)) => store_copy::run(&arguments).await,
        Command::Store(StoreCommand::Reseal(arguments)) => {
            store_reseal::run(&load(&arguments.config)?, arguments.check).await
        }
    }
}

/// Returns the OpenAPI document as it is committed.
///
/// # Errors
/// If the document cannot be written as JSON, which would be a bug.
pub fn openapi() -> Result<String, Failed> {
    document::document(None).to_pretty_json().map_err(Failed::fault)
}

fn load(arguments: &ConfigArgs) -> Result<Settings, Failed> {
    config::load(arguments.config.as_deref(), config::process_environment()).map_err(Failed::usage)
}

fn print(text: &str) -> Result<(), Failed> {
    writeln!(std::io::stdout(), "{text}").map_err(Failed::fault)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn serve(settings: &Settings) -> Result<(), Failed> {
    let telemetry = Telemetry::start(settings).map_err(|error| Failed::of_telemetry(&error))?;
    let shutdown = shutdown_signal()?;
    tokio::pin!(shutdown);
    let started = tokio::select! {
        started = app::start(settings, &variable, telemetry) => started,
        () = &mut shutdown => return Ok(()),
    };
    let gateway = started.map_err(|error| Failed::of_start(&error))?;
    shutdown.await;
    // The leases of unfinished work were released: other replicas, or the next start, continue it.
    gateway.drain().await;
    Ok(())
}

/// Installs handlers of SIGTERM and Ctrl-C, and returns a future that ends at the first of these signals.
///
/// The handlers are in place before the program reports that it is ready: a signal from then on drains and does not kill.
fn shutdown_signal() -> Result<impl Future<Output = ()>, Failed> {
    let mut terminated = signal(SignalKind::terminate()).map_err(Failed::fault)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(Failed::fault)?;
    Ok(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    })
}

fn token(arguments: &TokenArgs) -> Result<String, Failed> {
    let settings = load(&arguments.config)?;
    let (issuer, path) = hmac_issuer(&settings, arguments.issuer.as_deref())?;
    let secret = std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| Failed::usage(format!("cannot read {}: {error}", path.display())))?;
    let (Some(algorithm), Some(audience)) = (issuer.algorithms.first(), issuer.audiences.first()) else {
        return Err(Failed::usage("the issuer has no algorithm or no audience"));
    };
    let token = DevelopmentToken {
        algorithm: *algorithm,
        issuer: &issuer.issuer,
        audience,
        tenant_claim: &issuer.tenant_claim,
        tenant: &arguments.tenant,
        scope_claim: &issuer.scope_claim,
        scopes: &arguments.scope,
        subject: Some(&arguments.subject),
        lifetime: arguments.expires_in,
    };
    token.mint(&secret, SystemClock.now()).map_err(Failed::usage)
}

fn hmac_issuer<'a>(
    settings: &'a Settings,
    wanted: Option<&str>,
) -> Result<(&'a IssuerSettings, &'a std::path::Path), Failed> {
    let fits = |issuer: &&IssuerSettings| wanted.is_none_or(|wanted| issuer.issuer == wanted);
    let mut candidates = settings.auth.issuers.iter().filter(fits).filter_map(|issuer| match &issuer.keys {
        KeySource::HmacSecretFile(path) => Some((issuer, path.as_path())),
        KeySource::JwksUrl { .. } | KeySource::JwksFile(_) | KeySource::PublicKeyFile(_) => None,
    });
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Failed::usage("no such issuer has an hmac_secret_file: only those can mint tokens")),
        (Some(_), Some(_)) => {
            Err(Failed::usage("several issuers have an hmac_secret_file: say which by --issuer"))
        }
    }
}

/// Reports every problem that would prevent `serve` from working.
async fn check(settings: &Settings) -> Result<(), Failed> {
    let mut wrong = Vec::new();
    if let Err(SettingsProblems(problems)) = app::tenants(settings, &variable) {
        wrong.extend(problems);
    }
    if let Err(SettingsProblems(problems)) = Encryption::load(&settings.encryption) {
        wrong.extend(problems);
    }
    if let Err(SettingsProblems(problems)) = CollectorHeaders::load(&settings.traces) {
        wrong.extend(problems);
    }
    let (found, mut faults) = (Arc::new(std::sync::Mutex::new(Vec::new())), Vec::new());
    let sink = Arc::clone(&found);
    let note = move |refresh: &Refresh| {
        if let RefreshOutcome::Failed(error) = &refresh.outcome
            && let Ok(mut faults) = sink.lock()
        {
            faults.push(format!("issuer {}: {error}", refresh.issuer));
        }
    };
    match Verifier::new(&settings.auth, Arc::new(SystemClock), note) {
        Ok(verifier) => verifier.refresh_once().await,
        Err(SettingsProblems(problems)) => wrong.extend(problems),
    }
    if let Ok(mut found) = found.lock() {
        faults.append(&mut found);
    }
    let inspected = match &settings.store.url {
        StoreUrl::Sqlite(path) => sqlite::inspect(path).map_err(|error| error.to_string()),
        StoreUrl::Postgres(url) => {
            postgres::inspect(url, &settings.store).await.map(drop).map_err(|error| error.to_string())
        }
    };
    if let Err(error) = inspected {
        faults.push(format!("store: {error}"));
    }
    let told = wrong.iter().map(ToString::to_string).chain(faults).collect::<Vec<_>>().join("\n");
    match (wrong.is_empty(), told.is_empty()) {
        (true, true) => print("the settings are good, the issuers' keys and the store can be used"),
        (true, false) => Err(Failed::Fault(told)),
        (false, _) => Err(Failed::Usage(told)),
    }
}
