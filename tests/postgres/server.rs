//! The server as tests see it.

use std::path::{Path, PathBuf};

use tokio::sync::OnceCell;
use uuid::Uuid;

use super::certificate;
use super::cluster::Cluster;
use super::database::{Database, connect};
use super::run::Run;

/// Whom everybody connects as. It may do anything.
pub(super) const USER: &str = "gateway";

/// What differs between servers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Whether a commit waits for the disk. Without it everything is faster, and survives a kill all the same: what a
    /// process has written outlives it, only not the machine's end. With it, a start after a kill syncs a thousand
    /// files first, which takes a busy disk half a minute. Something for measurements.
    pub(crate) fsync: bool,
    /// Whether TCP connections need TLS.
    pub(crate) tls: bool,
}

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Transactions are rolled back, connections told and closed, everything is written to its place.
    Fast,
    /// As in a crash of the server: what was committed is recovered from the log at the next start.
    Immediate,
    /// As in a power cut: all its processes are gone at once, and nobody is told.
    Kill,
}

/// A server, alone in its folder and on its port. Dropping it ends it and removes what it stored.
pub(crate) struct Server {
    // Before the cluster, whose folder it uses.
    run: Option<Run>,
    cluster: Cluster,
}

static SHARED: OnceCell<Server> = OnceCell::const_new();

impl Server {
    /// A new one, which takes connections.
    pub(crate) async fn start(options: Options) -> Self {
        let cluster = tokio::task::spawn_blocking(move || Cluster::make(options));
        let mut cluster = cluster.await.unwrap();
        let run = cluster.run(true).await;
        Self { run: Some(run), cluster }
    }

    /// The one that the tests of this process share, in a database each.
    pub(crate) async fn shared() -> &'static Self {
        SHARED.get_or_init(|| Self::start(Options::default())).await
    }

    /// The URL of a database. With TLS it says what certificate to trust.
    pub(crate) fn url(&self, database: &str) -> String {
        let plain = format!("postgres://{USER}@127.0.0.1:{}/{database}", self.cluster.port());
        if !self.cluster.options().tls {
            return plain;
        }
        format!("{plain}?sslmode=verify-full&sslrootcert={}", certificate::path(self.folder()).display())
    }

    /// The same through the server's socket in the file system.
    pub(crate) fn socket_url(&self, database: &str) -> String {
        let (folder, port) = (self.folder().display(), self.cluster.port());
        let host = folder.to_string().replace('/', "%2F");
        format!("postgres://{USER}@{host}:{port}/{database}")
    }

    fn folder(&self) -> &Path {
        self.cluster.path()
    }

    /// One of the programs that come with it: beside it, or on the `PATH`.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.cluster.program(name)
    }

    pub(crate) fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// An empty database of a name that no other has.
    pub(crate) async fn fresh_database(&self) -> Database {
        let name = format!("test_{}", Uuid::now_v7().simple());
        let client = connect(&self.socket_url("postgres")).await.unwrap();
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        Database::new(self.url(&name), self.socket_url("postgres"), name)
    }

    /// Ends it; its port stays its own, and refuses connections.
    pub(crate) async fn stop(&mut self, how: Shutdown) {
        let run = self.run.take().expect("a server that runs");
        match how {
            Shutdown::Fast => run.end("INT", &[]).await,
            Shutdown::Immediate => run.end("QUIT", &[]).await,
            Shutdown::Kill => run.end("KILL", &self.cluster.children()).await,
        }
    }

    /// Starts it again after `stop`, with the same data on the same port.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.run.is_none(), "the server runs already");
        self.run = Some(self.cluster.run(false).await);
    }

    /// Ends it and starts it again.
    pub(crate) async fn restart(&mut self, how: Shutdown) {
        self.stop(how).await;
        self.start_again().await;
    }
}
