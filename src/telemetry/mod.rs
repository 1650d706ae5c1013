//! Telemetry: logs, spans and metrics for operators of a running gateway.

pub mod audit_log;
pub mod logs;
pub mod metrics;
pub mod spans;

use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use self::audit_log::{AuditLog, AuditThread};
use self::metrics::Metrics;
use self::spans::{CollectorHeaders, Export, ExporterError};
use crate::config::{InvalidLogFilter, Settings, SettingsProblems};
use crate::http_client::Network;

/// Reason why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The file of the collector's headers cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsProblems),
    /// The log filter is invalid. Settings from [`config::load`](crate::config::load) never have such a filter.
    #[error("log.filter {0}")]
    Filter(#[from] InvalidLogFilter),
    /// This process already has a `tracing` subscriber.
    #[error("logs are set up already")]
    AlreadySetUp(#[from] TryInitError),
    /// Two metrics have the same name.
    #[error("cannot register the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The thread of the audit log could not be started.
    #[error("cannot start the thread of the audit log: {0}")]
    Audit(#[source] std::io::Error),
    /// The exporter of spans could not be built.
    #[error("cannot export traces: {0}")]
    Exporter(#[from] ExporterError),
}

/// The telemetry of a process.
pub struct Telemetry {
    /// Metrics of the process, as `/metrics` exposes them.
    pub metrics: Arc<Metrics>,
    /// Headers for the collector of spans. They are reloaded when their file changes.
    pub collector_headers: Arc<CollectorHeaders>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    export: Export,
    /// Writes the waiting audit lines when the telemetry ends; `None` if there is no audit log.
    _audit: Option<AuditThread>,
}

impl Telemetry {
    /// Sends log lines and panics to standard error and spans to the collector. Call this once, before the first log
    /// line.
    ///
    /// # Errors
    /// [`TelemetryError`] if the settings are wrong, if a subscriber is set already, or if the exporter cannot be built.
    pub fn start(settings: &Settings, network: &Network) -> Result<Self, TelemetryError> {
        let metrics = Arc::new(Metrics::new()?);
        let collector_headers = Arc::new(CollectorHeaders::load(&settings.traces)?);
        let export = Export::new(settings, network, &collector_headers, &metrics)?;
        let logs = logs::layer(&settings.log)?;
        let audit = Arc::new(AuditLog::on_standard_error(&settings.log)?);
        tracing_subscriber::registry().with(export.layer()).with(logs).try_init()?;
        logs::log_panics();
        let thread = AuditThread::start(&audit).map_err(TelemetryError::Audit)?;
        Ok(Self { metrics, collector_headers, audit, export, _audit: Some(thread) })
    }

    /// Creates only the metrics. This function is for a gateway inside another program, such as a test, if that program
    /// configures logs and spans itself. Such a gateway has no audit log.
    ///
    /// # Errors
    /// Returns an error if two metrics have the same name.
    pub fn metrics_only() -> Result<Self, TelemetryError> {
        let (metrics, audit) = (Arc::new(Metrics::new()?), Arc::new(AuditLog::off()));
        let (collector_headers, export) = (Arc::default(), Export::default());
        Ok(Self { metrics, collector_headers, audit, export, _audit: None })
    }

    /// Exports the waiting spans within `patience`. No span is exported afterwards.
    pub async fn flush(&self, patience: Duration) {
        self.export.flush(patience).await;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    /// Gives one test at a time the right to set a subscriber. All subscribers of the process together determine
    /// which events are enabled.
    pub(super) fn exclusive() -> MutexGuard<'static, ()> {
        static EXCLUSIVE: Mutex<()> = Mutex::new(());
        EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes that a subscriber wrote.
    #[derive(Clone, Default)]
    pub(super) struct Captured(pub(super) Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Runs `work`, and returns its result and its log as text.
    pub(crate) fn logged<T>(work: impl FnOnce() -> T) -> (T, String) {
        let _exclusive = exclusive();
        let lines = Captured::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let result = tracing::subscriber::with_default(subscriber, work);
        let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        (result, log)
    }
}
