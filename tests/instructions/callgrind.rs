//! Runs the workload under callgrind and reads the counts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::baseline::Cost;
use crate::workload::{self, BATCHES, HOME};

/// Counts the operations of the workload.
pub(crate) fn measure() -> BTreeMap<String, Cost> {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    workload::write_keys(home.path());
    let log = File::create(path("log")).unwrap();
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--vgdb=no", "--dump-line=no", "--compress-strings=no"])
        .args(["--zero-before=*counting_begins*", "--dump-before=*counting_ends*"])
        .arg(format!("--callgrind-out-file={}", path("counts").display()))
        .arg(std::env::current_exe().unwrap())
        .args(["workload::run", "--exact", "--ignored", "--nocapture"])
        .env(HOME, home.path())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .status()
        .unwrap_or_else(|error| panic!("valgrind: {error}. Run tests/tools, which installs it"));
    assert!(status.success(), "{status}\n{}", fs::read_to_string(path("log")).unwrap());
    let mut costs = BTreeMap::new();
    for (index, batch) in fs::read_to_string(path(BATCHES)).unwrap().lines().enumerate() {
        let (name, operations) = batch.split_once(' ').unwrap();
        let count = read(&path(&format!("counts.{}", index + 1)));
        let cost = count.of_one_in(operations.parse().unwrap());
        costs.entry(name.to_owned()).and_modify(|least: &mut Cost| *least = least.min(cost)).or_insert(cost);
    }
    costs
}

/// Reads a file of callgrind, with long names and without line numbers.
fn read(path: &Path) -> Cost {
    let mut cost = Cost { instructions: 0, allocations: 0 };
    let mut callee = "";
    let text = fs::read_to_string(path).unwrap();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("cfn=") {
            callee = name;
        } else if let Some(calls) = line.strip_prefix("calls=")
            && (callee.contains("__rust_alloc") || callee.contains("__rust_realloc"))
        {
            cost.allocations += calls.split(' ').next().unwrap().parse::<u64>().unwrap();
        } else if let Some(total) = line.strip_prefix("totals: ") {
            cost.instructions = total.parse().unwrap();
        }
    }
    cost
}
