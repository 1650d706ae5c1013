//! What can be set, and what it means.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::zeroize::Zeroizing;
use url::Url;

use crate::domain::ids::TenantId;
use crate::domain::polling::PollingPolicy;

/// Everything the gateway can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The listeners.
    pub server: ServerSettings,
    /// The vendor.
    pub vendor: VendorSettings,
    /// Where analyses are kept.
    pub store: StoreSettings,
    /// Finished analyses in memory.
    pub cache: CacheSettings,
    /// The feed of events.
    pub events: EventSettings,
    /// Pages of other hosts that call the API.
    pub cors: CorsSettings,
    /// Callbacks.
    pub callbacks: CallbackSettings,
    /// What seals secrets in the store, and links.
    pub encryption: EncryptionSettings,
    /// How much each tenant may ask.
    pub rate_limit: RateLimitSettings,
    /// Who signs the tokens of callers.
    pub auth: AuthSettings,
    /// Log output.
    pub log: LogSettings,
    /// Traces.
    pub traces: TracesSettings,
    /// Who the callers work for.
    pub tenants: BTreeMap<TenantId, TenantSettings>,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    /// The API's address.
    pub listen: SocketAddr,
    /// The address of metrics and probes; never to be reached from outside.
    pub admin_listen: SocketAddr,
    /// How long a drain may take after SIGTERM.
    pub shutdown_grace: Duration,
    /// How much of that requests are still taken: as long as it takes whoever sends them to learn of the end.
    pub shutdown_delay: Duration,
    /// The most bytes of a request's body.
    pub max_body_bytes: usize,
    /// How long a client may take to send a request's head.
    pub head_timeout: Duration,
    /// How long it may take to send the body.
    pub body_timeout: Duration,
    /// Connections at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// Where the API is reached from outside; the document's `servers` entry and the begin of links. Absent: `/`.
    pub public_url: Option<Url>,
}

/// `[vendor]`
#[derive(Debug, Clone, PartialEq)]
pub struct VendorSettings {
    /// The vendor's address; a path in it is kept as a prefix.
    pub base_url: Url,
    /// One deadline over connection, headers and body.
    pub request_timeout: Duration,
    /// The most bytes of an answer, after decompression.
    pub max_response_bytes: usize,
    /// Requests under way at once, per tenant.
    pub max_concurrency: usize,
    /// When to ask for a result.
    pub polling: PollingPolicy,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq)]
pub struct StoreSettings {
    /// `sqlite://path` or `postgres://…`, with what belongs to it.
    pub url: StoreUrl,
    /// A file with the password for a server, read for every new connection, so that it can change.
    pub password_file: Option<PathBuf>,
    /// The most connections of this process to a server, bar the one that listens.
    pub max_connections: usize,
    /// How long finished analyses are kept.
    pub retention: Duration,
}

/// Where the store is.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A file on this machine.
    Sqlite(PathBuf),
    /// A server, for any number of replicas.
    Postgres(PostgresUrl),
}

/// A connection URL as libpq takes it. It may hold a password, so there is no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Zeroizing<String>);

impl PostgresUrl {
    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for PostgresUrl {
    fn from(url: String) -> Self {
        Self(url.into())
    }
}

impl std::fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(_) => f.write_str("postgres://…"),
        }
    }
}

/// `[cache]`
#[derive(Debug, Clone, PartialEq)]
pub struct CacheSettings {
    /// The most bytes of finished analyses held in memory; 0 turns the cache off.
    pub max_bytes: u64,
    /// How long one may stay.
    pub time_to_live: Duration,
}

/// `[events]`
#[derive(Debug, Clone, PartialEq)]
pub struct EventSettings {
    /// The longest that an event stream is silent.
    pub heartbeat: Duration,
    /// Event streams that one tenant may have open at this replica.
    pub streams_per_tenant: usize,
}

/// `[cors]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CorsSettings {
    /// Whose pages may call the API from a browser, each as a browser writes it: `https://crm.example.uz`.
    pub allowed_origins: Vec<String>,
}

/// `[callbacks]`
#[derive(Debug, Clone, PartialEq)]
pub struct CallbackSettings {
    /// One deadline over DNS, connection, TLS, headers and body.
    pub timeout: Duration,
    /// Whether `http://` receivers are taken.
    pub allow_http: bool,
    /// Networks that receivers may be in although they are not public.
    pub allow_networks: Vec<IpNet>,
    /// The pauses before the second and every later attempt.
    pub retry_schedule: Vec<Duration>,
}

/// `[encryption]`
#[derive(Debug, Clone, PartialEq)]
pub struct EncryptionSettings {
    /// The file of the keys, read anew when it changes. Without it, what needs them is refused.
    pub key_file: Option<PathBuf>,
}

/// `[rate_limit]`, per tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimitSettings {
    /// Requests a second, sustained.
    pub requests_per_second: u32,
    /// Requests at once.
    pub burst: u32,
}

/// `[auth]`
#[derive(Debug, Clone, PartialEq)]
pub struct AuthSettings {
    /// Whose tokens are taken.
    pub issuers: Vec<IssuerSettings>,
}

/// One of `[[auth.issuers]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerSettings {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// A token's `aud` must name one of these.
    pub audiences: Vec<String>,
    /// The algorithms its keys may be used with; never `none`.
    pub algorithms: Vec<jsonwebtoken::Algorithm>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// The claim that names the tenant.
    pub tenant_claim: String,
    /// The claim that lists the scopes: a text of words, or a list of texts.
    pub scope_claim: String,
}

/// Where an issuer's keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A JWK Set fetched over HTTP and refreshed.
    JwksUrl {
        /// Its address.
        url: Url,
        /// How often it is fetched anew.
        refresh: Duration,
        /// How long the last good set serves while it cannot be fetched.
        max_stale: Duration,
        /// The shortest pause between two fetches that an unknown `kid` causes.
        refetch_pause: Duration,
    },
    /// A JWK Set in a file, read anew when it changes.
    JwksFile(PathBuf),
    /// One PEM public key in a file, read anew when it changes.
    PublicKeyFile(PathBuf),
    /// One shared secret in a file, read anew when it changes.
    HmacSecretFile(PathBuf),
}

/// `[log]`
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged: a `tracing` filter such as `info` or `info,alovoice_gateway=debug`.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

/// `[traces]`
#[derive(Debug, Clone, PartialEq)]
pub struct TracesSettings {
    /// The collector's OTLP endpoint over HTTP, without `/v1/traces`. Absent: there are no traces.
    pub otlp_endpoint: Option<Url>,
    /// A file with headers for the collector, read anew when it changes.
    pub headers_file: Option<PathBuf>,
    /// The share of traces that is recorded of those that begin here: 0 to 1.
    pub sample_ratio: f64,
    /// Traces a second that are recorded besides because a caller says that it records them.
    pub caller_samples_per_second: u32,
}

/// `[tenants.<id>]`
#[derive(Debug, Clone, PartialEq)]
pub struct TenantSettings {
    /// Where its vendor token is.
    pub vendor_token: SecretSource,
    /// Where the secrets that sign its callbacks are; without them, callbacks are refused.
    pub callback_secret: Option<SecretSource>,
    /// Its own limit, instead of `[rate_limit]`.
    pub rate_limit: Option<RateLimitSettings>,
    /// Its own number of vendor requests at once, instead of `vendor.max_concurrency`.
    pub max_concurrency: Option<usize>,
}

/// Where a secret is. The secret itself is never in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file, read anew when it changes.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
}
