//! The rules that every outgoing HTTP client shares.
//!
//! The clients of the vendor, the issuers, the receivers, the trace collector and the `health` command all start from
//! [`builder`]. Each of them adds its own time-outs, resolver and retry rule.

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

/// Starts an HTTP client: TLS is verified with the certificate authorities of the operating system.
///
/// - Redirects are not followed. A redirect would carry tokens and headers to another host, and past the address guard
///   of callbacks.
/// - Proxies from the environment (`HTTPS_PROXY`) are ignored. A proxy resolves names itself, out of sight of that guard.
pub fn builder() -> ClientBuilder {
    ClientBuilder::new()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
}
