//! The Prometheus metrics, declared in one table.
//!
//! The values of labels come from fixed sets and from the settings. For example, `tenant` is always a configured tenant. Nothing
//! that a caller sends creates a series. Histograms have no label `tenant`, which would multiply their buckets.

#[cfg(test)]
mod tests;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Prefix of the names of all metrics.
const NAMESPACE: &str = "alovoice_gateway";

/// Buckets in seconds for requests, from answers that are in memory to long waits.
const REQUEST: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Buckets in seconds for requests over the internet, up to their deadlines.
const REMOTE: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];
/// Buckets in seconds for transactions, from a read to the longest wait for a database that restarts.
const TRANSACTION: &[f64] = &[0.0005, 0.002, 0.01, 0.05, 0.25, 1.0, 10.0];
/// Buckets in seconds for analyses, from a few seconds to a day.
const COMPLETION: &[f64] =
    &[5.0, 15.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 3600.0, 10_800.0, 43_200.0, 86_400.0];
/// Buckets for the number of polls of an analysis.
const POLLS: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0, 300.0];

/// Declares [`Metrics`] as a table. Each entry is a field, its type, the name without the prefix, the labels, the
/// buckets of a histogram, and the help text.
macro_rules! metrics {
    ($($field:ident: $type:ty = $name:literal [$($label:literal),*] $(in $buckets:ident)?, $help:literal;)*) => {
        /// The metrics of a process. The code that performs an action also counts the action.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $type,)*
        }

        impl Metrics {
            fn declared(registry: Registry) -> prometheus::Result<Self> {
                $(let $field = register::<$type>(&registry, &Declaration {
                    name: $name, labels: &[$($label),*], buckets: metrics!(@buckets $($buckets)?), help: $help,
                })?;)*
                Ok(Self { registry, $($field),* })
            }
        }

        /// Name, kind, labels and help text of each entry, for the reference in the handbook.
        #[cfg(test)]
        const TABLE: &[(&str, &str, &[&str], &str)] =
            &[$(($name, <$type as Metric>::KIND, &[$($label),*], $help)),*];
    };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
}

