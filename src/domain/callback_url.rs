//! Where a callback goes. The spelling is checked here; the address by the guard (`callbacks::guard`).

use std::fmt;

use url::Url;

/// A callback's URL: absolute, `http` or `https`, a host, no userinfo, no fragment, at most 2,048 bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CallbackUrl(Url);

/// Why a text is not a callback's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallbackUrl {
    /// Over [`CallbackUrl::MAX_LEN`].
    #[error("must have at most {max} bytes, has {0}", max = CallbackUrl::MAX_LEN)]
    TooLong(usize),
    /// Not an absolute URL at all.
    #[error("is not an absolute URL: {0}")]
    Syntax(url::ParseError),
    /// `ftp:`, `file:`, `javascript:` and the like.
    #[error("has the scheme {0:?}; allowed are \"https\" and, if the operator allows it, \"http\"")]
    Scheme(String),
    /// `https://user:password@…`.
    #[error("must not carry a user name or password")]
    UserInfo,
    /// `…#part` never reaches the receiver.
    #[error("must not carry a fragment")]
    Fragment,
}

impl CallbackUrl {
    /// The most bytes a URL may have, as it is given and in its normal form.
    pub const MAX_LEN: usize = 2048;

    /// Checks the rules and takes the URL in its normal form (so that one URL counts once).
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
        // Encoded, a URL may be three times as long; and what is stored has to be taken again when it is read.
        if url.as_str().len() > Self::MAX_LEN {
            return Err(InvalidCallbackUrl::TooLong(url.as_str().len()));
        }
        Ok(Self(url))
    }

    /// The URL itself.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The URL's text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// `scheme://host:port`: what counts as one receiver, for its share of the work.
    pub fn receiver(&self) -> String {
        self.0.origin().ascii_serialization()
    }
}

impl fmt::Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Debug shows the receiver alone: paths and queries of callback URLs often carry keys.
impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallbackUrl({}/…)", self.receiver())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_usual_and_normalises_it() {
        let url = CallbackUrl::parse("HTTPS://CRM.example.uz:443/hook?x=1").unwrap();
        assert_eq!(url.as_str(), "https://crm.example.uz/hook?x=1");
        assert_eq!(url.receiver(), "https://crm.example.uz");
        assert_eq!(format!("{url:?}"), "CallbackUrl(https://crm.example.uz/…)");
    }

    #[test]
    fn refuses_every_other_form() {
        use InvalidCallbackUrl as E;
        assert!(matches!(CallbackUrl::parse("/hook"), Err(E::Syntax(_))));
        assert!(matches!(CallbackUrl::parse("https://"), Err(E::Syntax(_))));
        assert_eq!(CallbackUrl::parse("ftp://a.uz/"), Err(E::Scheme("ftp".into())));
        assert_eq!(CallbackUrl::parse("https://u@a.uz/"), Err(E::UserInfo));
        assert_eq!(CallbackUrl::parse("https://:p@a.uz/"), Err(E::UserInfo));
        assert_eq!(CallbackUrl::parse("https://a.uz/#f"), Err(E::Fragment));
        let long = format!("https://a.uz/{}", "x".repeat(2048));
        assert_eq!(CallbackUrl::parse(&long), Err(E::TooLong(long.len())));
        // Short as it is written, long as it is sent.
        let encoded = format!("https://a.uz/{}", "ё".repeat(700));
        assert_eq!(CallbackUrl::parse(&encoded), Err(E::TooLong(13 + 6 * 700)));
    }
}
