//! URL of a forward proxy.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
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

/// The characters that are percent-encoded in a user name and a password. The characters that RFC 3986, 3.2.1, allows are
/// not encoded. `%` is not encoded either, because the text may be encoded already.
const USER_INFO: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'%');

impl FromStr for ProxyUrl {
    type Err = InvalidProxyUrl;

    /// Parses a URL. Like other programs, the function reads `proxy.example.uz:3128` as a URL with `http://`. The user name and
    /// the password end at the last `@`. So only the character `%` in them must be percent-encoded.
    fn from_str(text: &str) -> Result<Self, InvalidProxyUrl> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (user, server) =
            rest.rsplit_once('@').map_or((None, rest), |(user, server)| (Some(user), server));
        let user = user.map(|user| format!("{}@", utf8_percent_encode(user, USER_INFO)));
        let url = Zeroizing::new(format!("{scheme}://{}{server}", user.unwrap_or_default()));
        let url = Url::parse(&url).map_err(|_| InvalidProxyUrl)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_and_a_password_may_have_any_character() {
        for (text, url) in [
            ("http://u:p%40ss@proxy.test:3128", "http://u:p%40ss@proxy.test:3128/"),
            ("http://u:p@ss:w@proxy.test:3128", "http://u:p%40ss%3Aw@proxy.test:3128/"),
            ("http://CORP\\u:p#a/s?s@proxy.test", "http://CORP%5Cu:p%23a%2Fs%3Fs@proxy.test/"),
            ("u:100%@proxy.test:3128", "http://u:100%@proxy.test:3128/"),
            ("socks5h://u:\u{43f}@proxy.test", "socks5h://u:%D0%BF@proxy.test"),
        ] {
            let proxy: ProxyUrl = text.parse().unwrap();
            assert_eq!(proxy.expose(), url, "{text}");
            assert!(
                proxy.to_string().ends_with("//proxy.test")
                    || proxy.to_string().ends_with("//proxy.test:3128")
            );
        }
    }
}