metrics! {
    http_requests: HistogramVec = "http_request_duration_seconds" ["route", "method", "status"] in REQUEST,
        "Duration of HTTP requests in seconds, by route template, method and status.";
    http_in_flight: IntGauge = "http_requests_in_flight" [],
        "Number of HTTP requests in progress.";
    connections: IntGauge = "http_connections_open" [],
        "Number of open connections to the API.";
    connections_evicted: IntCounter = "http_connections_evicted_total" [],
        "Number of idle connections that were closed because server.max_connections was reached.";
    write_timeouts: IntCounter = "http_write_timeouts_total" [],
        "Number of connections that were closed because the client read nothing of an answer for server.body_timeout.";
    overload_refusals: IntCounterVec = "overload_refusals_total" ["tenant", "resource"],
        "Number of requests that were refused because a limit of memory or connections was reached, by tenant and resource.";
    ready: IntGauge = "ready" [],
        "1 while /readyz answers 200 (the gateway accepts requests and can use its store), else 0.";
    vendor_requests: HistogramVec = "vendor_request_duration_seconds" ["operation", "outcome"] in REMOTE,
        "Duration of requests to AloVoice in seconds, by operation and outcome.";
    vendor_answer_warnings: IntCounterVec = "vendor_answer_warnings_total" ["code"],
        "Number of results of AloVoice in which the gateway tolerated a deviation, by kind of deviation.";
    results_discarded: IntCounterVec = "vendor_results_discarded_total" ["tenant"],
        "Number of results of AloVoice that did not replace the stored result because they had less content.";
    breakers_open: IntGaugeVec = "vendor_breakers_open" ["tenant"],
        "1 while the circuit breaker to AloVoice is open for a tenant, else 0.";
    vendor_token_refusals: IntCounterVec = "vendor_token_refusals_total" ["tenant"],
        "Number of requests that AloVoice refused because of the tenant's token.";
    vendor_probes: IntCounterVec = "vendor_probes_total" ["tenant", "outcome"],
        "Number of probes that ask AloVoice for a call that cannot exist, by tenant and outcome.";
    submissions_unconfirmed: IntCounterVec = "submissions_unconfirmed_total" ["tenant"],
        "Number of submits for which AloVoice's answers do not show whether it accepted the call, by tenant.";
    submissions_repeated: IntCounterVec = "submissions_repeated_total" ["tenant"],
        "Number of calls that were submitted again after a submit of unknown outcome, by tenant.";
    analyses: IntGaugeVec = "analyses" ["tenant", "status"],
        "Number of unfinished analyses, by tenant and status.";
    events: IntCounterVec = "events_total" ["tenant", "type"],
        "Number of events written, by tenant and type.";
    event_streams: IntGauge = "event_streams_open" [],
        "Number of open event streams.";
    completion: Histogram = "analysis_completion_seconds" [] in COMPLETION,
        "Time from the submission of a call to its completed analysis in seconds.";
    polls: Histogram = "analysis_polls" [] in POLLS,
        "Number of polls until an analysis was completed.";
    work_lag: GaugeVec = "due_work_lag_seconds" ["tenant", "queue"],
        "Age of the oldest due submit or poll in seconds, by tenant and queue.";
    cache_hits: IntCounter = "cache_hits_total" [],
        "Number of reads of finished analyses answered from memory.";
    cache_misses: IntCounter = "cache_misses_total" [],
        "Number of reads of analyses that went to the store.";
    cache_bytes: IntGauge = "cache_bytes" [],
        "Size of the finished analyses in memory in bytes.";
    callback_attempts: HistogramVec = "callback_attempt_duration_seconds" ["outcome"] in REMOTE,
        "Duration of attempts to deliver a callback in seconds, by outcome.";
    callbacks_pending: IntGaugeVec = "callbacks_pending" ["tenant"],
        "Number of pending deliveries, by tenant.";
    callback_lag: GaugeVec = "callbacks_due_lag_seconds" ["tenant"],
        "Age of the oldest due delivery in seconds, by tenant; without deliveries that a pause or the rate of a webhook delays.";
    callbacks_given_up: IntCounterVec = "callbacks_given_up_total" ["tenant"],
        "Number of deliveries that failed and are not retried, by tenant.";
    webhook_events_filtered: IntCounterVec = "webhook_events_filtered_total" ["tenant"],
        "Number of events that the filter of a webhook dropped, by tenant.";
    webhooks: IntGaugeVec = "webhooks" ["tenant", "state"],
        "Number of registered webhooks, by tenant and state.";
    webhooks_disabled: IntCounterVec = "webhooks_disabled_total" ["tenant", "reason"],
        "Number of webhooks that the gateway disabled, by tenant and reason.";
    token_rejections: IntCounterVec = "token_rejections_total" ["reason"],
        "Number of rejected caller tokens, by reason.";
    jwks_refreshes: IntCounterVec = "jwks_refreshes_total" ["outcome"],
        "Number of reads of the issuers' key sets, by outcome.";
    secret_reloads: IntCounterVec = "secret_reloads_total" ["outcome"],
        "Number of reloads of secret files, by outcome.";
    secrets_unreadable: IntGaugeVec = "secrets_unreadable" ["kind"],
        "Number of secret files that cannot be read and whose previous value is used, by kind.";
    rate_limited: IntCounterVec = "rate_limited_total" ["tenant"],
        "Number of requests refused by a tenant's rate limit.";
    clock_steps: IntCounterVec = "clock_steps_total" ["direction"],
        "Number of corrections of a clock that was wrong by ten seconds or more, by direction.";
    clock_jumps: IntCounterVec = "clock_jumps_total" ["direction"],
        "Number of jumps of another clock that the gateway's clock did not follow at once, by direction.";
    clock_in_doubt: IntGauge = "clock_in_doubt" [],
        "1 while the gateway's clock is in doubt and retention is paused, else 0.";
    store_errors: IntCounter = "store_errors_total" [],
        "Number of failed store operations.";
    store_transactions: HistogramVec = "store_transaction_duration_seconds" ["transaction", "outcome"] in TRANSACTION,
        "Duration of store transactions in seconds, including waits and retries, by transaction and outcome.";
    store_retries: IntCounterVec = "store_transaction_retries_total" ["transaction"],
        "Number of retries of store transactions, by transaction: after a lost connection or a conflict, and for outcomes of requests after any temporary failure.";
    store_unreadable_rows: IntCounterVec = "store_unreadable_rows_total" ["table"],
        "Number of times that a row was skipped because this version cannot read it, by table.";
    store_scans: IntCounterVec = "store_scans_total" ["tenant", "outcome"],
        "Number of lists, searches and other expensive reads of the store, by tenant and outcome; `cancelled` if the caller disconnected.";
    store_scans_running: IntGauge = "store_scans_running" [],
        "Number of expensive reads of the store in progress.";
    trace_spans_exported: IntCounter = "trace_spans_exported_total" [],
        "Number of spans that the trace collector accepted.";
    trace_spans_dropped: IntCounterVec = "trace_spans_dropped_total" ["reason"],
        "Number of spans that were lost, by reason.";
    store_connections: IntGaugeVec = "store_connections" ["state"],
        "Number of connections to PostgreSQL, by state; none with SQLite.";
    store_connections_max: IntGauge = "store_connections_max" [],
        "Maximum number of connections of this replica to PostgreSQL; 0 with SQLite.";
    store_connections_waiting: IntGauge = "store_connections_waiting" [],
        "Number of operations that wait for a connection to PostgreSQL.";
    store_notifications_arrive: IntGauge = "store_notifications_arrive" [],
        "1 while notifications of other replicas arrive within 5 seconds, else 0 (reads go to the store before the cache); \
         always 1 with SQLite.";
    store_file_lost: IntGauge = "store_file_lost" [],
        "1 after the files of SQLite were removed, replaced or overwritten while the gateway was using them, else 0.";
    store_file_bytes: IntGaugeVec = "store_file_bytes" ["file"],
        "Size of the files of SQLite in bytes, by file; none with PostgreSQL.";
}

