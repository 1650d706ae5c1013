//! `[server]`: listeners and limits on connections and requests.

use std::net::SocketAddr;
use std::time::Duration;

use url::Url;

use super::declare::settings;
use super::keys::Contents;
use super::rules::{address, base_url, duration, integer, size};
use super::units::{HOUR, KIB, MIB, MILLISECOND, MINUTE};

settings! {
    /// Listeners of the gateway and limits on connections and requests.
    struct ServerSettings {
        /// Address of the API.
        listen: SocketAddr = address().default("0.0.0.0:8080").example("[::]:8443"),
        /// Address of metrics and probes (/metrics, /livez, /readyz). It has no authentication: do not make it reachable from outside.
        admin_listen: SocketAddr = address().default("0.0.0.0:9090").example("[::]:9191"),
        /// Maximum duration of a shutdown after SIGTERM, in which requests in flight finish.
        shutdown_grace: Duration = duration(Duration::ZERO..=HOUR).default("25s"),
        /// First part of shutdown_grace, in which the gateway still accepts requests while /readyz answers 503. Set
        /// it to the time that a load balancer needs to notice the 503, about "5s" in Kubernetes. It must be shorter
        /// than shutdown_grace.
        shutdown_delay: Duration = duration(Duration::ZERO..=HOUR).default("0s"),
        /// Maximum size of a request body.
        max_body_bytes: usize = size(KIB..=64 * MIB).default("4MiB"),
        /// Maximum time that a client may take to send the head of a request. A slower client gets a 408.
        head_timeout: Duration = duration(MILLISECOND..=5 * MINUTE).default("10s"),
        /// Maximum time that a client may take to send the body of a request. A slower client gets a 408. A client that reads
        /// nothing of an answer for this time is disconnected.
        body_timeout: Duration = duration(MILLISECOND..=HOUR).default("30s"),
        /// Maximum number of open connections. A further connection closes the one that has been idle longest, or waits if all
        /// connections have requests in progress. With several tenants, a tenant gets at most half of the connections. Each
        /// connection needs a file descriptor: see ulimit -n.
        max_connections: usize = integer(1..=1_000_000).default(4_096),
        /// Public URL of the API. All links in answers and events begin with it: Location, audio_url, links to recordings, the
        /// type of a problem, the server in the OpenAPI document. Without this URL, links are paths. The URL may have a path
        /// that a proxy in front of the gateway removes.
        public_url: Option<Url> = base_url().optional().example("https://calls.example.uz"),
    }
    check |section| {
        // Port 0 requests a free port from the system, so two listeners with port 0 get different ports.
        let is_same = |listen: SocketAddr, admin: SocketAddr| {
            let is_any = listen.ip().is_unspecified() || admin.ip().is_unspecified();
            listen.port() != 0 && listen.port() == admin.port() && (is_any || listen.ip() == admin.ip())
        };
        if listen.zip(admin_listen).is_some_and(|(listen, admin)| is_same(listen, admin)) {
            section.problem("admin_listen", "must differ from server.listen: callers must not reach metrics and probes");
        }
        if let (Some(delay), Some(grace)) = (shutdown_delay, shutdown_grace)
            && delay > Duration::ZERO
            && delay >= grace
        {
            section.problem("shutdown_delay", "must be shorter than server.shutdown_grace, which includes it");
        }
    }
}
