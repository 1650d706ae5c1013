//! The load: `wrk`, one thread, 32 connections, on the second core.

use std::io::Write;
use std::process::Command;

/// A load for `wrk`.
pub(crate) struct Load {
    url: String,
    token: Option<String>,
    script: Option<&'static str>,
}

/// Submits a new call with every request. The seed makes the call ids of each run unique.
const SUBMIT: &str = r#"
local count = 0
local seed = os.time() .. "-" .. math.random(1, 1000000000)
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  count = count + 1
  return wrk.format(nil, nil, nil, '{"call_id": "' .. seed .. "-" .. count .. '"}')
end
"#;

impl Load {
    pub(crate) fn get(url: &str, token: Option<&str>) -> Self {
        Self { url: url.to_owned(), token: token.map(str::to_owned), script: None }
    }

    pub(crate) fn submit(url: &str, token: &str) -> Self {
        Self { url: url.to_owned(), token: Some(token.to_owned()), script: Some(SUBMIT) }
    }

    /// Measures requests per second with a 2xx response.
    pub(crate) fn run(&self) -> f64 {
        let mut command = Command::new("taskset");
        command.args(["-c", "1", "wrk", "-t1", "-c32", "-d5s"]);
        if let Some(token) = &self.token {
            command.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        let script = self.script.map(|text| {
            let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
            file.write_all(text.as_bytes()).expect("a temporary file takes a script");
            file
        });
        if let Some(script) = &script {
            command.arg("-s").arg(script.path());
        }
        let output =
            command.arg(&self.url).output().expect("taskset and wrk are needed (apt-get install wrk)");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("Non-2xx"), "not everything was answered 2xx:\n{text}");
        let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no rate in:\n{text}"))
    }
}

pub(crate) fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
