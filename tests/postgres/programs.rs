//! The programs of PostgreSQL, and the account that runs them.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with the programs of one installed version.
pub(super) struct Programs(PathBuf);

impl Programs {
    /// Searches the folder in `POSTGRES_BIN`, then the `PATH`, then Debian's newest version, then the one of `tests/tools`.
    pub(super) fn find() -> Self {
        if let Some(chosen) = std::env::var_os("POSTGRES_BIN").map(PathBuf::from) {
            assert!(is_complete(&chosen), "POSTGRES_BIN={} has no initdb and postgres", chosen.display());
            return Self(chosen);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/postgresql/bin");
        let folders = std::env::split_paths(&path).chain(of_debian()).chain([tools]);
        let found = folders.into_iter().find(|folder| is_complete(folder));
        Self(found.expect(
            "PostgreSQL is missing: run tests/tools, or set POSTGRES_BIN to the folder of its programs",
        ))
    }

    /// The path of a client program: beside the server, or else on the `PATH`.
    pub(super) fn client(&self, name: &str) -> PathBuf {
        let beside = self.path(name);
        if beside.is_file() { beside } else { PathBuf::from(name) }
    }

    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file())
}

/// Debian's versions, newest first. Debian installs them side by side and not on the `PATH`.
fn of_debian() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let mut folders: Vec<_> =
        entries.filter_map(|entry| Some((version(&entry.path())?, entry.path().join("bin")))).collect();
    folders.sort();
    folders.into_iter().rev().map(|(_, folder)| folder).collect()
}

/// An account of the operating system.
#[derive(Clone, Copy)]
pub(super) struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// The account for PostgreSQL, which refuses to run as root. `None` if the new `folder` does not belong to root.
    pub(super) fn instead_of_root(folder: &Path) -> Option<Self> {
        if folder.metadata().unwrap().uid() != 0 {
            return None;
        }
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
        let numbers = |name: &str| {
            let fields: Vec<&str> = accounts
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>())
                .find(|fields| fields[0] == name)?;
            Some(Self { user: fields[2].parse().ok()?, group: fields[3].parse().ok()? })
        };
        Some(numbers("postgres").or_else(|| numbers("nobody")).expect("an account other than root"))
    }

    pub(super) fn run(self, command: &mut Command) {
        command.uid(self.user).gid(self.group);
    }

    pub(super) fn own(self, path: &Path) {
        std::os::unix::fs::chown(path, Some(self.user), Some(self.group)).unwrap();
    }
}
