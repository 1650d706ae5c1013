//! Tests of whole files: the documented defaults, the example file, and many mistakes at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::config::{
    AuthSettings, CacheSettings, CallbackSettings, CorsSettings, EncryptionSettings, EventSettings,
    IssuerSettings, JWKS_TIMEOUT, KeySource, LogFormat, LogSettings, NetworkSettings, RateLimitSettings,
    SecretSource, ServerSettings, StoreSettings, StoreUrl, TenantSettings, TracesSettings, VendorSettings,
};
use crate::domain::claim_path::ClaimPath;
use crate::domain::ids::TenantId;
use crate::domain::phone::Region;
use crate::domain::polling::PollingPolicy;

const DOCUMENTED: &str = r#"
[server]
listen = "0.0.0.0:8080"
admin_listen = "0.0.0.0:9090"
shutdown_grace = "25s"
[vendor]
base_url = "https://cld.alovoice.uz"
request_timeout = "10s"
max_response_bytes = "8MiB"
max_concurrency = 32            # per tenant
[vendor.polling]
first_after = "10s"             # until the gateway has learned better
min_interval = "5s"
max_interval = "5m"
growth = 0.1                    # next interval as a share of the job's age
deadline = "24h"
not_found_grace = "10m"
empty_grace = "10m"
settle_after = "2m"
[store]
url = "sqlite://alovoice-gateway.db"
retention = "90d"
[cache]
max_bytes = "64MiB"
time_to_live = "24h"
[callbacks]
timeout = "15s"
allow_http = false
allow_networks = []
retry_schedule = ["5s", "5m", "30m", "2h", "5h", "10h", "10h"]
[rate_limit]
requests_per_second = 100
burst = 200
[[auth.issuers]]
issuer = "https://sso.example.uz/realms/crm"
audiences = ["alovoice-gateway"]
algorithms = ["RS256"]
jwks_url = "https://sso.example.uz/realms/crm/protocol/openid-connect/certs"
[tenants.acme]
vendor_token_file = "/run/secrets/alovoice/acme"
"#;

const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml"));

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn documented() -> Settings {
    const HOUR: u64 = 3600;
    let tenant = TenantSettings {
        vendor_token: SecretSource::File(PathBuf::from("/run/secrets/alovoice/acme")),
        callback_secret: None,
        requests_per_second: None,
        burst: None,
        max_concurrency: None,
        default_region: Region::parse("UZ").unwrap(),
    };
    let jwks = "https://sso.example.uz/realms/crm/protocol/openid-connect/certs";
    Settings {
        server: ServerSettings {
            listen: "0.0.0.0:8080".parse().unwrap(),
            admin_listen: "0.0.0.0:9090".parse().unwrap(),
            shutdown_grace: seconds(25),
            shutdown_delay: seconds(0),
            max_body_bytes: 4 << 20,
            head_timeout: seconds(10),
            body_timeout: seconds(30),
            max_connections: 4_096,
            public_url: None,
        },
        vendor: VendorSettings {
            base_url: "https://cld.alovoice.uz".parse().unwrap(),
            allow_http: false,
            request_timeout: seconds(10),
            max_response_bytes: 8 << 20,
            max_concurrency: 32,
            polling: PollingPolicy {
                first_after: seconds(10),
                min_interval: seconds(5),
                max_interval: seconds(300),
                growth: 0.1,
                deadline: seconds(24 * HOUR),
                not_found_grace: seconds(600),
                empty_grace: seconds(600),
                settle_after: seconds(120),
            },
        },
        network: NetworkSettings::default(),
        store: StoreSettings {
            url: StoreUrl::Sqlite(PathBuf::from("alovoice-gateway.db")),
            listen_url: None,
            password_file: None,
            lock_timeout: None,
            max_connections: 16,
            retention: seconds(90 * 24 * HOUR),
        },
        cache: CacheSettings { max_bytes: 64 << 20, time_to_live: seconds(24 * HOUR) },
        events: EventSettings { heartbeat: seconds(15), streams_per_tenant: 100 },
        cors: CorsSettings { allowed_origins: Vec::new() },
        callbacks: CallbackSettings {
            timeout: seconds(15),
            allow_http: false,
            allow_networks: Vec::new(),
            allow_templates: false,
            retry_schedule: [5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR].map(seconds).to_vec(),
        },
        encryption: EncryptionSettings { key_file: None },
        rate_limit: RateLimitSettings { requests_per_second: 100, burst: 200 },
        auth: AuthSettings {
            issuers: vec![IssuerSettings {
                issuer: "https://sso.example.uz/realms/crm".to_owned(),
                audiences: vec!["alovoice-gateway".to_owned()],
                algorithms: vec![jsonwebtoken::Algorithm::RS256],
                keys: KeySource::JwksUrl {
                    url: jwks.parse().unwrap(),
                    refresh: seconds(300),
                    max_stale: seconds(24 * HOUR),
                    refetch_pause: seconds(30),
                    timeout: JWKS_TIMEOUT,
                },
                tenant_claim: vec![ClaimPath::parse("tenant").unwrap()],
                scope_claim: vec![ClaimPath::parse("scope").unwrap()],
            }],
        },
        log: LogSettings { format: LogFormat::Json, filter: "info".to_owned() },
        traces: TracesSettings {
            otlp_endpoint: None,
            headers_file: None,
            sample_ratio: 1.0,
            caller_samples_per_second: 10,
        },
        tenants: [(TenantId::parse("acme").unwrap(), tenant)].into(),
    }
}

