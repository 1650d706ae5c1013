//! The sections with their defaults and bounds; `auth.issuers` and `tenants` have files of their own.

use std::time::Duration;

use super::issuers::auth;
use super::reader::Section;
use super::rules::{
    base_url, boolean, duration, file, integer, log_filter, number, one_of, origin, parsed, size, store_url,
};
use super::settings::{
    CacheSettings, CallbackSettings, CorsSettings, EncryptionSettings, EventSettings, LogFormat, LogSettings,
    RateLimitSettings, ServerSettings, Settings, StoreSettings, TracesSettings, VendorSettings,
};
use super::tenants::tenants;
use super::units::HumanDuration;
use crate::domain::polling::PollingPolicy;

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const DAY: Duration = Duration::from_hours(24);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Requests that one tenant may have under way at the vendor.
pub(super) const CONCURRENCY: std::ops::RangeInclusive<i64> = 1..=1024;
/// Requests a second, and at once.
pub(super) const RATE: std::ops::RangeInclusive<i64> = 1..=1_000_000;
const MOST_RETRIES: usize = 32;

/// The whole.
pub(super) fn settings(s: &mut Section<'_>) -> Option<Settings> {
    let server = s.section("server", server);
    let vendor = s.section("vendor", vendor);
    let store = s.section("store", store);
    let cache = s.section("cache", cache);
    let events = s.section("events", events);
    let cors = s.section("cors", cors);
    let callbacks = s.section("callbacks", callbacks);
    let encryption = s.section("encryption", encryption);
    let rate_limit = s.section("rate_limit", rate_limit);
    let auth = s.section("auth", auth);
    let log = s.section("log", log);
    let traces = s.section("traces", traces);
    let tenants = s.section("tenants", |s| tenants(s, rate_limit.as_ref()));
    Some(Settings {
        server: server?,
        vendor: vendor?,
        store: store?,
        cache: cache?,
        events: events?,
        cors: cors?,
        callbacks: callbacks?,
        encryption: encryption?,
        rate_limit: rate_limit?,
        auth: auth?,
        log: log?,
        traces: traces?,
        tenants: tenants?,
    })
}

fn server(s: &mut Section<'_>) -> Option<ServerSettings> {
    let address = || parsed("an IP address and a port such as \"0.0.0.0:8080\"");
    let listen = s.read("listen", "0.0.0.0:8080", address());
    let admin_listen = s.read("admin_listen", "0.0.0.0:9090", address());
    let shutdown_grace = s.read("shutdown_grace", "25s", duration(Duration::ZERO..=60 * MINUTE));
    let shutdown_delay = s.read("shutdown_delay", "0s", duration(Duration::ZERO..=60 * MINUTE));
    let max_body_bytes = s.read("max_body_bytes", "4MiB", size(KIB..=64 * MIB));
    let head_timeout = s.read("head_timeout", "10s", duration(MILLISECOND..=5 * MINUTE));
    let body_timeout = s.read("body_timeout", "30s", duration(MILLISECOND..=60 * MINUTE));
    let max_connections = s.read("max_connections", 25_000, integer(1..=1_000_000));
    let public_url = s.optional("public_url", base_url);
    // Port 0 asks the system for a free port, so two of them differ.
    if listen.is_some_and(|listen: std::net::SocketAddr| listen.port() != 0 && Some(listen) == admin_listen) {
        s.problem("admin_listen", "must differ from server.listen: metrics and probes are not for callers");
    }
    if let (Some(delay), Some(grace)) = (shutdown_delay, shutdown_grace)
        && delay > Duration::ZERO
        && delay >= grace
    {
        s.problem("shutdown_delay", "must be shorter than server.shutdown_grace, of which it is a part");
    }
    Some(ServerSettings {
        listen: listen?,
        admin_listen: admin_listen?,
        shutdown_grace: shutdown_grace?,
        shutdown_delay: shutdown_delay?,
        max_body_bytes: max_body_bytes?,
        head_timeout: head_timeout?,
        body_timeout: body_timeout?,
        max_connections: max_connections?,
        public_url: public_url?,
    })
}

fn vendor(s: &mut Section<'_>) -> Option<VendorSettings> {
    let base_url = s.read("base_url", "https://cld.alovoice.uz", base_url);
    let request_timeout = s.read("request_timeout", "10s", duration(MILLISECOND..=5 * MINUTE));
    let max_response_bytes = s.read("max_response_bytes", "16MiB", size(KIB..=GIB));
    let max_concurrency = s.read("max_concurrency", 32, integer(CONCURRENCY));
    let polling = s.section("polling", polling);
    Some(VendorSettings {
        base_url: base_url?,
        request_timeout: request_timeout?,
        max_response_bytes: max_response_bytes?,
        max_concurrency: max_concurrency?,
        polling: polling?,
    })
}

