//! The load: `wrk` with one thread on the second core.

use std::io::Write;
use std::process::Command;

use crate::process::{self, Process};

/// Connections of a load, if a row names no other number.
pub(crate) const CONNECTIONS: u32 = 32;

/// Duration of a run in seconds.
pub(crate) const SECONDS: u32 = 4;

/// A load for `wrk`.
#[derive(Clone)]
pub(crate) struct Load {
    url: String,
    token: Option<String>,
    connections: u32,
    script: String,
    /// The process whose CPU time counts.
    process: Option<u32>,
}

/// Result of a run.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    /// Operations per second.
    pub(crate) rate: f64,
    /// Durations of the operations at p50 and p99, in milliseconds, if the run measured them.
    pub(crate) percentiles: Option<(f64, f64)>,
    /// CPU time per operation in microseconds, if the run measured it.
    pub(crate) cpu: Option<f64>,
}

impl Measured {
    pub(crate) fn rate(rate: f64) -> Self {
        Self { rate, percentiles: None, cpu: None }
    }
}

/// Prints the number of requests, the duration, the errors, and the latency at p50 and p99. All times are in microseconds.
const RESULT: &str = r#"
done = function(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99)))
end
"#;

/// Submits a new call with every request. The seed makes the call ids of each run unique, also of runs at the same time: it has an
/// address, which the system chooses at random.
const SUBMIT: &str = r#"
local count = 0
local seed = os.time() .. "-" .. tostring(wrk):gsub("%W+", "")
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  count = count + 1
  return wrk.format(nil, nil, nil, '{"call_id": "' .. seed .. "-" .. count .. '"}')
end
"#;

impl Load {
    pub(crate) fn get(url: &str, token: Option<&str>) -> Self {
        Self {
            url: url.to_owned(),
            token: token.map(str::to_owned),
            connections: CONNECTIONS,
            script: RESULT.to_owned(),
            process: None,
        }
    }

    /// Measures the CPU time of the process too.
    pub(crate) fn on(self, process: &Process) -> Self {
        Self { process: Some(process.id()), ..self }
    }

    pub(crate) fn submit(url: &str, token: &str, connections: u32) -> Self {
        Self { connections, script: format!("{SUBMIT}{RESULT}"), ..Self::get(url, Some(token)) }
    }

    /// Runs the load. All responses must have a 2xx status.
    pub(crate) fn run(&self) -> Measured {
        let mut script = tempfile::NamedTempFile::new().expect("a temporary file");
        script.write_all(self.script.as_bytes()).expect("a temporary file takes a script");
        let mut command = Command::new("taskset");
        command.args(["-c", "1", "wrk", "-t1", &format!("-c{}", self.connections), &format!("-d{SECONDS}s")]);
        if let Some(token) = &self.token {
            command.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        let before = self.process.map(process::cpu_time);
        let output = command.arg("-s").arg(script.path()).arg(&self.url).output().expect("wrk is needed");
        let text = String::from_utf8_lossy(&output.stdout);
        let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
        let numbers: Vec<f64> = result
            .into_iter()
            .flat_map(str::split_whitespace)
            .filter_map(|number| number.parse().ok())
            .collect();
        let [requests, duration, failed, p50, p99] = numbers[..] else {
            panic!("wrk printed no result:\n{text}")
        };
        assert!(failed == 0.0, "{failed} of {requests} requests failed:\n{text}");
        let cpu = self
            .process
            .map(process::cpu_time)
            .zip(before)
            .map(|(after, before)| (after - before) / requests * 1e6);
        Measured { rate: requests / duration * 1e6, percentiles: Some((p50 / 1e3, p99 / 1e3)), cpu }
    }
}
