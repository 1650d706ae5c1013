//! Traces: what a call went through, from the request that submitted it to its callback, as OpenTelemetry spans that go
//! to a collector by OTLP.
//!
//! Ids, and whether a trace is recorded, are decided here and in [`domain::trace`](crate::domain::trace), and travel with
//! the call through the store: hours later another replica goes on in the same trace. The OpenTelemetry SDK has the
//! batches and the wire format. Off, or in a trace that is not recorded, a [`Span`] is a [`TraceContext`] and nothing else.
//!
//! No collector holds anything up: spans wait in a bounded queue, whatever does not fit is counted and lost, and a thread
//! of its own sends them.

mod admission;
mod client;
mod export;
mod headers;
mod resource;
mod span;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use self::admission::Admission;
use self::export::Recorder;
pub use self::headers::CollectorHeaders;
pub use self::resource::Variables;
pub use self::span::Span;
use crate::config::TracesSettings;
use crate::domain::clock::{Clock, Entropy};
use crate::domain::trace::TraceContext;
use crate::telemetry::metrics::Metrics;

/// The client of the collector cannot be built: TLS without root certificates, say.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The HTTP client.
    #[error("the HTTP client of the collector cannot be built")]
    Client(#[from] reqwest::Error),
    /// The exporter.
    #[error("the exporter cannot be built")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// The database, as traces name it (`db.system.name`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// In this process.
    Sqlite,
    /// A server.
    Postgresql,
}

/// What traces need from the rest of the house.
pub struct Around {
    /// The machine's time: traces meet those of others.
    pub wall_clock: Arc<dyn Clock>,
    /// For ids, and for who is recorded.
    pub entropy: Arc<dyn Entropy>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What the store is.
    pub database: Database,
}

/// Makes spans, or does not.
#[derive(Clone)]
pub struct Traces {
    on: Option<Arc<On>>,
    entropy: Arc<dyn Entropy>,
}

struct On {
    recorder: Arc<Recorder>,
    admission: Admission,
    database: Database,
}

impl Traces {
    /// Prepares everything if `traces.otlp_endpoint` is set; no connection is made before there is a span.
    ///
    /// # Errors
    /// If the collector's client cannot be built.
    pub fn new(
        settings: &TracesSettings,
        headers: Arc<CollectorHeaders>,
        variables: Variables<'_>,
        around: Around,
    ) -> Result<Self, BuildError> {
        let Around { wall_clock, entropy, metrics, database } = around;
        let on = match &settings.otlp_endpoint {
            None => None,
            Some(endpoint) => {
                let resource = resource::describe(variables, &*entropy);
                let exporter = export::exporter(endpoint, headers, &resource, metrics.clone())?;
                Some(Arc::new(On {
                    recorder: Arc::new(Recorder::start(exporter, wall_clock, metrics)),
                    admission: Admission::new(settings),
                    database,
                }))
            }
        };
        Ok(Self { on, entropy })
    }

    /// Whether there is a collector at all.
    pub const fn are_on(&self) -> bool {
        self.on.is_some()
    }

    /// The trace of a request: the caller's, or a new one; and whether it is recorded from here on.
    pub fn admit(&self, given: Option<TraceContext>) -> TraceContext {
        match (&self.on, given) {
            (None, given) => given.unwrap_or_else(|| TraceContext::start(&*self.entropy)),
            (Some(on), given) => on.admission.decide(given, &*self.entropy),
        }
    }

    /// A request that is being answered. `path` is as logs may show it.
    pub fn request(&self, parent: TraceContext, method: &'static str, path: &str) -> Span {
        self.begin(parent, |recorder, context| Span::request(recorder, context, parent, method, path))
    }

    /// Work that goes on without a caller, later and maybe elsewhere.
    pub fn work(&self, parent: TraceContext, name: &'static str) -> Span {
        self.begin(parent, |recorder, context| Span::work(recorder, context, parent, name))
    }

    /// A request to somebody else. `template` is what may be shown of its path; of `url` only the host and port are.
    pub fn call(
        &self,
        parent: TraceContext,
        method: &'static str,
        url: &Url,
        template: Option<&'static str>,
    ) -> Span {
        self.begin(parent, |recorder, context| Span::call(recorder, context, parent, (method, template), url))
    }

    /// An operation of the store; `table` is the one that it is about.
    pub fn store(&self, parent: TraceContext, operation: &'static str, table: &'static str) -> Span {
        let database = self.on.as_ref().map(|on| on.database);
        self.begin(parent, |recorder, context| {
            Span::store(recorder, context, parent, (operation, table), database)
        })
    }

    /// Sends what waits; gives up after `patience`.
    pub async fn flush(&self, patience: Duration) {
        if let Some(on) = &self.on {
            on.recorder.end(patience).await;
        }
    }

    fn begin(&self, parent: TraceContext, record: impl FnOnce(Arc<Recorder>, TraceContext) -> Span) -> Span {
        match &self.on {
            Some(on) if parent.is_sampled() => record(Arc::clone(&on.recorder), parent.child(&*self.entropy)),
            _ => Span::unrecorded(parent),
        }
    }
}
