//! The rules that every outgoing HTTP client shares.
//!
//! The clients of the vendor, the issuers, the receivers and the trace collector start from [`Network`], which knows the
//! forward proxies and the certificate authorities. Each client adds its own time-outs, resolver and retry rule.
//! [`Network::explain`] returns the reason of a failed request, with the same rules for all clients.

mod authorities;
mod failure;
mod lookup;
mod proxies;

use std::fmt;
use std::sync::Arc;

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use url::Url;

use self::authorities::Authorities;
pub use self::failure::causes;
pub use self::lookup::{Lookup, SystemLookup, hold_during_lookups, socket_addresses};
use self::proxies::Proxies;
use crate::config::{NetworkSettings, SettingsProblem, SettingsProblems};
use crate::domain::transport_error::TransportError;
use crate::secrets::ReloadableSecrets;

/// Maximum number of lookups of host names in progress, except for callbacks, which have their own limit.
const MAX_LOOKUPS: usize = 128;

/// Certificate authorities, proxies and name resolution of the connections to other servers, as `[network]` sets them. Clones
/// share the certificate authorities.
#[derive(Clone)]
pub struct Network {
    tls: ClientConfig,
    authorities: Arc<Authorities>,
    proxies: Arc<Proxies>,
    proxies_of_callbacks: Arc<Proxies>,
    lookup: SystemLookup,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Network {
    /// Loads the certificate authorities of the system and of `network.ca_file`.
    ///
    /// # Errors
    /// Returns an error if a file cannot be used, or if there are no certificate authorities at all.
    pub fn new(settings: &NetworkSettings) -> Result<Self, SettingsProblems> {
        let authorities = Arc::new(Authorities::load(settings)?);
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions();
        let tls = tls.map_err(|error| problem("network", &error))?;
        let mut tls = tls
            .dangerous() // `authorities` uses the verifier of rustls and only makes its errors more precise.
            .with_custom_certificate_verifier(authorities.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let proxies = Arc::new(Proxies::new(settings));
        let proxies_of_callbacks =
            if settings.proxy_callbacks { Arc::clone(&proxies) } else { Arc::default() };
        let lookup = SystemLookup::new(MAX_LOOKUPS);
        Ok(Self { tls, authorities, proxies, proxies_of_callbacks, lookup })
    }

    /// Returns the connections of callbacks. These connections use a proxy only if `network.proxy_callbacks` is set. A proxy
    /// resolves host names itself, so the address guard of callbacks cannot check the addresses behind a proxy.
    pub fn of_callbacks(&self) -> Self {
        Self { proxies: Arc::clone(&self.proxies_of_callbacks), ..self.clone() }
    }

    /// Returns a builder of clients that use the proxies.
    pub fn builder(&self) -> ClientBuilder {
        self.proxies.add_to(self.direct_builder())
    }

    /// Returns a builder of clients that connect to every server directly.
    pub fn direct_builder(&self) -> ClientBuilder {
        builder().tls_backend_preconfigured(self.tls.clone()).dns_resolver(self.lookup.clone())
    }

    /// Returns whether a proxy forwards requests to this URL.
    pub fn is_proxied(&self, url: &Url) -> bool {
        self.proxies.forward(url)
    }

    /// Returns the reason of a failed request. `error` must still have its URL, which shows whether a proxy was used.
    pub fn explain(&self, error: &reqwest::Error) -> TransportError {
        failure::explain(error, |url| self.is_proxied(url))
    }

    /// Returns the file of certificate authorities, which may change while the process runs.
    pub fn secrets(&self) -> ReloadableSecrets {
        self.authorities.secrets()
    }

    /// Returns warnings for the log: problems of the system's certificates that do not prevent connections.
    pub fn warnings(&self) -> &[String] {
        self.authorities.warnings()
    }
}

/// Returns the reason of a failed request that was sent without a proxy.
pub fn explain(error: &reqwest::Error) -> TransportError {
    failure::explain(error, |_| false)
}

/// Returns a builder of clients without proxies and with the certificate authorities of the system.
///
/// The clients follow no redirects. A redirect could carry tokens and headers to another host, and could bypass the address
/// guard of callbacks.
pub fn builder() -> ClientBuilder {
    ClientBuilder::new()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
}

fn problem(path: &str, error: &dyn std::error::Error) -> SettingsProblem {
    SettingsProblem { path: path.to_owned(), detail: error.to_string() }
}
