//! URL of a forward proxy.

use std::fmt;
use std::str::FromStr;

use secrecy::zeroize::Zeroizing;
use url::Url;

/// Schemes of proxies: HTTP proxies (`CONNECT`), and SOCKS proxies. With `socks5h` and `socks4a` the proxy resolves names.
const SCHEMES: [&str; 6] = ["http", "https", "socks5", "socks5h", "socks4", "socks4a"];

/// URL of a forward proxy, with its user name and password. `Debug` shows scheme, host and port only.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    url: Zeroizing<String>,
    shown: String,
}

impl ProxyUrl {
    /// Returns the URL with its user name and password.
    pub fn expose(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The string is not the URL of a proxy. The error does not repeat the string, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the URL of a proxy such as \"http://proxy.example.uz:3128\"")]
pub struct InvalidProxyUrl;

impl FromStr for ProxyUrl {
    type Err = InvalidProxyUrl;

    /// Parses a URL. As other programs do, it reads `proxy.example.uz:3128` as a URL with `http://`.
    fn from_str(text: &str) -> Result<Self, InvalidProxyUrl> {
        let text = text.trim();
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&with_scheme).map_err(|_| InvalidProxyUrl)?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(InvalidProxyUrl)?;
        let has_only_root = matches!(url.path(), "" | "/");
        if !SCHEMES.contains(&url.scheme())
            || !has_only_root
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err(InvalidProxyUrl);
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let shown = format!("{}://{host}{port}", url.scheme());
        Ok(Self { url: String::from(url).into(), shown })
    }
}
