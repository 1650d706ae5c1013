//! Commands of the program: parses the arguments and runs one command to its end.

mod arguments;
mod check;
mod check_token;
mod health;
mod sandbox;
mod store_confirm_clock;
mod store_copy;
mod store_reseal;
mod token;

use std::fmt::Display;
use std::future::Future;
use std::io::Write;

use tokio::signal::unix::{SignalKind, signal};

pub use self::arguments::Cli;
use self::arguments::{Command, ConfigArgs, StoreCommand};
use crate::app::{self, StartError};
use crate::config::{self, Settings};
use crate::domain::public_url::PublicUrl;
use crate::http::document;
use crate::http_client::Network;
use crate::telemetry::{Telemetry, TelemetryError};

/// The error of a command. The variant determines the exit code.
#[derive(Debug)]
pub enum Failed {
    /// An error at run time: exit code 1.
    Fault(String),
    /// Wrong usage or settings: exit code 2.
    Usage(String),
}

impl Failed {
    /// Creates an error at run time.
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
/// [`Failed`], whose text the caller prints on standard error.
pub async fn run(cli: Cli) -> Result<(), Failed> {
    match cli.command {
        Command::Serve(arguments) => serve(&load(&arguments)?).await,
        Command::Sandbox(arguments) => sandbox::run(&arguments, shutdown_signal()?).await,
        Command::Token(arguments) => token::run(&arguments),
        Command::Openapi => print(&openapi()?),
        Command::Check(arguments) => {
            let settings = load(&arguments.config)?;
            match &arguments.token {
                Some(file) => check_token::run(&settings, file).await,
                None => check::run(&settings).await,
            }
        }
        Command::Health(arguments) => health::run(&load(&arguments)?).await,
        Command::Store(StoreCommand::Copy(arguments)) => store_copy::run(&arguments).await,
        Command::Store(StoreCommand::ConfirmClock(arguments)) => {
            store_confirm_clock::run(&load(&arguments)?).await
        }
        Command::Store(StoreCommand::Reseal(arguments)) => {
            store_reseal::run(&load(&arguments.config)?, arguments.check).await
        }
    }
}

/// Returns the OpenAPI document. It is equal to the committed file in `openapi/`.
///
/// # Errors
/// Returns an error if the document cannot be serialized as JSON, which would be a bug.
pub fn openapi() -> Result<String, Failed> {
    document::document(&PublicUrl::default()).to_pretty_json().map_err(Failed::fault)
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
    let network = Network::new(&settings.network).map_err(Failed::usage)?;
    let telemetry = Telemetry::start(settings, &network).map_err(|error| Failed::of_telemetry(&error))?;
    let shutdown = shutdown_signal()?;
    tokio::pin!(shutdown);
    let started = tokio::select! {
        started = app::start(settings, &variable, &network, telemetry) => started,
        () = &mut shutdown => return Ok(()),
    };
    let gateway = started.map_err(|error| Failed::of_start(&error))?;
    shutdown.await;
    // The drain releases the leases of unfinished work, so other replicas or the next start can continue this work.
    gateway.drain().await;
    Ok(())
}

/// Installs handlers of SIGTERM and Ctrl-C, and returns a future that ends at the first of these signals.
///
/// The handlers are in place before the program reports that it is ready. After that, a signal starts a drain and
/// does not kill the process.
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