fn polling(s: &mut Section<'_>) -> Option<PollingPolicy> {
    let pause = || duration(Duration::ZERO..=365 * DAY);
    // No interval of nothing: it would ask the vendor without a pause.
    let interval = || duration(MILLISECOND..=365 * DAY);
    let first_after = s.read("first_after", "10s", pause());
    let min_interval = s.read("min_interval", "5s", interval());
    let max_interval = s.read("max_interval", "5m", interval());
    let growth = s.read("growth", 0.1, number(0.0..=10.0));
    let deadline = s.read("deadline", "24h", interval());
    let not_found_grace = s.read("not_found_grace", "10m", pause());
    let empty_grace = s.read("empty_grace", "10m", pause());
    let settle_after = s.read("settle_after", "2m", pause());
    if let (Some(least), Some(most)) = (min_interval, max_interval)
        && least > most
    {
        let (least, most) = (HumanDuration(least), HumanDuration(most));
        s.problem(
            "min_interval",
            format!("must be at most max_interval, which is \"{most}\"; got \"{least}\""),
        );
    }
    Some(PollingPolicy {
        first_after: first_after?,
        min_interval: min_interval?,
        max_interval: max_interval?,
        growth: growth?,
        deadline: deadline?,
        not_found_grace: not_found_grace?,
        empty_grace: empty_grace?,
        settle_after: settle_after?,
    })
}

fn store(s: &mut Section<'_>) -> Option<StoreSettings> {
    let url = s.read("url", "sqlite://alovoice-gateway.db", store_url);
    let password_file = s.optional("password_file", file);
    let max_connections = s.read("max_connections", 16, integer(2..=1000));
    let retention = s.read("retention", "90d", duration(1000 * MILLISECOND..=36_500 * DAY));
    Some(StoreSettings {
        url: url?,
        password_file: password_file?,
        max_connections: max_connections?,
        retention: retention?,
    })
}

fn cache(s: &mut Section<'_>) -> Option<CacheSettings> {
    let max_bytes = s.read("max_bytes", "256MiB", size(0..=1024 * GIB));
    let time_to_live = s.read("time_to_live", "24h", duration(MILLISECOND..=365 * DAY));
    Some(CacheSettings { max_bytes: max_bytes?, time_to_live: time_to_live? })
}

fn events(s: &mut Section<'_>) -> Option<EventSettings> {
    let heartbeat = s.read("heartbeat", "15s", duration(MILLISECOND..=60 * MINUTE));
    let streams_per_tenant = s.read("streams_per_tenant", 100, integer(1..=100_000));
    Some(EventSettings { heartbeat: heartbeat?, streams_per_tenant: streams_per_tenant? })
}

fn cors(s: &mut Section<'_>) -> Option<CorsSettings> {
    let allowed_origins = s.list("allowed_origins", &[], origin);
    Some(CorsSettings { allowed_origins: allowed_origins? })
}

fn encryption(s: &mut Section<'_>) -> Option<EncryptionSettings> {
    let key_file = s.optional("key_file", file);
    Some(EncryptionSettings { key_file: key_file? })
}

fn callbacks(s: &mut Section<'_>) -> Option<CallbackSettings> {
    let timeout = s.read("timeout", "15s", duration(MILLISECOND..=5 * MINUTE));
    let allow_http = s.read("allow_http", false, boolean);
    let allow_networks =
        s.list("allow_networks", &[], parsed("a network such as \"10.0.0.0/8\" or \"fd00::/8\""));
    let retry_schedule = s.list(
        "retry_schedule",
        &["5s", "5m", "30m", "2h", "5h", "10h", "10h"],
        duration(Duration::ZERO..=30 * DAY),
    );
    if let Some(count) = retry_schedule.as_ref().map(Vec::len).filter(|count| *count > MOST_RETRIES) {
        s.problem("retry_schedule", format!("must have at most {MOST_RETRIES} pauses; got {count}"));
    }
    Some(CallbackSettings {
        timeout: timeout?,
        allow_http: allow_http?,
        allow_networks: allow_networks?,
        retry_schedule: retry_schedule?,
    })
}

fn rate_limit(s: &mut Section<'_>) -> Option<RateLimitSettings> {
    let requests_per_second = s.read("requests_per_second", 100, integer(RATE));
    let burst = s.read("burst", 200, integer(RATE));
    Some(RateLimitSettings { requests_per_second: requests_per_second?, burst: burst? })
}

fn log(s: &mut Section<'_>) -> Option<LogSettings> {
    let format = s.read("format", "json", one_of(&[("json", LogFormat::Json), ("human", LogFormat::Human)]));
    let filter = s.read("filter", "info", log_filter);
    Some(LogSettings { format: format?, filter: filter? })
}

fn traces(s: &mut Section<'_>) -> Option<TracesSettings> {
    let otlp_endpoint = s.optional("otlp_endpoint", base_url);
    let headers_file = s.optional("headers_file", file);
    let sample_ratio = s.read("sample_ratio", 1.0, number(0.0..=1.0));
    let caller_samples_per_second = s.read("caller_samples_per_second", 10, integer(0..=1_000_000));
    if let (Some(None), Some(Some(_))) = (&otlp_endpoint, &headers_file) {
        s.problem("headers_file", "is of no use without traces.otlp_endpoint");
    }
    if let Some(Some(url)) = &otlp_endpoint
        && url.path().trim_end_matches('/').ends_with("/v1/traces")
    {
        s.problem("otlp_endpoint", "must be what stands before /v1/traces, which is added");
    }
    Some(TracesSettings {
        otlp_endpoint: otlp_endpoint?,
        headers_file: headers_file?,
        sample_ratio: sample_ratio?,
        caller_samples_per_second: caller_samples_per_second?,
    })
}
