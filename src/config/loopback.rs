//! Finds URLs whose host is this machine.

use url::{Host, Url};

/// Returns whether the host of a URL is this machine. Requests to such a URL do not cross the network.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
