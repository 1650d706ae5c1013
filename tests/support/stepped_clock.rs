//! System clocks that a test can step. libfaketime reads the offset from a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library of Debian's package `libfaketime`, installed or unpacked by `tests/tools`.
fn library() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/libfaketimeMT.so.1");
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let installed = libraries.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    installed.chain([tools]).find(|library| library.exists())
}

/// The clock of one or more processes.
pub(crate) struct SteppedClock {
    library: PathBuf,
    file: PathBuf,
}

impl SteppedClock {
    /// Creates a clock without offset, if the library is installed. `file` has the offset.
    pub(crate) fn find(file: PathBuf) -> Option<Self> {
        let clock = Self { library: library()?, file };
        clock.set(0);
        Some(clock)
    }

    /// Sets the offset from the real time.
    pub(crate) fn set(&self, seconds: i64) {
        // The rename is atomic: no process reads a partial file.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// Makes the process use this clock for the time of day. The monotonic clock stays real.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        for switch in
            ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"]
        {
            command.env(switch, "1");
        }
    }
}
