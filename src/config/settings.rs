//! The settings as a whole, and the tables that are not in a separate file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::Value;
use url::Url;

use super::declare::settings;
use super::issuers::IssuerSettings;
use super::keys::{Contents, Tables, list_of, table};
use super::network::NetworkSettings;
use super::rate_limit::RateLimitSettings;
use super::rules::{
    base_url, boolean, duration, file, integer, log_filter, network, number, one_of, origin, size,
};
use super::server::ServerSettings;
use super::store::StoreSettings;
use super::tenants::{TenantSettings, TenantTables};
use super::units::{DAY, GIB, HOUR, MILLISECOND, MINUTE};
use super::vendor::VendorSettings;
use crate::domain::ids::TenantId;

settings! {
    /// Every setting of the gateway.
    struct Settings {
        /// Listeners and limits on connections and requests.
        server: ServerSettings = table(),
        /// Requests to AloVoice.
        vendor: VendorSettings = table(),
        /// Connections to other servers.
        network: NetworkSettings = table(),
        /// The database of the gateway.
        store: StoreSettings = table(),
        /// Finished analyses in memory.
        cache: CacheSettings = table(),
        /// Event streams of the API.
        events: EventSettings = table(),
        /// Calls from web pages of other origins.
        cors: CorsSettings = table(),
        /// Delivery of callbacks and webhooks.
        callbacks: CallbackSettings = table(),
        /// Keys for data at rest.
        encryption: EncryptionSettings = table(),
        /// Rate limit of each tenant.
        rate_limit: RateLimitSettings = table(),
        /// Authentication of callers.
        auth: AuthSettings = table(),
        /// Format and filter of logs.
        log: LogSettings = table(),
        /// Export of traces.
        traces: TracesSettings = table(),
        /// The tenants, by the name in their tokens.
        tenants: BTreeMap<TenantId, TenantSettings> = TenantTables,
    }
}

settings! {
    /// The cache keeps finished analyses in memory.
    struct CacheSettings {
        /// Maximum size of the cache. The value "0" turns the cache off.
        max_bytes: u64 = size(0..=1024 * GIB).default("64MiB"),
        /// Maximum time that an analysis stays in the cache.
        time_to_live: Duration = duration(MILLISECOND..=365 * DAY).default("24h"),
    }
}

settings! {
    /// Event streams are answers of GET /v1/events as text/event-stream.
    struct EventSettings {
        /// Interval of the comments that keep an idle event stream open. Use less than the idle timeout of every proxy between
        /// the gateway and its clients.
        heartbeat: Duration = duration(MILLISECOND..=HOUR).default("15s"),
        /// Maximum number of open event streams per tenant and replica.
        streams_per_tenant: usize = integer(1..=100_000).default(100),
    }
}

settings! {
    /// Cross-origin resource sharing lets web pages call the API from a browser.
    struct CorsSettings {
        /// Origins of the web pages that may call the API, with scheme, host and port as browsers write them. No page may call the
        /// API if the list is empty. Cookies and other credentials are never allowed: the page sends its token itself.
        allowed_origins: Vec<String> = list_of(origin()).default(NONE).example(vec!["https://crm.example.uz"]),
    }
}

settings! {
    /// Callbacks and webhooks deliver events to the receivers of a tenant.
    struct CallbackSettings {
        /// Deadline of one attempt, from name resolution to the end of the answer.
        timeout: Duration = duration(MILLISECOND..=5 * MINUTE).default("15s"),
        /// Allows receivers with http:// URLs. If this key is false, only https:// is allowed.
        allow_http: bool = boolean().default(false),
        /// Private, local or reserved networks that may contain receivers. Receivers in other networks of these kinds are
        /// refused.
        allow_networks: Vec<IpNet> = list_of(network()).default(NONE).example(vec!["10.20.0.0/16"]),
        /// Allows templates in transforms of webhooks and callbacks. A template can use much CPU time and memory, so allow
        /// templates only if you trust all tenants. Presets are always allowed. If this key is false, new templates are refused,
        /// and deliveries with an earlier template are not sent: their attempts fail with the outcome "transform".
        allow_templates: bool = boolean().default(false),
        /// Pauses before the second and each later attempt. Up to 20 % jitter is added to each pause. After the last attempt,
        /// the delivery fails.
        retry_schedule: Vec<Duration> = list_of(duration(Duration::ZERO..=30 * DAY)).at_most(32)
            .default(vec!["5s", "5m", "30m", "2h", "5h", "10h", "10h"]),
    }
}

settings! {
    /// Encryption protects secrets in the database and links that the gateway creates.
    struct EncryptionSettings {
        /// File with one key per line. A key is the base64 form of 32 random bytes: "openssl rand -base64 32" prints one.
        /// The first key encrypts; all keys decrypt. The gateway re-reads the file when it changes. Without the file, the
        /// gateway refuses webhooks and links to recordings. It then stores two kinds of data without encryption: URLs of
        /// callbacks, and answers to requests with an Idempotency-Key. Data whose key is lost cannot be decrypted.
        key_file: Option<PathBuf> = file().optional().example("/run/secrets/alovoice/encryption-key"),
    }
}

settings! {
    /// Callers authenticate with a token of one of the issuers.
    struct AuthSettings {
        /// The issuers of tokens.
        issuers: Vec<IssuerSettings> = Tables { noun: "issuer", unique: "issuer" },
    }
}

settings! {
    /// Logs go to standard error.
    struct LogSettings {
        /// Format of a log line: a JSON object, or text for people.
        format: LogFormat = one_of(&LOG_FORMATS).default("json"),
        /// A level (off, error, warn, info, debug, trace), or levels for parts, such as "info,alovoice_gateway=debug". The
        /// audit log does not depend on the level. The filter "info,audit=off" turns the audit log off. The filter
        /// "info,audit::read=off" turns the audit log off only for operations that read.
        filter: String = log_filter().default("info").example("info,alovoice_gateway::http=debug"),
    }
}

settings! {
    /// Traces show the path of a call through the gateway. They are sent to an OpenTelemetry collector by OTLP over HTTP.
    struct TracesSettings {
        /// Base URL of the collector, without /v1/traces. Without this key, the gateway sends no traces.
        otlp_endpoint: Option<Url> = base_url().optional().example("http://otel-collector.observability:4318"),
        /// File with headers for the collector, one "name: value" per line. The gateway re-reads the file when it changes.
        headers_file: Option<PathBuf> = file().optional().example("/run/secrets/alovoice/collector-headers"),
        /// Share of traces to record. The share applies to traces that the gateway starts, and to traces whose caller set
        /// the sampled flag.
        sample_ratio: f64 = number(0.0..=1.0).default(1.0),
        /// Maximum number of traces per second that are recorded in addition to sample_ratio because the caller's
        /// traceparent header has the sampled flag. A trace of a caller without that flag is not recorded.
        caller_samples_per_second: u32 = integer(0..=1_000_000).default(10),
    }
    check |section| {
        if let (Some(None), Some(Some(_))) = (&otlp_endpoint, &headers_file) {
            section.problem("headers_file", "has no effect without traces.otlp_endpoint");
        }
        if let Some(Some(url)) = &otlp_endpoint
            && url.path().trim_end_matches('/').ends_with("/v1/traces")
        {
            section.problem("otlp_endpoint", "must be the URL without /v1/traces; the gateway appends this path");
        }
    }
}

/// An empty list.
const NONE: Value = Value::Array(Vec::new());

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Human,
}

const LOG_FORMATS: [(&str, LogFormat); 2] = [("json", LogFormat::Json), ("human", LogFormat::Human)];
