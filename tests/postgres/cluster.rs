//! The parts of a server that survive its processes: data, settings and port.

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, Mutex};

use alovoice_gateway::domain::clock::{Entropy, SystemEntropy};
use tempfile::TempDir;

use super::certificate;
use super::programs::{Account, Programs};
use super::run::Run;
use super::server::Options;
use super::server::USER;
use super::stepped_clock::SteppedClock;

/// Maximum number of starts. Two servers can choose the same port at the same moment, but not this often in a row.
const ATTEMPTS: usize = 10;

pub(super) struct Cluster {
    folder: TempDir,
    programs: Programs,
    account: Option<Account>,
    options: Options,
    port: u16,
    clock: Option<SteppedClock>,
}

impl Cluster {
    /// Creates an empty cluster in a temporary folder.
    pub(super) fn make(options: Options) -> Self {
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir().unwrap();
        let account = Account::instead_of_root(folder.path());
        let clock = options.stepped_clock.then(|| SteppedClock::find(folder.path().join("clock"))).flatten();
        let cluster = Self { programs: Programs::find(), account, options, port: free_port(), clock, folder };
        if let Some(account) = account {
            account.own(cluster.path());
        }
        cluster.initialize();
        if options.tls {
            cluster.require_tls();
        }
        cluster
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.client(name)
    }

    pub(super) fn options(&self) -> Options {
        self.options
    }

    pub(super) fn clock(&self) -> Option<&SteppedClock> {
        self.clock.as_ref()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn initialize(&self) {
        let mut initdb = self.command(&self.programs.path("initdb"));
        initdb.arg("--pgdata").arg(self.data()).args(["--username", USER, "--auth=trust", "--no-sync"]);
        initdb.args(["--encoding=UTF8", "--locale=C", "--no-instructions"]);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Refuses TCP connections without TLS.
    fn require_tls(&self) {
        certificate::make(self.path());
        std::fs::write(self.data().join("pg_hba.conf"), "local all all trust\nhostssl all all all trust\n")
            .unwrap();
        if let Some(account) = self.account {
            account.own(&certificate::key_path(self.path()));
        }
    }

    /// Starts the server. With `may_move`, it changes to another port if this one is taken.
    pub(super) async fn run(&mut self, may_move: bool) -> Run {
        for _ in 0..ATTEMPTS {
            let mut run = Run::begin(self.server());
            match run.until_ready().await {
                Ok(()) => return run,
                Err(log) if may_move && log.contains("could not create any TCP/IP sockets") => {
                    self.port = free_port();
                }
                Err(log) => panic!("PostgreSQL does not start:\n{log}"),
            }
        }
        panic!("no free port for PostgreSQL");
    }

    /// The command of the server, run by its supervisor script.
    fn server(&self) -> Command {
        let mut supervisor = self.command("sh".as_ref());
        supervisor.args(["-c", super::run::SUPERVISOR, "postgres supervisor"]).arg(self.path());
        supervisor.arg(self.programs.path("postgres")).arg("-D").arg(self.data());
        for (name, value) in self.settings() {
            supervisor.arg("-c").arg(format!("{name}={value}"));
        }
        if let Some(clock) = &self.clock {
            clock.apply(&mut supervisor);
        }
        supervisor
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let switch = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
        let Options { fsync, tls, .. } = self.options;
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", self.path().display().to_string()),
            ("max_connections", "200".to_owned()),
            ("shared_buffers", "32MB".to_owned()),
            ("wal_level", "minimal".to_owned()),
            ("max_wal_senders", "0".to_owned()),
            ("fsync", switch(fsync)),
            ("full_page_writes", switch(fsync)),
            ("ssl", switch(tls)),
        ];
        if tls {
            settings.push(("ssl_cert_file", certificate::path(self.path()).display().to_string()));
            settings.push(("ssl_key_file", certificate::key_path(self.path()).display().to_string()));
        }
        settings
    }

    /// A command that runs as the owner of the cluster, with messages in English.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env("LC_ALL", "C").stdin(Stdio::null());
        if let Some(account) = self.account {
            account.run(&mut command);
        }
        command
    }

    /// Ids of the server's processes without the first one. Empty on a system without `/proc`.
    pub(super) fn children(&self) -> Vec<String> {
        let Ok(file) = std::fs::read_to_string(self.data().join("postmaster.pid")) else { return Vec::new() };
        let postmaster = file.lines().next().unwrap().trim();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let is_child = |stat: &str| {
            // The format is `id (name) state parent …`, and the name can contain any character.
            let (_, rest) = stat.rsplit_once(')')?;
            (rest.split_whitespace().nth(1)? == postmaster).then_some(())
        };
        let children = processes.filter_map(|process| {
            is_child(&std::fs::read_to_string(process.path().join("stat")).ok()?)?;
            process.file_name().into_string().ok()
        });
        children.collect()
    }
}

/// A free port below the range of outgoing connections, so that the port stays free while no server listens on it.
/// No port is returned twice in one process, and none that another running process of these tests got.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new((SystemEntropy.fraction() * f64::from(COUNT)) as u16));
    let next = || FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok() && reserve(*port);
    std::iter::repeat_with(next).find(is_free).unwrap()
}

/// Reserves the port for this process until it ends. Returns whether no other process has reserved it. The UDP port of the same
/// number stands for it, because no server of the tests uses UDP.
fn reserve(port: u16) -> bool {
    static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let Ok(socket) = UdpSocket::bind(("127.0.0.1", port)) else { return false };
    RESERVED.lock().unwrap().push(socket);
    true
}
