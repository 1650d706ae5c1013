//! Tests of environment variables that override the file.

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{KeySource, ProxyUrl, SecretSource, StoreUrl};
use crate::domain::ids::TenantId;

fn with(variables: &[(&str, &str)]) -> Settings {
    load_with(SMALLEST, variables).unwrap()
}

fn problems_with(variables: &[(&str, &str)]) -> String {
    load_with(SMALLEST, variables).unwrap_err().to_string()
}

#[test]
fn a_variable_of_any_type_overrides_the_file() {
    let settings = load_with(
        &format!("{SMALLEST}\n[store]\nurl = \"sqlite://file.db\""),
        &[
            ("GATEWAY_STORE__URL", "sqlite:///data/x.db"),
            ("gateway_vendor__polling__growth", "0.5"),
            ("GATEWAY_VENDOR__MAX_CONCURRENCY", "7"),
            ("GATEWAY_CACHE__MAX_BYTES", "0"),
            ("GATEWAY_CALLBACKS__ALLOW_HTTP", "true"),
            ("GATEWAY_CALLBACKS__ALLOW_NETWORKS", "10.0.0.0/8, fd00::/8"),
            ("GATEWAY_CALLBACKS__RETRY_SCHEDULE", "[\"1s\", \"2s\"]"),
            ("GATEWAY_CONFIG", "gateway.toml"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(settings.store.url, StoreUrl::Sqlite(PathBuf::from("/data/x.db")));
    assert_eq!((settings.vendor.polling.growth, settings.vendor.max_concurrency), (0.5, 7));
    assert_eq!((settings.cache.max_bytes, settings.callbacks.allow_http), (0, true));
    assert_eq!(settings.callbacks.allow_networks.len(), 2);
    assert_eq!(settings.callbacks.retry_schedule, [1, 2].map(Duration::from_secs));
    assert!(with(&[("GATEWAY_CALLBACKS__RETRY_SCHEDULE", "")]).callbacks.retry_schedule.is_empty());
}

#[test]
fn all_settings_can_come_from_variables() {
    let variables = [
        ("GATEWAY_AUTH__ISSUERS__0__ISSUER", "me"),
        ("GATEWAY_AUTH__ISSUERS__0__AUDIENCES", "a,b"),
        ("GATEWAY_AUTH__ISSUERS__0__ALGORITHMS", "HS256"),
        ("GATEWAY_AUTH__ISSUERS__0__HMAC_SECRET_FILE", "s"),
        ("GATEWAY_TENANTS__ACME__VENDOR_TOKEN_ENV", "GATEWAY_ACME_TOKEN"),
        // The previous variable says that this variable holds a secret, so this variable is not a setting.
        ("GATEWAY_ACME_TOKEN", "s3cr3t"),
        ("GATEWAY_TENANTS__42__VENDOR_TOKEN_FILE", "f"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = load(None, variables.into_iter()).unwrap();
    assert_eq!(settings.auth.issuers[0].audiences, ["a", "b"]);
    let token = &settings.tenants[&TenantId::parse("acme").unwrap()].vendor_token;
    assert_eq!(token, &SecretSource::Env("GATEWAY_ACME_TOKEN".to_owned()));
    assert!(settings.tenants.contains_key(&TenantId::parse("42").unwrap()));
}

#[test]
fn a_variable_names_an_issuer_by_its_index() {
    let settings = with(&[
        ("GATEWAY_AUTH__ISSUERS__0__JWKS_URL", "https://other.example.uz/keys"),
        ("GATEWAY_AUTH__ISSUERS__1__ISSUER", "dev"),
        ("GATEWAY_AUTH__ISSUERS__1__AUDIENCES", "a"),
        ("GATEWAY_AUTH__ISSUERS__1__ALGORITHMS", "ES256"),
        ("GATEWAY_AUTH__ISSUERS__1__PUBLIC_KEY_FILE", "dev.pem"),
    ]);
    let KeySource::JwksUrl { url, .. } = &settings.auth.issuers[0].keys else { panic!() };
    assert_eq!(url.host_str(), Some("other.example.uz"));
    assert_eq!(settings.auth.issuers[1].issuer, "dev");
    let skipped = problems_with(&[("GATEWAY_AUTH__ISSUERS__5__ISSUER", "dev")]);
    assert_eq!(
        skipped,
        "auth.issuers: the next index is 1; got \"5\" (from GATEWAY_AUTH__ISSUERS__5__ISSUER)"
    );
}

#[test]
fn a_tenant_keeps_the_case_that_its_name_has_in_the_file() {
    let file = SMALLEST.replace("acme", "AcMe");
    let settings = load_with(&file, &[("GATEWAY_TENANTS__ACME__MAX_CONCURRENCY", "3")]).unwrap();
    assert_eq!(settings.tenants[&TenantId::parse("AcMe").unwrap()].max_concurrency, Some(3));
    assert_eq!(settings.tenants.len(), 1);
    let two = format!("{file}\n[tenants.aCmE]\nvendor_token_env = \"E\"");
    let found = load_with(&two, &[("GATEWAY_TENANTS__ACME__BURST", "3")]).unwrap_err().to_string();
    assert!(found.starts_with("tenants: has both \"AcMe\" and \"aCmE\": which one is meant?"), "{found}");
}

#[test]
fn problems_name_the_variable_and_show_no_secret() {
    let found = problems_with(&[
        ("GATEWAY_STORE__URL", "postgres://u:s3cr3t@db:port/x"),
        ("GATEWAY_VENDOR__BASE_URL", "https://u:s3cr3t@vendor"),
        ("GATEWAY_VENDOR__REQUEST_TIMEOUT", "10"),
        ("GATEWAY_STORE__URI", "s3cr3t"),
        ("GATEWAY_STROE__URL", "s3cr3t"),
        ("GATEWAY_LISTEN", "s3cr3t"),
        ("GATEWAY_CACHE", "s3cr3t"),
        ("GATEWAY_LOG__FORMAT__KIND", "json"),
        ("GATEWAY_SERVER__LISTEN", "u:s3cr3t@host"),
        ("gateway_log__filter", "info"),
        ("GATEWAY_LOG__FILTER", "warn"),
    ]);
    insta::assert_snapshot!(found, @r#"
    log.filter: is set by both GATEWAY_LOG__FILTER and gateway_log__filter
    server.listen: must be an IP address and a port such as "0.0.0.0:8080" (from GATEWAY_SERVER__LISTEN)
    vendor.base_url: must be a URL without a user name or password (from GATEWAY_VENDOR__BASE_URL)
    vendor.request_timeout: must be a duration such as "15s", from "1ms" to "5m"; got "10" (from GATEWAY_VENDOR__REQUEST_TIMEOUT)
    store.url: must be "postgres://user@host:5432/database" (from GATEWAY_STORE__URL)
    store.uri: unknown setting; did you mean "url"? (from GATEWAY_STORE__URI)
    cache: must be a table (from GATEWAY_CACHE)
    log.format: must be one of "json", "human"; got a table (from GATEWAY_LOG__FORMAT__KIND)
    listen: unknown setting; known here: server, vendor, network, store, cache, events, cors, callbacks, encryption, rate_limit, auth, log, traces, tenants (from GATEWAY_LISTEN)
    stroe: unknown setting; did you mean "store"? (from GATEWAY_STROE__URL)
    "#);
    assert!(!found.contains("s3cr3t"), "{found}");
}

/// The variables that Kubernetes 1.35 sets for Services named `gateway`, `gateway-admin` and `gateway--x`, and the variables
/// that Docker sets for a link.
const SERVICE_LINKS: [(&str, &str); 24] = [
    ("GATEWAY_SERVICE_HOST", "10.0.0.1"),
    ("GATEWAY_SERVICE_PORT", "80"),
    ("GATEWAY_SERVICE_PORT_HTTP", "80"),
    ("GATEWAY_SERVICE_PORT_GRPC__WEB", "81"),
    ("GATEWAY_PORT", "tcp://10.0.0.1:80"),
    ("GATEWAY_PORT_80_TCP", "tcp://10.0.0.1:80"),
    ("GATEWAY_PORT_80_TCP_PROTO", "tcp"),
    ("GATEWAY_PORT_80_TCP_PORT", "80"),
    ("GATEWAY_PORT_80_TCP_ADDR", "10.0.0.1"),
    ("GATEWAY_ADMIN_SERVICE_HOST", "fd00::1"),
    ("GATEWAY_ADMIN_SERVICE_PORT", "53"),
    ("GATEWAY_ADMIN_SERVICE_PORT_DNS_UDP", "53"),
    ("GATEWAY_ADMIN_PORT", "udp://[fd00::1]:53"),
    ("GATEWAY_ADMIN_PORT_53_UDP", "udp://[fd00::1]:53"),
    ("GATEWAY_ADMIN_PORT_53_UDP_ADDR", "fd00::1"),
    ("GATEWAY__X_SERVICE_HOST", "10.0.0.2"),
    ("GATEWAY__X_SERVICE_PORT", "5432"),
    ("GATEWAY__X_PORT", "tcp://10.0.0.2:5432"),
    ("GATEWAY__X_PORT_5432_TCP_ADDR", "10.0.0.2"),
    ("GATEWAY_DB_1_NAME", "/crm/gateway_db_1"),
    ("GATEWAY_DB_1_PORT", "tcp://172.17.0.5:5432"),
    ("GATEWAY_DB_1_PORT_5432_TCP_PROTO", "tcp"),
    ("GATEWAY_DB_1_ENV_PGDATA", "/var/lib/postgresql"),
    ("GATEWAY_DB_1_ENV_GATEWAY_STORE__URL", "sqlite://other.db"),
];

#[test]
fn variables_of_services_and_links_are_not_settings() {
    assert_eq!(with(&SERVICE_LINKS), settings(""));
    let own = [&SERVICE_LINKS[..], &[("GATEWAY_STORE__URL", "sqlite://own.db")]].concat();
    assert_eq!(with(&own).store.url, StoreUrl::Sqlite(PathBuf::from("own.db")));
}

#[test]
fn misspelt_settings_are_refused_beside_services_and_links() {
    for (name, value) in [
        ("GATEWAY_PORT", "8080"),
        ("GATEWAY_NAME", "crm"),
        ("GATEWAY_STROE__URL", "sqlite://x.db"),
        ("GATEWAY_SERVER__PORT", "8080"),
        ("GATEWAY_SERVICE__HOST", "10.0.0.1"),
        ("GATEWAY_TENANTS__MY_SERVICE_PORT__BURSTS", "1"),
    ] {
        let links: Vec<_> = SERVICE_LINKS.into_iter().filter(|(link, _)| *link != name).collect();
        let found = problems_with(&[&links[..], &[(name, value)]].concat());
        assert!(found.contains(&format!("(from {name})")), "{name}: {found}");
    }
}

#[test]
fn the_usual_variables_of_a_proxy_apply_unless_a_setting_does() {
    let shown = |settings: &Settings| {
        let url = |proxy: &Option<ProxyUrl>| proxy.as_ref().map_or("none".to_owned(), ToString::to_string);
        let network = &settings.network;
        [url(&network.https_proxy), url(&network.http_proxy), network.no_proxy.join(" ")]
    };
    for (variables, expected) in [
        (
            vec![("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "a, .b,10.0.0.0/8")],
            ["http://p:1", "none", "a .b 10.0.0.0/8"],
        ),
        (
            vec![("HTTPS_PROXY", "http://p:1"), ("no_proxy", "localhost,, .b  *.c:8443\t10.0.0.0/8,")],
            ["http://p:1", "none", "localhost .b *.c:8443 10.0.0.0/8"],
        ),
        (
            vec![("https_proxy", "p:1"), ("http_proxy", "https://q"), ("no_proxy", "*")],
            ["http://p:1", "https://q", "*"],
        ),
        (
            vec![("ALL_PROXY", "socks5h://p:1080"), ("HTTP_PROXY", "http://q:2")],
            ["socks5h://p:1080", "http://q:2", ""],
        ),
        (vec![("all_proxy", "http://p:1"), ("HTTPS_PROXY", "")], ["http://p:1", "http://p:1", ""]),
        (
            vec![
                ("HTTPS_PROXY", "http://p:1"),
                ("GATEWAY_NETWORK__HTTPS_PROXY", "http://u:s3cr3t@own:3"),
                ("NO_PROXY", "a"),
            ],
            ["http://own:3", "none", "a"],
        ),
    ] {
        assert_eq!(shown(&with(&variables)), expected, "{variables:?}");
    }
    let file = format!("{SMALLEST}\n[network]\nhttp_proxy = \"http://file:4\"\nno_proxy = []");
    let settings = load_with(&file, &[("ALL_PROXY", "http://p:1"), ("NO_PROXY", "a")]).unwrap();
    assert_eq!(shown(&settings), ["http://p:1", "http://file:4", ""]);
}

#[test]
fn a_proxy_url_that_cannot_be_used_is_refused_without_its_password() {
    for url in
        ["ftp://u:s3cr3t@p", "http://u:s3cr3t@p/path", "http://u:s3cr3t@p?x", "u:s3cr3t@p:port", "http://"]
    {
        let found = problems_with(&[("HTTPS_PROXY", url)]);
        assert!(found.starts_with("network.https_proxy: must be the URL of a proxy"), "{found}");
        assert!(found.ends_with("(from HTTPS_PROXY)") && !found.contains("s3cr3t"), "{found}");
    }
    let proxy = with(&[("HTTPS_PROXY", "http://u:s3cr3t@p:1")]).network.https_proxy.unwrap();
    assert_eq!(format!("{proxy} {proxy:?}"), "http://p:1 http://p:1");
}

proptest! {
    #[test]
    fn reading_variables_never_panics(
        name in "GATEWAY_(AUTH|TENANTS|STORE|CALLBACKS|.{0,3})(__(ISSUERS|0|1|URL|ACME|ALLOW_NETWORKS|.{0,3})){0,4}",
        text in r#"|0|a,b|\[.{0,5}\]|\["a"\]|.{0,9}"#,
    ) {
        let _ = load_with(SMALLEST, &[(&name, &text)]);
    }
}