impl Metrics {
    /// Creates and registers all metrics.
    ///
    /// # Errors
    /// Returns an error if two metrics share a name, which a test would have found.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some(NAMESPACE.to_owned()), None)?;
        let version = Opts::new("build_info", "Always 1; the label has the version of the gateway.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let build_info = IntGauge::with_opts(version)?;
        build_info.set(1);
        registry.register(Box::new(build_info))?;
        #[cfg(target_os = "linux")]
        prometheus::register(Box::new(prometheus::process_collector::ProcessCollector::for_self())).or_else(
            // Several gateways in one process share the metrics of the process.
            |error| if matches!(error, prometheus::Error::AlreadyReg) { Ok(()) } else { Err(error) },
        )?;
        Self::declared(registry)
    }

    /// Returns all metrics in the text exposition format, version 0.0.4.
    ///
    /// # Errors
    /// Returns an error if a metric cannot be written, which would be a bug.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(prometheus::gather());
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }

    /// Counts a request to the vendor.
    pub fn vendor_request(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        self.vendor_requests.with_label_values(&[operation, outcome]).observe(took.as_secs_f64());
    }
}

/// Converts a number to the type of gauges. A number that is too large becomes the largest possible value.
pub fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// An entry of the table of metrics.
struct Declaration {
    name: &'static str,
    labels: &'static [&'static str],
    buckets: &'static [f64],
    help: &'static str,
}

impl Declaration {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    fn histogram_opts(&self) -> HistogramOpts {
        HistogramOpts::from(self.opts()).buckets(self.buckets.to_vec())
    }
}

fn register<M: Metric>(registry: &Registry, declaration: &Declaration) -> prometheus::Result<M> {
    let metric = M::create(declaration)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// A type of metric that an entry of the table may have.
trait Metric: Collector + Clone + 'static {
    /// Name of the type in the exposition format.
    #[cfg(test)]
    const KIND: &str;

    fn create(declaration: &Declaration) -> prometheus::Result<Self>;
}

macro_rules! kinds {
    ($($type:ty: $kind:literal, $declaration:ident => $create:expr;)*) => {
        $(impl Metric for $type {
            #[cfg(test)]
            const KIND: &str = $kind;

            fn create($declaration: &Declaration) -> prometheus::Result<Self> {
                $create
            }
        })*
    };
}

kinds! {
    IntCounter: "counter", metric => Self::with_opts(metric.opts());
    IntCounterVec: "counter", metric => Self::new(metric.opts(), metric.labels);
    IntGauge: "gauge", metric => Self::with_opts(metric.opts());
    IntGaugeVec: "gauge", metric => Self::new(metric.opts(), metric.labels);
    GaugeVec: "gauge", metric => Self::new(metric.opts(), metric.labels);
    Histogram: "histogram", metric => Self::with_opts(metric.histogram_opts());
    HistogramVec: "histogram", metric => Self::new(metric.histogram_opts(), metric.labels);
}
