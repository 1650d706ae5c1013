//! Counts the instructions and allocations of the hot paths, and compares them with `baseline.toml`. If the instructions of an
//! operation change by more than 5 %, or its allocations by more than 2 %, the test fails and prints a table. Fewer instructions
//! fail, too, because a later increase would pass against an outdated baseline. To accept the new counts, run
//! `RECORD_INSTRUCTIONS=1 cargo test --test instructions`.
//!
//! Unlike times, the counts do not depend on the load of the machine. The test runs itself under callgrind, a tool of valgrind,
//! which counts the instructions of all threads in user space, and whose simulated processor hardly depends on the real one.
//! The workload uses a real gateway with the default logs over a socket, and a real store of `SQLite`.
//!
//! - **Debug code.** The test counts the code of the test build, because a release build takes ten minutes. The numbers are
//!   several times larger than those of a release build, but they show the same additional queries, copies and allocations.
//! - **No library.** gungraun keeps its baseline outside of the repository, needs a second program of exactly its own version, and
//!   builds with the profile of benchmarks.
//! - **One compiler.** Another compiler or processor needs other instructions. The test compares only on the machine that the
//!   baseline names.

#![expect(clippy::unwrap_used, reason = "a test may fail at any line")]

mod baseline;
mod callgrind;
#[path = "../support/clock.rs"]
mod clock;
#[expect(dead_code, reason = "each test binary uses a part of this shared source")]
#[path = "../store/harness.rs"]
mod harness;
#[path = "../support/patience.rs"]
mod patience;
#[expect(dead_code, reason = "each test binary uses a part of this shared source")]
#[path = "../support/rows.rs"]
mod rows;
#[expect(dead_code, reason = "each test binary uses a part of this shared source")]
#[path = "../auth/signer.rs"]
mod signer;
mod workload;

use baseline::{Baseline, RECORD};

#[test]
fn the_hot_paths_need_as_many_instructions_as_recorded() {
    let machine = baseline::machine();
    if std::env::var_os(RECORD).is_some() {
        return Baseline { machine, operations: callgrind::measure() }.write();
    }
    let recorded = Baseline::read();
    if recorded.machine != machine {
        return println!("not compared: the baseline is of {}, this is {machine}", recorded.machine);
    }
    let (table, differs) = recorded.compare(&callgrind::measure());
    println!("{table}");
    assert!(!differs, "{table}If this is intended, record it: {RECORD}=1 cargo test --test instructions");
}
