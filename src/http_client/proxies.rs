//! Forward proxies, and the hosts that are reached without them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::{ClientBuilder, Proxy};
use url::{Host, Url};

use crate::config::{NetworkSettings, ProxyUrl};

/// The forward proxies of the settings; none by default.
#[derive(Default)]
pub(super) struct Proxies {
    https: Option<ProxyUrl>,
    http: Option<ProxyUrl>,
    direct: Vec<DirectHosts>,
}

impl Proxies {
    pub(super) fn new(settings: &NetworkSettings) -> Self {
        Self {
            https: settings.https_proxy.clone(),
            http: settings.http_proxy.clone(),
            direct: settings.no_proxy.iter().map(|entry| DirectHosts::parse(entry)).collect(),
        }
    }

    /// Adds the proxies to a client.
    pub(super) fn add_to(self: &Arc<Self>, client: ClientBuilder) -> ClientBuilder {
        if self.https.is_none() && self.http.is_none() {
            return client;
        }
        let proxies = Arc::clone(self);
        // The client sends the user name and the password in the URL to the proxy.
        client.proxy(Proxy::custom(move |url| proxies.of(url).map(|proxy| proxy.expose().to_owned())))
    }

    /// Returns whether a proxy forwards requests to this URL.
    pub(super) fn forward(&self, url: &Url) -> bool {
        self.of(url).is_some()
    }

    fn of(&self, url: &Url) -> Option<&ProxyUrl> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !self.direct.iter().any(|hosts| hosts.contain(url)))
    }
}

/// One entry of `network.no_proxy`.
#[derive(Debug, PartialEq, Eq)]
struct DirectHosts {
    hosts: Hosts,
    /// The only port to which the entry applies; `None` for all ports.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// The addresses of a network.
    Network(IpNet),
    /// A name and its subdomains.
    Domain(String),
}

impl DirectHosts {
    /// Parses an entry: `*`, an address, a network, or a name. A name may begin with `.` or `*.`, and a port may follow an
    /// address, a network or a name.
    fn parse(entry: &str) -> Self {
        let entry = entry.trim();
        // A port follows an IPv6 address only after brackets.
        let with_port = entry.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
        let with_port = with_port.and_then(|(host, port)| Some((host, Some(port.parse().ok()?))));
        let (host, port) = with_port.unwrap_or((entry, None));
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let network = host.parse().or_else(|_| host.parse::<IpAddr>().map(IpNet::from));
        let hosts = match network {
            Ok(network) => Hosts::Network(network),
            Err(_) if host == "*" => Hosts::All,
            Err(_) => {
                let name = host.strip_prefix('*').unwrap_or(host);
                Hosts::Domain(name.trim_matches('.').to_ascii_lowercase())
            }
        };
        Self { hosts, port }
    }

    fn contain(&self, url: &Url) -> bool {
        if self.port.is_some() && self.port != url.port_or_known_default() {
            return false;
        }
        match (&self.hosts, url.host()) {
            (Hosts::All, _) => true,
            (Hosts::Network(network), Some(Host::Ipv4(address))) => network.contains(&IpAddr::from(address)),
            (Hosts::Network(network), Some(Host::Ipv6(address))) => network.contains(&IpAddr::from(address)),
            (Hosts::Domain(domain), Some(Host::Domain(name))) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_direct(entry: &str, url: &str) -> bool {
        DirectHosts::parse(entry).contain(&url.parse().unwrap())
    }

    #[test]
    fn an_entry_names_hosts_by_name_address_network_or_port() {
        for (entry, url) in [
            ("*", "https://cld.alovoice.uz"),
            ("alovoice.uz", "https://alovoice.uz"),
            ("alovoice.uz", "https://cld.alovoice.uz"),
            (".alovoice.uz", "https://cld.alovoice.uz"),
            (".alovoice.uz", "https://alovoice.uz"),
            ("*.alovoice.uz", "https://cld.alovoice.uz"),
            ("AloVoice.UZ.", "https://cld.alovoice.uz."),
            ("cld.alovoice.uz:443", "https://cld.alovoice.uz"),
            ("*.alovoice.uz:8443", "https://cld.alovoice.uz:8443"),
            ("localhost", "http://localhost:4318"),
            ("10.0.0.0/8", "http://10.1.2.3"),
            ("10.9.9.9/8", "http://10.1.2.3"),
            ("127.0.0.1", "http://127.0.0.1:8081"),
            ("127.0.0.1:8081", "http://127.0.0.1:8081"),
            ("127.0.0.1:80", "http://127.0.0.1"),
            ("::1", "http://[::1]:8081"),
            ("[::1]", "http://[::1]:8081"),
            ("[::1]:8081", "http://[::1]:8081"),
            ("fd00::/8", "http://[fd12::3]"),
            (" 127.0.0.1 ", "http://127.0.0.1"),
        ] {
            assert!(is_direct(entry, url), "{entry} {url}");
        }
        for (entry, url) in [
            ("", "https://cld.alovoice.uz"),
            (".", "https://cld.alovoice.uz."),
            ("alovoice.uz", "https://notalovoice.uz"),
            ("cld.alovoice.uz", "https://alovoice.uz"),
            ("cld.alovoice.uz:8443", "https://cld.alovoice.uz"),
            ("127.0.0.1:8082", "http://127.0.0.1:8081"),
            ("[::1]:8082", "http://[::1]:8081"),
            ("10.0.0.0/8", "http://11.0.0.1"),
            ("0.0.0.0/0", "https://cld.alovoice.uz"),
            ("::/0", "http://10.0.0.1"),
            ("10.0.0.1", "http://10.0.0.1.example.uz"),
        ] {
            assert!(!is_direct(entry, url), "{entry} {url}");
        }
    }
}
