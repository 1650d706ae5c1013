//! Machines' clocks that can be stepped: libfaketime under a process, told by a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's package `libfaketime`, installed or unpacked by `tests/tools`.
fn library() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/libfaketimeMT.so.1");
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let installed = libraries.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    installed.chain([tools]).find(|library| library.exists())
}

/// The clock of one process after the other.
pub(super) struct SteppedClock {
    library: PathBuf,
    file: PathBuf,
}

impl SteppedClock {
    /// One that is right, if the library is there.
    pub(super) fn find(file: PathBuf) -> Option<Self> {
        let clock = Self { library: library()?, file };
        clock.set(0);
        Some(clock)
    }

    /// So many seconds fast, from now on.
    pub(super) fn set(&self, seconds: i64) {
        // In one step: a process that reads half a file would not know the time.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// The process is to go by it. Only the time of day: a monotonic clock is not set by anybody.
    pub(super) fn wind(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        for switch in
            ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"]
        {
            command.env(switch, "1");
        }
    }
}