#[test]
fn the_documented_file_gives_the_documented_values() {
    assert_eq!(load_with(DOCUMENTED, &[]).unwrap(), documented());
}

#[test]
fn absent_keys_have_the_documented_defaults() {
    assert_eq!(settings(""), documented());
    assert_eq!(documented().vendor.polling, PollingPolicy::default());
}

#[test]
fn the_example_file_has_the_defaults() {
    assert_eq!(load_with(EXAMPLE, &[]).unwrap(), documented());
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = r#"
[sever]
listen = "0.0.0.0:80"
[server]
listen = 8080
[vendor.polling]
min_interval = "5 x"
max_intervall = "1m"
growth = inf
[store]
url = "postgres://gateway:s3cr3t@db:port/gateway"
[callbacks]
allow_networks = ["10.0.0.0/8", "10.0.0.0/33"]
allow_http = "yes"
[auth]
issuers = []
[tenants."a b"]
vendor_token_env = "s3cr3t-token"
"#;
    let found = load_with(text, &[]).unwrap_err();
    insta::assert_snapshot!(found, @r#"
    server.listen: must be an IP address and a port such as "0.0.0.0:8080"; got 8080
    vendor.polling.min_interval: must be a duration such as "15s", from "1ms" to "365d"; got "5 x"
    vendor.polling.growth: must be a number from 0 to 10; got inf
    vendor.polling.max_intervall: unknown setting; did you mean "max_interval"?
    store.url: must be "postgres://user@host:5432/database"
    callbacks.allow_http: must be true or false; got "yes"
    callbacks.allow_networks[1]: must be a network such as "10.0.0.0/8" or "fd00::/8"; got "10.0.0.0/33"
    auth.issuers: at least one issuer is needed
    tenants."a b": the tenant's name has the character ' '; allowed are A-Z a-z 0-9 . _ -
    tenants."a b".vendor_token_env: must be the name of an environment variable: letters, digits and underscores, not starting with a digit
    sever: unknown setting; did you mean "server"?
    "#);
    assert!(!found.to_string().contains("s3cr3t"));
}

#[test]
fn an_unreadable_file_is_the_only_problem() {
    let missing = load(Some(Path::new("/no/such/file.toml")), std::iter::empty()).unwrap_err().to_string();
    assert_eq!(missing, "/no/such/file.toml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn a_syntax_error_has_the_line_number_but_not_the_text_of_the_line() {
    let found = load_with("[store]\n\nurl = \"postgres://u:s3cr3t@db\" oops\n", &[]).unwrap_err();
    assert_eq!(found.0.len(), 1);
    assert!(found.0[0].detail.starts_with("line 3 is not valid TOML: "), "{found}");
    assert!(!found.to_string().contains("s3cr3t"), "{found}");
}

#[test]
fn empty_settings_lack_an_issuer_and_a_tenant() {
    let found = load(None, std::iter::empty()).unwrap_err().to_string();
    assert_eq!(found, "auth.issuers: at least one issuer is needed\ntenants: at least one tenant is needed");
}
