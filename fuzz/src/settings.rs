//! Settings: a file and environment variables in the form `NAME=value`, separated by zero bytes.

use std::io::Write;

use alovoice_gateway::config::load;

/// Settings are accepted or refused, and each problem has a key and a detail.
pub fn check(input: &[u8]) {
    let mut parts = input.split(|byte| *byte == 0);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(parts.next().unwrap_or_default()).unwrap();
    let variables = parts.filter_map(|part| {
        let (name, value) = std::str::from_utf8(part).ok()?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    match load(Some(file.path()), variables) {
        Ok(settings) => {
            let polling = &settings.vendor.polling;
            assert!(polling.min_interval <= polling.max_interval);
            assert!(!settings.tenants.is_empty() && !settings.auth.issuers.is_empty());
        }
        Err(problems) => {
            assert!(!problems.0.is_empty());
            for problem in &problems.0 {
                assert!(!problem.path.is_empty() && !problem.detail.is_empty(), "{problem:?}");
            }
        }
    }
}
