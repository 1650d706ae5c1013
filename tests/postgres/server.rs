//! A PostgreSQL server for tests.

use std::path::{Path, PathBuf};

use tokio::sync::OnceCell;
use uuid::Uuid;

use super::certificate;
use super::cluster::Cluster;
use super::database::{Database, connect};
use super::run::Run;

/// The superuser that all tests connect as.
pub(super) const USER: &str = "gateway";

/// Options of a server.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Whether a commit waits for the disk. Without it, tests are faster, and commits still survive a killed process, but not a power
    /// failure. With it, a start after a kill syncs a thousand files, which takes half a minute on a busy disk. Benchmarks use it.
    pub(crate) fsync: bool,
    /// Whether TCP connections require TLS.
    pub(crate) tls: bool,
    /// Whether a test can step the server's clock (`Server::set_clock`), if libfaketime is installed.
    pub(crate) stepped_clock: bool,
}

/// Kind of shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Rolls transactions back, closes connections and writes a checkpoint.
    Fast,
    /// Like a crash of the server. The next start recovers committed data from the log.
    Immediate,
    /// Kills all processes at once, without any message to clients.
    Kill,
}

/// A server with its own folder and port. Dropping the value stops the server and removes its data.
pub(crate) struct Server {
    // Declared before the cluster, so that it is dropped first: it uses the folder of the cluster.
    run: Option<Run>,
    cluster: Cluster,
}

static SHARED: OnceCell<Server> = OnceCell::const_new();

impl Server {
    /// Starts a server and waits until it accepts connections.
    pub(crate) async fn start(options: Options) -> Self {
        let cluster = tokio::task::spawn_blocking(move || Cluster::make(options));
        let mut cluster = cluster.await.unwrap();
        let run = cluster.run(true).await;
        Self { run: Some(run), cluster }
    }

    /// Whether `set_clock` can step the clock.
    pub(crate) fn has_stepped_clock(&self) -> bool {
        self.cluster.clock().is_some()
    }

    /// Sets the offset of the server's clock from the real time, in seconds.
    pub(crate) fn set_clock(&self, seconds: i64) {
        self.cluster.clock().unwrap().set(seconds);
    }

    /// The server that all tests of this process share.
    pub(crate) async fn shared() -> &'static Self {
        SHARED.get_or_init(|| Self::start(Options::default())).await
    }

    /// The URL of a database. With TLS, it names the certificate to trust.
    pub(crate) fn url(&self, database: &str) -> String {
        let plain = format!("postgres://{USER}@127.0.0.1:{}/{database}", self.cluster.port());
        if !self.cluster.options().tls {
            return plain;
        }
        format!("{plain}?sslmode=verify-full&sslrootcert={}", certificate::path(self.folder()).display())
    }

    /// The URL of a database through the server's Unix socket.
    pub(crate) fn socket_url(&self, database: &str) -> String {
        let (folder, port) = (self.folder().display(), self.cluster.port());
        let host = folder.to_string().replace('/', "%2F");
        format!("postgres://{USER}@{host}:{port}/{database}")
    }

    fn folder(&self) -> &Path {
        self.cluster.path()
    }

    /// The path of a client program: beside the server, or else on the `PATH`.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.cluster.program(name)
    }

    pub(crate) fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// Creates an empty database with a unique name.
    pub(crate) async fn fresh_database(&self) -> Database {
        let name = format!("test_{}", Uuid::now_v7().simple());
        let client = connect(&self.socket_url("postgres")).await.unwrap();
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        Database::new(self.url(&name), self.socket_url("postgres"), name)
    }

    /// Stops the server. Its port refuses connections until the next start.
    pub(crate) async fn stop(&mut self, how: Shutdown) {
        let run = self.run.take().expect("a running server");
        match how {
            Shutdown::Fast => run.end("INT", &[]).await,
            Shutdown::Immediate => run.end("QUIT", &[]).await,
            Shutdown::Kill => run.end("KILL", &self.cluster.children()).await,
        }
    }

    /// Starts the server after `stop`, with the same data and port.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.run.is_none(), "the server runs already");
        self.run = Some(self.cluster.run(false).await);
    }

    /// Stops the server and starts it again.
    pub(crate) async fn restart(&mut self, how: Shutdown) {
        self.stop(how).await;
        self.start_again().await;
    }
}
