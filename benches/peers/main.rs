//! Comparison with peers in one run: `benches/run`, or `cargo bench --bench peers -- [--record] [PART...]`.
//!
//! The program under test has one core, and the load has the other core. Runs alternate, so that changes of the machine's speed affect
//! all sides, and medians are compared. The gateway has default settings with the audit log, and a pipe takes its log. The environment
//! variable `GATEWAY` names another program to measure. Needs Linux, two cores, `taskset` and the peers, which `benches/run` checks.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints a table and its progress")]
#![expect(clippy::unwrap_used, reason = "a benchmark may fail at any line")]

mod bare;
mod callbacks;
mod fill;
mod filled;
mod gateway;
mod growth;
mod history;
mod load;
mod machine;
mod memory;
#[expect(dead_code, reason = "each binary uses only a part of it")]
#[path = "../../tests/postgres/mod.rs"]
mod postgres;
mod process;
mod reads;
mod receiver;
mod report;
mod scale;
mod servers;
mod signer;
mod submits;

use std::process::ExitCode;

use report::Report;
use tokio::runtime::Runtime;

/// A part of the run.
type Part = fn(&mut Report, &Runtime);

const PARTS: [(&str, Part); 10] = [
    ("machine", machine::describe),
    ("reads", reads::measure),
    ("submits", submits::measure),
    ("callbacks", callbacks::measure),
    ("pipeline-sqlite", callbacks::measure_pipeline_on_sqlite),
    ("pipeline-postgres", callbacks::measure_pipeline_on_postgres),
    ("memory", memory::measure),
    ("growth-sqlite", growth::measure_sqlite),
    ("growth-postgres", growth::measure_postgres),
    ("scale", scale::measure),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [mode, rest @ ..] = arguments.as_slice()
        && let Some(code) = bare::run(mode, rest)
    {
        return code;
    }
    let runtime = Runtime::new().expect("a runtime");
    let is_recorded = arguments.iter().any(|argument| argument == "--record");
    for (name, measure) in PARTS {
        let is_chosen = arguments.iter().all(|argument| argument.starts_with("--"))
            || arguments.iter().any(|it| {
                name.strip_prefix(it.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            });
        if is_chosen {
            let mut report = Report::default();
            measure(&mut report, &runtime);
            if is_recorded {
                report.record(name);
            } else {
                report.print();
            }
        }
    }
    ExitCode::SUCCESS
}
