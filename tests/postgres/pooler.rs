//! PgBouncer in front of a server.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use url::Url;

use super::cluster::free_port;
use super::database::Database;
use super::programs::Account;
use super::server::{Server, USER};

/// The script that runs PgBouncer until its standard input closes, also after the test process was killed.
const SUPERVISOR: &str = r#"
"$1" "$2" </dev/null &
pooler=$!
read -r _
kill -KILL "$pooler"
wait "$pooler"
"#;

/// A running PgBouncer. Dropping it closes its connections.
pub(crate) struct Pooler {
    port: u16,
    supervisor: Child,
    _folder: TempDir,
}

impl Pooler {
    /// Starts PgBouncer with these settings of its section `pgbouncer`, such as `pool_mode = session`. Prints a line and returns
    /// `None` if PgBouncer is not installed.
    pub(crate) fn start(server: &Server, settings: &str) -> Option<Self> {
        let program = Program::find()?;
        let folder = tempfile::Builder::new().prefix("pgbouncer-").tempdir().unwrap();
        let file = folder.path().join("pgbouncer.ini");
        let port = free_port();
        let content = format!(
            "[databases]\n* = host=127.0.0.1 port={} user={USER}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = any\nunix_socket_dir =\nmax_client_conn = 200\n{settings}\n",
            server.port()
        );
        std::fs::write(&file, content).unwrap();
        let mut supervisor = Command::new("sh");
        supervisor.args(["-c", SUPERVISOR, "pgbouncer supervisor"]).arg(&program.path).arg(&file);
        supervisor.env("LD_LIBRARY_PATH", &program.libraries).process_group(0);
        // PgBouncer refuses to run as root.
        if let Some(account) = Account::instead_of_root(folder.path()) {
            account.own(folder.path());
            account.run(&mut supervisor);
        }
        let mut supervisor = supervisor.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(supervisor.stderr.take().unwrap());
        let mut lines = String::new();
        while !lines.contains("process up") {
            assert!(log.read_line(&mut lines).unwrap() > 0, "PgBouncer does not start:\n{lines}");
        }
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Some(Self { port, supervisor, _folder: folder })
    }

    /// Whether the installed PgBouncer keeps prepared statements in transaction mode, as 1.21 and newer do. Prints a line if it
    /// does not.
    pub(crate) fn keeps_statements() -> bool {
        let Some(program) = Program::find() else { return false };
        let output =
            Command::new(&program.path).env("LD_LIBRARY_PATH", &program.libraries).arg("--version").output();
        let output = String::from_utf8(output.unwrap().stdout).unwrap();
        let version = output.split_whitespace().nth(1).unwrap();
        let numbers: Vec<u32> = version.split('.').map(|number| number.parse().unwrap()).collect();
        let keeps = numbers.as_slice() >= &[1, 21];
        if !keeps {
            eprintln!(
                "skipped: PgBouncer {version} keeps no prepared statements; set PGBOUNCER to version 1.21 or newer"
            );
        }
        keeps
    }

    /// The URL of a database through PgBouncer.
    pub(crate) fn url(&self, database: &Database) -> String {
        let mut url: Url = database.url().parse().unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.into()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

struct Program {
    path: PathBuf,
    /// The folder of its libraries, if it has its own.
    libraries: PathBuf,
}

impl Program {
    /// Searches `PGBOUNCER`, then the `PATH` and `/usr/sbin`, then the one of `tests/tools`.
    fn find() -> Option<Self> {
        let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/pgbouncer");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), libraries.clone()]);
        let installed = folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file());
        let path = std::env::var_os("PGBOUNCER").map(PathBuf::from).or(installed);
        if path.is_none() {
            eprintln!("skipped: PgBouncer is missing; run tests/tools, or set PGBOUNCER to its program");
        }
        Some(Self { path: path?, libraries })
    }
}
