//! The committed counts, and their comparison with new counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

/// Environment variable that accepts the new counts.
pub(crate) const RECORD: &str = "RECORD_INSTRUCTIONS";
/// Largest accepted change of the number of instructions.
const INSTRUCTIONS: f64 = 0.05;
/// Largest accepted change of the number of allocations: less than one allocation of a cached read.
const ALLOCATIONS: f64 = 0.02;

/// The counts of all operations. Their names are in the order of the workload.
#[derive(Debug, Deserialize)]
pub(crate) struct Baseline {
    /// Processor and compiler.
    pub(crate) machine: String,
    pub(crate) operations: BTreeMap<String, Cost>,
}

/// The mean cost of one operation.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Cost {
    pub(crate) instructions: u64,
    /// Calls of the allocator that return new memory.
    pub(crate) allocations: u64,
}

impl Cost {
    /// Returns the mean cost of one operation of a batch.
    pub(crate) fn of_one_in(self, operations: u64) -> Self {
        Self { instructions: self.instructions / operations, allocations: self.allocations / operations }
    }

    pub(crate) fn min(self, other: Self) -> Self {
        Self {
            instructions: self.instructions.min(other.instructions),
            allocations: self.allocations.min(other.allocations),
        }
    }
}

/// Returns the processor and the compiler of this machine.
pub(crate) fn machine() -> String {
    let version = Command::new("rustc").arg("--version").output().unwrap().stdout;
    format!("{}, {}", std::env::consts::ARCH, String::from_utf8(version).unwrap().trim())
}

impl Baseline {
    pub(crate) fn read() -> Self {
        toml::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap()
    }

    pub(crate) fn write(&self) {
        let mut text = format!(
            "# Instructions and allocations of one operation, in debug code.\n\
             # Recorded by {RECORD}=1 cargo test --test instructions\n\
             machine = {:?}\n\n[operations]\n",
            self.machine
        );
        for (name, Cost { instructions, allocations }) in &self.operations {
            writeln!(text, "{name} = {{ instructions = {instructions}, allocations = {allocations} }}")
                .unwrap();
        }
        std::fs::write(path(), text).unwrap();
    }

    /// Compares the counts. Returns a table, and whether the counts differ too much.
    pub(crate) fn compare(&self, now: &BTreeMap<String, Cost>) -> (String, bool) {
        let mut table = format!(
            "{:<18}{:>14}{:>14}{:>9}{:>14}{:>6}\n",
            "operation", "instructions", "now", "change", "allocations", "now"
        );
        let mut differs = false;
        for name in self.operations.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
            let cost_in = |costs: &BTreeMap<String, Cost>| costs.get(name).copied().unwrap_or_default();
            let (before, now) = (cost_in(&self.operations), cost_in(now));
            let change = |before: u64, now: u64| now as f64 / before as f64 - 1.0;
            let instructions = change(before.instructions, now.instructions);
            let is_different = instructions.abs() > INSTRUCTIONS
                || change(before.allocations, now.allocations).abs() > ALLOCATIONS;
            differs |= is_different;
            writeln!(
                table,
                "{name:<18}{:>14}{:>14}{:>+8.1}%{:>14}{:>6}{}",
                before.instructions,
                now.instructions,
                100.0 * instructions,
                before.allocations,
                now.allocations,
                if is_different { "  <--" } else { "" }
            )
            .unwrap();
        }
        (table, differs)
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/instructions/baseline.toml")
}
