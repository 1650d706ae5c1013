//! A collector of another project: rotel, or where rotel does not run, a script around OpenTelemetry's own definitions.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::net::TcpStream;
use url::Url;

use super::spans::{Span, spans_of};
use crate::gateway::{Gateway, within};
use crate::peers::{python, tools};
use crate::postgres::cluster::free_port;

/// A running collector.
pub(crate) struct Collector {
    process: Gateway,
    address: SocketAddr,
}

impl Collector {
    /// Starts a collector with its files in `home`.
    pub(crate) async fn start(home: &Path) -> Self {
        loop {
            let (address, grpc) = (free_address(), free_address());
            let process = Gateway::start(command(home, address, grpc));
            let listens = async {
                while TcpStream::connect(address).await.is_err() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = within("the collector", listens) => return Self { process, address },
                // Another program took one of the ports.
                _ = process.stdout.line_or_end("its end", |_| false) => {}
            }
        }
    }

    /// The value for `traces.otlp_endpoint`.
    pub(crate) fn endpoint(&self) -> Url {
        format!("http://{}", self.address).parse().unwrap()
    }

    /// Waits until the collector has received `count` spans with this name.
    pub(crate) async fn gets(&self, count: usize, name: &str) {
        let line = format!("    Name           : {name}");
        let enough = |lines: &[String]| lines.iter().filter(|known| **known == line).count() >= count;
        self.process.stdout.until("spans at the collector", enough).await;
    }

    /// Stops the collector and returns all spans that it received.
    pub(crate) async fn spans(self) -> Vec<Span> {
        self.process.signal("KILL");
        spans_of(&self.process.stdout.whole().await)
    }
}

fn command(home: &Path, address: SocketAddr, grpc: SocketAddr) -> Command {
    let folder = tools().join("rotel");
    let mut rotel = Command::new(folder.join("rotel-agent"));
    rotel.env("LD_LIBRARY_PATH", &folder);
    let check = Command::new(folder.join("rotel-agent"))
        .env("LD_LIBRARY_PATH", &folder)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !check.is_ok_and(|status| status.success()) {
        eprintln!("rotel does not run here (see tests/tools): using tests/peers/otlp_receiver.py instead");
        let mut script = python("otlp_receiver.py");
        script.args([address.ip().to_string(), address.port().to_string()]);
        return script;
    }
    rotel.arg("start").args(["--exporter", "blackhole", "--log-format", "json"]);
    rotel.args(["--debug-log", "traces", "--debug-log-verbosity", "detailed"]);
    rotel.args(["--otlp-http-endpoint", &address.to_string(), "--otlp-grpc-endpoint", &grpc.to_string()]);
    rotel.arg("--pid-file").arg(home.join("rotel.pid"));
    rotel
}

/// An address that no other test uses: rotel cannot choose a port itself.
fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}
