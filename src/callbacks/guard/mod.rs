//! Where callbacks may go: to the public Internet, and to what the operator names; never inside.
//!
//! A caller chooses the URL, so without this a callback could post to a database, a cloud's metadata service
//! (`169.254.169.254`) or this gateway's own admin port (server-side request forgery).

mod blocks;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use url::Host;

use crate::config::CallbackSettings;
use crate::domain::callback_url::CallbackUrl;

/// Why a callback may not go somewhere.
///
/// Its text names the rule and not the address: to a caller, the address of an inside name would be news.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// `http:` without `callbacks.allow_http`.
    #[error("callbacks go to https only")]
    Http,
    /// Not a public address, and in none of `callbacks.allow_networks`.
    #[error("the host's address is {kind}; callbacks go to public addresses only")]
    Address {
        /// The address itself, for the operator's log.
        address: IpAddr,
        /// What it is instead: "private (RFC 1918)".
        kind: &'static str,
    },
}

/// Knows where callbacks may go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guard {
    allow_http: bool,
    allow_networks: Arc<[IpNet]>,
}

impl Guard {
    /// A guard with the operator's exceptions.
    pub fn new(settings: &CallbackSettings) -> Self {
        Self { allow_http: settings.allow_http, allow_networks: settings.allow_networks.as_slice().into() }
    }

    /// Whether the URL alone speaks for or against it: its scheme, an address in it, or a name of this very machine.
    ///
    /// Other names pass: they are checked by what they resolve to, at each delivery.
    ///
    /// # Errors
    /// [`Forbidden`] names the broken rule.
    pub fn admit(&self, url: &CallbackUrl) -> Result<(), Forbidden> {
        if url.as_url().scheme() != "https" && !self.allow_http {
            return Err(Forbidden::Http);
        }
        // For http and https the parser has turned every spelling of an IPv4 address into one (WHATWG URL, 3.5).
        match url.as_url().host() {
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
            Some(Host::Domain(name)) if is_localhost(name) => self
                .check_address(Ipv4Addr::LOCALHOST.into())
                .or_else(|error| self.check_address(Ipv6Addr::LOCALHOST.into()).map_err(|_| error)),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }

    /// Whether a connection may be made to this address. An IPv6 spelling of an IPv4 address counts as that address.
    ///
    /// # Errors
    /// [`Forbidden::Address`] says what the address is.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Forbidden> {
        let meant = blocks::embedded(address).map_or(address, IpAddr::V4);
        if self.allow_networks.iter().any(|network| network.contains(&address) || network.contains(&meant)) {
            return Ok(());
        }
        blocks::special(meant).map_or(Ok(()), |kind| Err(Forbidden::Address { address, kind }))
    }
}

/// `localhost` and all names under it are loopback (RFC 6761, 6.3), whatever a resolver says.
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests;
