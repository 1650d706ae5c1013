//! Protection against server-side request forgery. Callbacks go only to public addresses and to the networks that the operator
//! allows.
//!
//! The caller chooses the URL. Without this check, a callback could reach a database, the metadata service of a cloud
//! (`169.254.169.254`) or the admin port of this gateway.

mod blocks;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use url::Host;

use crate::config::CallbackSettings;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::field_problem::FieldProblem;
use crate::domain::transforms::{Transform, TransformError};

/// Reason why a receiver is forbidden.
///
/// Its text names the rule and not the address, because callers must not learn the address of an internal name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The scheme is `http`, and `callbacks.allow_http` is off.
    #[error("the URL must use https")]
    Http,
    /// The address is not public, and `callbacks.allow_networks` does not list it.
    #[error("the host's address must be public, but it is {kind}")]
    Address {
        /// The address, for the log.
        address: IpAddr,
        /// The kind of address, such as "private (RFC 1918)".
        kind: &'static str,
    },
}

/// Reason why a template is forbidden.
const NO_TEMPLATES: &str = "is not allowed: the operator has not set callbacks.allow_templates; use a preset";

/// Decides which receivers are allowed. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Guard {
    allow_http: bool,
    allow_networks: Arc<[IpNet]>,
    allow_templates: bool,
}

impl Guard {
    /// Creates a guard with the exceptions from the settings.
    pub fn new(settings: &CallbackSettings) -> Self {
        let CallbackSettings { allow_http, allow_templates, .. } = *settings;
        Self { allow_http, allow_networks: settings.allow_networks.as_slice().into(), allow_templates }
    }

    /// Checks that a transform is allowed, and compiles its template. Templates need `callbacks.allow_templates`.
    ///
    /// # Errors
    /// [`FieldProblem`] if the template is not allowed or not valid.
    pub fn admit_transform(&self, transform: &Transform) -> Result<(), FieldProblem> {
        if self.forbids(transform) {
            return Err(FieldProblem::of_template(NO_TEMPLATES.to_owned()));
        }
        transform.compile()
    }

    /// Checks that a transform may render now. The operator may have forbidden templates after the transform was stored.
    ///
    /// # Errors
    /// Returns the reason if the transform has a forbidden template.
    pub fn admit_rendering(&self, transform: &Transform) -> Result<(), TransformError> {
        if self.forbids(transform) {
            return Err(TransformError(vec![format!("the template {NO_TEMPLATES}")]));
        }
        Ok(())
    }

    const fn forbids(&self, transform: &Transform) -> bool {
        transform.template.is_some() && !self.allow_templates
    }

    /// Checks the URL without resolving its host name: the scheme, a literal address, and whether the name belongs to this
    /// machine.
    ///
    /// Other names pass. Their addresses are checked at each delivery.
    ///
    /// # Errors
    /// [`Forbidden`] names the rule that the URL violates.
    pub fn admit(&self, url: &CallbackUrl) -> Result<(), Forbidden> {
        if url.as_url().scheme() != "https" && !self.allow_http {
            return Err(Forbidden::Http);
        }
        // For http and https the parser normalizes every spelling of an IPv4 address (WHATWG URL, 3.5).
        match url.as_url().host() {
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
            Some(Host::Domain(name)) if is_localhost(name) => self
                .check_address(Ipv4Addr::LOCALHOST.into())
                .or_else(|error| self.check_address(Ipv6Addr::LOCALHOST.into()).map_err(|_| error)),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }

    /// Checks that a connection to this address is allowed. An IPv6 address that embeds an IPv4 address is checked as
    /// the IPv4 address.
    ///
    /// # Errors
    /// [`Forbidden::Address`] if the address is forbidden. The error names the kind of address.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Forbidden> {
        let effective = blocks::embedded(address).map_or(address, IpAddr::V4);
        if self
            .allow_networks
            .iter()
            .any(|network| network.contains(&address) || network.contains(&effective))
        {
            return Ok(());
        }
        blocks::special(effective).map_or(Ok(()), |kind| Err(Forbidden::Address { address, kind }))
    }
}

/// Whether the name is `localhost` or a subdomain of `localhost`. These names are loopback (RFC 6761, 6.3), even if a resolver
/// returns other addresses.
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests;
