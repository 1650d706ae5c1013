//! Tests of the rule of each key: refused values and their error messages.

use std::path::PathBuf;

use super::*;
use crate::config::{KeySource, LogFormat, RateLimitSettings, SecretSource, StoreUrl};
use crate::domain::ids::TenantId;

/// Checks that each line, as the only line of the section, causes exactly one problem with the expected text.
fn refused(section: &str, cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        let found = problems(&format!("[{section}]\n{line}"));
        assert!(found.contains(expected), "{line}\n  expected: {expected}\n  found: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn server() {
    refused(
        "server",
        &[
            (
                "listen = \"localhost:80\"",
                "server.listen: must be an IP address and a port such as \"0.0.0.0:8080\"; got \"localhost:80\"",
            ),
            ("listen = \"0.0.0.0:9090\"", "server.admin_listen: must differ from server.listen"),
            ("listen = \"127.0.0.1:9090\"", "server.admin_listen: must differ from server.listen"),
            (
                "listen = \"[::]:7000\"\nadmin_listen = \"10.0.0.1:7000\"",
                "server.admin_listen: must differ from server.listen",
            ),
            (
                "shutdown_grace = 25",
                "server.shutdown_grace: must be a duration such as \"15s\", from \"0s\" to \"1h\"; got 25",
            ),
            (
                "max_body_bytes = \"65MiB\"",
                "must be a size such as \"16MiB\", from \"1KiB\" to \"64MiB\"; got \"65MiB\"",
            ),
            ("max_body_bytes = \"1MB\"", "got \"1MB\""),
            ("public_url = \"/api\"", "server.public_url: must be an absolute URL with http:// or https://"),
        ],
    );
    let free = settings("[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"");
    assert_eq!(free.server.listen, free.server.admin_listen);
}

#[test]
fn traces() {
    refused(
        "traces",
        &[
            (
                "otlp_endpoint = \"http://collector:4318/v1/traces\"",
                "traces.otlp_endpoint: must be the URL without /v1/traces",
            ),
            ("headers_file = \"h\"", "traces.headers_file: has no effect without traces.otlp_endpoint"),
        ],
    );
}

#[test]
fn vendor() {
    refused(
        "vendor",
        &[
            (
                "base_url = \"ftp://cld.alovoice.uz\"",
                "vendor.base_url: must be an absolute URL with http:// or https://",
            ),
            (
                "base_url = \"https://u:s3cr3t@cld.alovoice.uz\"",
                "must be a URL without a user name or password",
            ),
            ("base_url = \"https://cld.alovoice.uz?key=s3cr3t\"", "must be a URL without a query"),
            ("base_url = \"https://cld.alovoice.uz#s3cr3t\"", "must be a URL without a fragment"),
            ("request_timeout = \"0ms\"", "from \"1ms\" to \"5m\"; got \"0ms\""),
            ("request_timeout = \"6m\"", "got \"6m\""),
            ("max_concurrency = 0", "vendor.max_concurrency: must be a whole number from 1 to 1024; got 0"),
            ("max_concurrency = 1025", "got 1025"),
            ("max_concurrency = \"8\"", "got \"8\""),
            ("max_concurrency = 1.5", "got 1.5"),
            ("polling = 3", "vendor.polling: must be a table"),
        ],
    );
    assert_eq!(settings("[vendor]\nbase_url = \"http://10.0.0.7:81/v\"").vendor.base_url.path(), "/v");
}

#[test]
fn polling() {
    refused(
        "vendor.polling",
        &[
            ("min_interval = \"0s\"", "vendor.polling.min_interval: must be a duration"),
            (
                "min_interval = \"6m\"",
                "vendor.polling.min_interval: must be at most max_interval, which is \"5m\"; got \"6m\"",
            ),
            ("growth = -0.1", "vendor.polling.growth: must be a number from 0 to 10; got -0.1"),
            ("growth = 10.1", "got 10.1"),
            ("growth = nan", "got NaN"),
            ("growth = \"0.1\"", "got \"0.1\""),
            (
                "deadline = \"0s\"",
                "vendor.polling.deadline: must be a duration such as \"15s\", from \"1ms\"",
            ),
        ],
    );
    assert_eq!(settings("[vendor.polling]\ngrowth = 1").vendor.polling.growth, 1.0);
}

#[test]
fn store_and_cache() {
    refused(
        "store",
        &[
            (
                "url = \"postgres://u:s3cr3t@db:port/x\"",
                "store.url: must be \"postgres://user@host:5432/database\"",
            ),
            ("max_connections = 1", "store.max_connections: must be a whole number from 2 to 1000"),
            (
                "url = \"sqlite::memory:\"",
                "store.url: must name a file, \"sqlite://path\": a store in memory would lose",
            ),
            ("url = \"sqlite://:memory:\"", "must name a file"),
            ("url = \"sqlite://\"", "store.url: must be \"sqlite://path\""),
            ("url = \"mysql://u:s3cr3t@db/x\"", "store.url: must be \"sqlite://path\""),
            ("url = \"sqlite://a.db?mode=ro\"", "without options"),
            ("retention = \"-1d\"", "store.retention: must be a duration"),
        ],
    );
    refused(
        "cache",
        &[("max_bytes = 1", "cache.max_bytes: must be a size"), ("time_to_live = \"0s\"", "got \"0s\"")],
    );
    let absolute = settings("[store]\nurl = \"sqlite:///var/lib/gateway.db\"\n[cache]\nmax_bytes = 0");
    assert_eq!(absolute.store.url, StoreUrl::Sqlite(PathBuf::from("/var/lib/gateway.db")));
    assert_eq!(absolute.cache.max_bytes, 0);
}

#[test]
fn callbacks() {
    let many = format!("retry_schedule = [{}]", "\"1s\",".repeat(33));
    refused(
        "callbacks",
        &[
            ("allow_http = 1", "callbacks.allow_http: must be true or false; got 1"),
            ("allow_networks = \"10.0.0.0/8\"", "callbacks.allow_networks: must be a list"),
            (
                "allow_networks = [\"10.0.0.0\"]",
                "callbacks.allow_networks[0]: must be a network such as \"10.0.0.0/8\"",
            ),
            ("retry_schedule = [\"5s\", 5]", "callbacks.retry_schedule[1]: must be a duration"),
            (&many, "callbacks.retry_schedule: must have at most 32 elements; got 33"),
            ("time-out = \"1s\"", "unknown setting; did you mean \"timeout\"?"),
        ],
    );
    assert!(settings("[callbacks]\nretry_schedule = []").callbacks.retry_schedule.is_empty());
}

#[test]
fn limits_and_log() {
    refused(
        "rate_limit",
        &[
            (
                "requests_per_second = 0",
                "rate_limit.requests_per_second: must be a whole number from 1 to 1000000; got 0",
            ),
            ("burst = 0", "rate_limit.burst: must be a whole number"),
        ],
    );
    refused(
        "log",
        &[
            ("format = \"xml\"", "log.format: must be one of \"json\", \"human\"; got \"xml\""),
            ("filter = \"warning\"", "log.filter: \"warning\" is neither a level"),
            ("filter = \"\"", "log.filter: must be a string that is not empty"),
        ],
    );
    assert_eq!(settings("[log]\nformat = \"human\"").log.format, LogFormat::Human);
}

#[test]
fn issuers() {
    let key = "jwks_file = \"k\"\n";
    for (text, expected) in [
        (
            "",
            "auth.issuers[0]: needs exactly one of jwks_url, jwks_file, public_key_file, hmac_secret_file; has none",
        ),
        ("jwks_file = \"a\"\npublic_key_file = \"b\"", "has jwks_file and public_key_file"),
        (&format!("{key}issuer = \" \""), "auth.issuers[0].issuer: must be a string that is not empty"),
        (&format!("{key}audiences = []"), "auth.issuers[0].audiences: must not be empty"),
        (&format!("{key}algorithms = []"), "auth.issuers[0].algorithms: must not be empty"),
        (
            &format!("{key}algorithms = [\"NonE\"]"),
            "auth.issuers[0].algorithms[0]: \"none\" is never allowed",
        ),
        (&format!("{key}algorithms = [\"rs256\"]"), "must be one of \"RS256\", "),
        (
            &format!("{key}algorithms = [\"RS256\", \"HS256\"]"),
            "algorithms: must not have HS256, HS384 or HS512",
        ),
        ("hmac_secret_file = \"s\"", "algorithms: must be only HS256, HS384 or HS512"),
        ("public_key_file = \"p\"\nalgorithms = [\"RS256\", \"ES256\"]", "algorithms: must be of one family"),
        (
            &format!("{key}jwks_refresh = \"1m\""),
            "auth.issuers[0].jwks_refresh: has no effect without jwks_url",
        ),
        ("jwks_url = \"http://sso.example.uz/k\"", "auth.issuers[0].jwks_url: must be an https URL"),
        ("jwks_url = \"http://127.0.0.1.example.uz/k\"", "must be an https URL"),
        ("jwks_url = \"https://a:s3cr3t@sso.example.uz/k\"", "must be a URL without a user name"),
        (
            "jwks_url = \"https://a.uz/k\"\njwks_max_stale = \"1m\"",
            "jwks_max_stale: must be at least jwks_refresh, which is \"5m\"",
        ),
        (
            &format!("{key}jwks_uri = \"https://a.uz\""),
            "auth.issuers[0].jwks_uri: unknown setting; did you mean \"jwks_url\"?",
        ),
        (&format!("{key}issuer = \"a\"\n[[auth.issuers]]\n{key}"), "auth.issuers[1].audiences: is missing"),
        (
            &format!("{key}issuer = \"a\"\n[[auth.issuers]]\nissuer = \"a\""),
            "auth.issuers[1].issuer: is the same as that of auth.issuers[0]",
        ),
    ] {
        let found = issuer_problems(text);
        assert!(found.contains(expected), "{text}\n  expected: {expected}\n  found: {found}");
        assert!(!found.contains("s3cr3t"), "{found}");
    }
    for good in [
        "jwks_url = \"http://localhost:81/k\"",
        "jwks_url = \"http://[::1]:81/k\"",
        "jwks_url = \"http://127.0.0.1/k\"",
        "jwks_url = \"https://login.example.uz/k?p=policy\"",
        "public_key_file = \"p\"\nalgorithms = [\"RS256\", \"PS512\"]",
        "hmac_secret_file = \"s\"\nalgorithms = [\"HS256\"]",
    ] {
        assert_eq!(issuer_problems(good), "", "{good}");
    }
    let both = settings(
        "[[auth.issuers]]\nissuer = \"dev\"\naudiences = [\"a\"]\nalgorithms = [\"HS512\"]\nhmac_secret_file = \"s\"",
    );
    assert_eq!(both.auth.issuers[1].keys, KeySource::HmacSecretFile(PathBuf::from("s")));
}

#[test]
fn tenants() {
    for (text, expected) in [
        ("[tenants.b]", "tenants.b: needs vendor_token_file or vendor_token_env"),
        (
            "[tenants.b]\nvendor_token_file = \"f\"\nvendor_token_env = \"E\"",
            "tenants.b: must have only one of vendor_token_file and vendor_token_env",
        ),
        (
            "[tenants.b]\nvendor_token_env = \"E\"\ncallback_secret_file = \"f\"\ncallback_secret_env = \"E\"",
            "must have only one of callback_secret_file and callback_secret_env",
        ),
        (
            "[tenants.b]\nvendor_token_env = \"s3cr3t-t0ken\"",
            "tenants.b.vendor_token_env: must be the name of an environment variable",
        ),
        ("[tenants.b]\nvendor_token_file = \"\"", "tenants.b.vendor_token_file: must be the path of a file"),
        (
            "[tenants.b]\nvendor_token_env = \"E\"\nmax_concurrency = 0",
            "tenants.b.max_concurrency: must be a whole number",
        ),
        (
            "[tenants.\"b/c\"]\nvendor_token_env = \"E\"",
            "tenants.\"b/c\": the tenant's name has the character '/'",
        ),
        ("[tenants]\nb = 1", "tenants.b: must be a table"),
    ] {
        let found = problems(text);
        assert!(found.contains(expected), "{text}\n  expected: {expected}\n  found: {found}");
        assert!(!found.contains("s3cr3t"), "{found}");
    }
    let own = settings("[tenants.b]\nvendor_token_env = \"E\"\ncallback_secret_file = \"f\"\nburst = 7");
    let own = &own.tenants[&TenantId::parse("b").unwrap()];
    assert_eq!(own.vendor_token, SecretSource::Env("E".to_owned()));
    assert_eq!(own.callback_secret, Some(SecretSource::File(PathBuf::from("f"))));
    let common = RateLimitSettings { requests_per_second: 100, burst: 200 };
    assert_eq!(own.rate_limit(&common), RateLimitSettings { requests_per_second: 100, burst: 7 });
}
