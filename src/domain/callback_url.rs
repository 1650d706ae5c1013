//! URLs of callbacks. This module checks the syntax; the guard (`callbacks::guard`) checks the address.

use std::fmt;

use url::Url;

/// URL of a callback: absolute, `http` or `https`, without user name, password and fragment, at most 2,048 bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CallbackUrl(Url);

/// Reason why a string is not the URL of a callback.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallbackUrl {
    /// The URL is longer than [`CallbackUrl::MAX_LEN`].
    #[error("must have at most {max} bytes, has {0}", max = CallbackUrl::MAX_LEN)]
    TooLong(usize),
    /// The string is not an absolute URL.
    #[error("is not an absolute URL: {0}")]
    Syntax(url::ParseError),
    /// The scheme is neither `http` nor `https`.
    #[error("has the scheme {0:?}; allowed are \"https\" and, if the operator allows it, \"http\"")]
    Scheme(String),
    /// The URL has a user name or password.
    #[error("must not contain a user name or password")]
    UserInfo,
    /// The URL has a fragment, which would never reach the receiver.
    #[error("must not contain a fragment")]
    Fragment,
}

impl CallbackUrl {
    /// Maximum length in bytes, as given and after normalization.
    pub const MAX_LEN: usize = 2048;

    /// Checks the rules and normalizes the URL, so that all spellings of one URL are equal.
    ///
    /// # Errors
    /// [`InvalidCallbackUrl`] names the broken rule.
    pub fn parse(text: &str) -> Result<Self, InvalidCallbackUrl> {
        if text.len() > Self::MAX_LEN {
            return Err(InvalidCallbackUrl::TooLong(text.len()));
        }
        let url = Url::parse(text).map_err(InvalidCallbackUrl::Syntax)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidCallbackUrl::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidCallbackUrl::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(InvalidCallbackUrl::Fragment);
        }
        // Percent-encoding can triple the length, and the store parses the normalized URL again.
        if url.as_str().len() > Self::MAX_LEN {
            return Err(InvalidCallbackUrl::TooLong(url.as_str().len()));
        }
        Ok(Self(url))
    }

    /// Returns the parsed URL.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// Returns the URL as a string.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the key for limits per receiver: `scheme://host:port`.
    pub fn receiver(&self) -> String {
        self.0.origin().ascii_serialization()
    }
}

impl fmt::Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Debug shows only the receiver: paths and queries of callback URLs often contain keys.
impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallbackUrl({}/…)", self.receiver())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_url_is_normalized() {
        let url = CallbackUrl::parse("HTTPS://CRM.example.uz:443/hook?x=1").unwrap();
        assert_eq!(url.as_str(), "https://crm.example.uz/hook?x=1");
        assert_eq!(url.receiver(), "https://crm.example.uz");
        assert_eq!(format!("{url:?}"), "CallbackUrl(https://crm.example.uz/…)");
    }

    #[test]
    fn other_urls_are_refused() {
        use InvalidCallbackUrl as E;
        assert!(matches!(CallbackUrl::parse("/hook"), Err(E::Syntax(_))));
        assert!(matches!(CallbackUrl::parse("https://"), Err(E::Syntax(_))));
        assert_eq!(CallbackUrl::parse("ftp://a.uz/"), Err(E::Scheme("ftp".into())));
        assert_eq!(CallbackUrl::parse("https://u@a.uz/"), Err(E::UserInfo));
        assert_eq!(CallbackUrl::parse("https://:p@a.uz/"), Err(E::UserInfo));
        assert_eq!(CallbackUrl::parse("https://a.uz/#f"), Err(E::Fragment));
        let long = format!("https://a.uz/{}", "x".repeat(2048));
        assert_eq!(CallbackUrl::parse(&long), Err(E::TooLong(long.len())));
        // The URL is short as written, and too long after encoding.
        let encoded = format!("https://a.uz/{}", "ё".repeat(700));
        assert_eq!(CallbackUrl::parse(&encoded), Err(E::TooLong(13 + 6 * 700)));
    }
}
