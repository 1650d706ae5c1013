//! The machine and the versions of the programs.

use std::fs;
use std::process::Command;

use tokio::runtime::Runtime;

use crate::report::Report;

pub(crate) fn describe(report: &mut Report, _: &Runtime) {
    let text = |path: &str| fs::read_to_string(path).expect("Linux has this file");
    let field = |path: &str, name: &str| {
        let found = text(path).lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
        found.map_or_else(|| "–".to_owned(), |value| value.trim_start_matches([':', ' ']).to_owned())
    };
    let cores = text("/proc/cpuinfo").matches("processor\t").count();
    let kibibytes = field("/proc/meminfo", "MemTotal");
    let kibibytes: f64 = kibibytes.trim_end_matches(" kB").parse().expect("MemTotal is a number");
    let memory = format!("{:.0} GiB", kibibytes / f64::from(1 << 20));
    let rows = [
        ("processor", format!("{}, {cores} cores", field("/proc/cpuinfo", "model name"))),
        ("memory", memory),
        ("Linux", text("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("gateway", version(&crate::gateway::program().to_string_lossy(), "--version")),
        ("HAProxy", version("haproxy", "-v")),
        ("Envoy", version("envoy", "--version")),
        ("nginx", version("nginx", "-v")),
        ("PostgreSQL", version("pgbench", "--version")),
        ("load", version("wrk", "-v")),
    ];
    let rows: Vec<_> = rows.map(|(name, value)| vec![name.to_owned(), value]).into();
    report.table("Machine", &["what", "value"], &rows);
}

/// Returns the first line with text that a program prints for this option.
fn version(program: &str, option: &str) -> String {
    let output =
        Command::new(program).arg(option).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.is_empty()).unwrap_or("–");
    // A path may precede the version. The rest of the line is a copyright or an address.
    let line = line.split_once(" version: ").map_or(line, |(_, version)| version);
    line.split(" [").next().unwrap_or(line).split(" - ").next().unwrap_or(line).trim().to_owned()
}
