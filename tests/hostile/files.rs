//! Settings with the right outline and arbitrary values.

use proptest::prelude::*;
use proptest::sample::select;

use crate::checks::settings::check;

const KEYS: &[&str] = &[
    "server.listen",
    "server.max_connections",
    "server.shutdown_grace",
    "vendor.base_url",
    "vendor.max_response_bytes",
    "vendor.polling.growth",
    "vendor.polling.min_interval",
    "store.url",
    "callbacks.allow_networks",
    "callbacks.retry_schedule",
    "rate_limit.burst",
    "log.filter",
    "auth.issuers",
    "tenants.acme",
    "tenants.acme.vendor_token_file",
    "tenants.acme.burst",
    "tenants.\"\\u0000\"",
    "\"\"",
    "server",
    "vendr.x",
];

const VALUES: &[&str] = &[
    "1",
    "-9223372036854775808",
    "nan",
    "inf",
    "1e308",
    "true",
    "1979-05-27T07:32:00Z",
    "\"\"",
    "\"1h\"",
    "\"18446744073709551615d\"",
    "\"18446744073709551615GiB\"",
    "\"16MiB\"",
    "\"0.0.0.0:0\"",
    "\"https://u:p@x/?y#z\"",
    "\"sqlite://\\u0000\"",
    "\"info,x=y=z\"",
    "[]",
    "[[], {}, \"10.0.0.0/8\", \"10.0.0.0/99\"]",
    "{}",
    "{ a = { b = { c = [ { } ] } } }",
    "[{ issuer = \"a\", audiences = [], algorithms = [\"none\"], jwks_url = \"file:///etc/passwd\" }]",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn a_file_is_accepted_or_refused(
        lines in prop::collection::vec((select(KEYS), select(VALUES)), 0..8),
        variables in prop::collection::vec((select(KEYS), prop_oneof![select(VALUES).prop_map(str::to_owned), "[^\0]{0,12}"]), 0..4),
    ) {
        let mut input = String::new();
        for (key, value) in lines {
            input.push_str(&format!("{key} = {value}\n"));
        }
        for (key, value) in variables {
            input.push_str(&format!("\0GATEWAY_{}={value}", key.to_uppercase().replace('.', "__")));
        }
        check(input.as_bytes());
    }
}
