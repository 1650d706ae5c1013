//! `[network]`: connections to other servers.

use std::path::PathBuf;

use toml::Value;

use super::accepts::Accepts;
use super::declare::settings;
use super::keys::{Contents, list_of};
use super::proxy_url::{InvalidProxyUrl, ProxyUrl};
use super::rules::{InvalidValue, ValueRule, boolean, file, text};

/// By default, connections are direct and use the certificate authorities of the system.
impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            https_proxy: None,
            http_proxy: None,
            no_proxy: Vec::new(),
            proxy_callbacks: false,
            ca_file: None,
        }
    }
}

settings! {
    /// Connections to other servers: forward proxies and certificate authorities.
    struct NetworkSettings {
        /// Forward proxy for https:// URLs of AloVoice, the issuers and the trace collector. Without this key, the variables
        /// HTTPS_PROXY and ALL_PROXY apply, in upper or lower case. A user name and a password in the URL are secrets: set this
        /// key by its environment variable, and take the value from a secret store. Schemes: http, https, socks5, socks5h,
        /// socks4, socks4a.
        https_proxy: Option<ProxyUrl> = proxy_url().optional().example("http://proxy.example.uz:3128"),
        /// Forward proxy for http:// URLs. Without this key, the variables HTTP_PROXY and ALL_PROXY apply.
        http_proxy: Option<ProxyUrl> = proxy_url().optional().example("http://proxy.example.uz:3128"),
        /// Hosts to connect to without a proxy: names (including their subdomains), addresses or networks, each with or without a
        /// port. The value "*" means all hosts. Without this key, the variable NO_PROXY applies.
        no_proxy: Vec<String> = list_of(text()).default(Value::Array(Vec::new())).example(vec!["localhost", ".svc", "10.0.0.0/8"]),
        /// Also sends callbacks through the proxy. The proxy connects to the receivers, so the proxy must refuse internal
        /// addresses. If the gateway itself resolves the name of a receiver to a forbidden address, it still refuses the
        /// receiver.
        proxy_callbacks: bool = boolean().default(false),
        /// PEM file with certificate authorities and self-signed server certificates that are trusted in addition to those of
        /// the system, for AloVoice, issuers, receivers and the trace collector. The gateway re-reads the file when it changes.
        /// The variables SSL_CERT_FILE and SSL_CERT_DIR replace the authorities of the system.
        ca_file: Option<PathBuf> = file().optional().example("/etc/alovoice/corporate-ca.pem"),
    }
}

/// Creates the rule for the URL of a forward proxy. An error does not show the URL, which may contain a password.
fn proxy_url() -> ValueRule<ProxyUrl> {
    ValueRule::new(Accepts::ProxyUrl, |given| {
        let url = given.text().unwrap_or_default();
        url.parse().map_err(|error: InvalidProxyUrl| InvalidValue::because(error.to_string()))
    })
}
