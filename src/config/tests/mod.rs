mod environment;
mod generated;
mod rules;
mod whole;

use std::io::Write;

use super::{Settings, SettingsProblems, load};

/// The smallest valid file: an issuer and a tenant.
const SMALLEST: &str = r#"
[[auth.issuers]]
issuer = "https://sso.example.uz/realms/crm"
audiences = ["alovoice-gateway"]
algorithms = ["RS256"]
jwks_url = "https://sso.example.uz/realms/crm/protocol/openid-connect/certs"
[tenants.acme]
vendor_token_file = "/run/secrets/alovoice/acme"
"#;

fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsProblems> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(Some(file.path()), variables)
}

/// Returns the settings of the smallest valid file followed by `text`.
fn settings(text: &str) -> Settings {
    load_with(&format!("{SMALLEST}\n{text}"), &[]).unwrap()
}

/// Returns the problems of the smallest valid file followed by `text`.
fn problems(text: &str) -> String {
    load_with(&format!("{SMALLEST}\n{text}"), &[]).unwrap_err().to_string()
}

/// Returns the problems of an issuer with the keys in `text`. A required key that `text` does not set gets a valid
/// value.
fn issuer_problems(text: &str) -> String {
    let mut issuer = String::from("[tenants.acme]\nvendor_token_env = \"ACME\"\n[[auth.issuers]]\n");
    for (key, value) in [("issuer", "\"me\""), ("audiences", "[\"us\"]"), ("algorithms", "[\"RS256\"]")] {
        if !text.contains(&format!("{key} =")) {
            issuer.push_str(&format!("{key} = {value}\n"));
        }
    }
    load_with(&(issuer + text), &[]).map_or_else(|problems| problems.to_string(), |_| String::new())
}
