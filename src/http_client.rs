//! The rules that every outgoing HTTP client shares.
//!
//! The clients of the vendor, the issuers, the receivers, the trace collector and the `health` command all start from
//! [`builder`]. Each of them adds its own time-outs, resolver and retry rule.

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

/// Starts an HTTP client that verifies TLS with the certificate authorities of the operating system.
///
/// - It does not follow redirects. A redirect would carry tokens and headers to another host, and would bypass the
///   address guard of callbacks.
/// - It ignores proxies from the environment (`HTTPS_PROXY`). A proxy resolves names itself, which would bypass that
///   guard too.
pub fn builder() -> ClientBuilder {
    ClientBuilder::new()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
}
