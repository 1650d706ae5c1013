//! URLs of callbacks. This module checks the syntax; the guard (`callbacks::guard`) checks the address.

mod placeholders;
mod secrets;
#[cfg(test)]
mod tests;

use std::fmt;

use url::{Position, Url};

use self::placeholders::PathPart;
use self::secrets::{MASK, UrlPiece};
use super::call_facts::{CrmIds, CrmName};

/// URL of a callback: absolute, `http` or `https`, at most 2,048 bytes, without a user name, a password or a fragment. Its path
/// may have placeholders such as `{crm.ticket}` for ids of the call.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CallbackUrl {
    /// The URL. Braces of placeholders are percent-encoded.
    url: Url,
    /// The URL as callers see it.
    text: String,
    /// Parts of the path. The list is empty if the path has no placeholder.
    path: Vec<PathPart>,
}

/// Reason why a URL with placeholders cannot be used for a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnfilledUrl {
    /// The call does not have these ids.
    #[error("{} missing: the path of the URL contains it; send it with a submission of the call", missing(.0))]
    Missing(Vec<CrmName>),
    /// A segment of the path would be `.` or `..`, which would select another path.
    #[error("the ids in the path of the URL make a segment of only dots")]
    Dots,
    /// The URL with the ids is longer than [`CallbackUrl::MAX_LEN`].
    #[error("the URL with the ids of the call {0}")]
    TooLong(InvalidCallbackUrl),
}

fn missing(names: &[CrmName]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("call.crm.{}", name.as_str())).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

/// Reason why a string is not the URL of a callback.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallbackUrl {
    /// The URL is longer than [`CallbackUrl::MAX_LEN`].
    #[error("must have at most {max} bytes, has {0}", max = CallbackUrl::MAX_LEN)]
    TooLong(usize),
    /// The URL of a callback has a secret, and its sealed form is longer than [`CallbackUrl::MAX_SEALED`].
    #[error("has a secret, and has {0} bytes when it is encrypted, more than {max}: use a shorter URL", max = CallbackUrl::MAX_SEALED)]
    TooLongToSeal(usize),
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
    /// The host or the query has a placeholder.
    #[error("must have placeholders only in the path")]
    PlaceholderPlace,
    /// The path has a brace that belongs to no placeholder.
    #[error("must have braces only in placeholders such as {{crm.ticket}}; percent-encode other braces")]
    Placeholder,
    /// The URL has `***` in place of its secrets, as the gateway shows URLs.
    #[error("contains {mask}, which stands for a secret that is not shown; write the secret, or omit the URL to keep it", mask = MASK)]
    Masked,
}

impl CallbackUrl {
    /// Maximum length in bytes, as given and after normalization.
    pub const MAX_LEN: usize = 2048;
    /// Maximum size in bytes of the sealed URL of a callback in the store. An index of PostgreSQL contains the URL, and an entry of an
    /// index has at most 2,704 bytes.
    pub const MAX_SEALED: usize = 2600;

    /// Checks the rules and normalizes the URL, so that all spellings of one URL are equal.
    ///
    /// # Errors
    /// [`InvalidCallbackUrl`] names the broken rule.
    pub fn parse(text: &str) -> Result<Self, InvalidCallbackUrl> {
        if text.len() > Self::MAX_LEN {
            return Err(InvalidCallbackUrl::TooLong(text.len()));
        }
        let parsed = Self::parse_stored(text)?;
        if parsed.text.contains(MASK) {
            return Err(InvalidCallbackUrl::Masked);
        }
        Self::within_limit(&parsed.url)?;
        Ok(parsed)
    }

    /// Parses the output of [`CallbackUrl::as_str`]. The URL may be masked.
    ///
    /// # Errors
    /// [`InvalidCallbackUrl`] names the broken rule.
    pub fn parse_stored(text: &str) -> Result<Self, InvalidCallbackUrl> {
        let mut url = Url::parse(text).map_err(InvalidCallbackUrl::Syntax)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidCallbackUrl::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidCallbackUrl::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(InvalidCallbackUrl::Fragment);
        }
        if [url.host_str(), url.query()].into_iter().flatten().any(placeholders::is_in) {
            return Err(InvalidCallbackUrl::PlaceholderPlace);
        }
        placeholders::check_braces(text)?;
        let path = placeholders::parse(url.path())?;
        let mut text = url.to_string();
        if !path.is_empty() {
            let shown = placeholders::shown(&path);
            text = format!("{}{shown}{}", &url[..Position::BeforePath], &url[Position::AfterPath..]);
            // All spellings of a placeholder become equal.
            url.set_path(&shown);
        }
        Ok(Self { url, text, path })
    }

    /// Checks the length of the normalized URL: percent-encoding can triple the length, and the store parses the normalized
    /// URL again.
    fn within_limit(url: &Url) -> Result<(), InvalidCallbackUrl> {
        let length = url.as_str().len();
        if length > Self::MAX_LEN { Err(InvalidCallbackUrl::TooLong(length)) } else { Ok(()) }
    }

    /// Whether the path has placeholders.
    pub const fn has_placeholders(&self) -> bool {
        !self.path.is_empty()
    }

    /// Returns the names of the ids that the path needs. A name can occur more than once.
    pub fn placeholders(&self) -> impl Iterator<Item = &CrmName> {
        self.path.iter().filter_map(|part| match part {
            PathPart::Id(name) => Some(name),
            PathPart::Text(_) => None,
        })
    }

    /// Returns the URL for a call. Each id is percent-encoded, so it stays within its segment of the path.
    ///
    /// # Errors
    /// [`UnfilledUrl`] names the ids that the call does not have, or gives another reason.
    pub fn fill(&self, ids: &CrmIds) -> Result<Self, UnfilledUrl> {
        if !self.has_placeholders() {
            return Ok(self.clone());
        }
        let path = placeholders::fill(&self.path, ids).map_err(UnfilledUrl::Missing)?;
        let mut url = self.url.clone();
        url.set_path(&path);
        // The parser resolves segments of dots.
        if url.path() != path {
            return Err(UnfilledUrl::Dots);
        }
        Self::within_limit(&url).map_err(UnfilledUrl::TooLong)?;
        Ok(Self { text: url.to_string(), url, path: Vec::new() })
    }

    /// Returns the parsed URL. Its path has percent-encoded placeholders.
    pub const fn as_url(&self) -> &Url {
        &self.url
    }

    /// Returns the URL as a string, with placeholders in braces.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the URL with `***` in place of each secret. Texts for people and logs contain only this form of the URL.
    ///
    /// # Panics
    /// This method never panics, because a masked URL is a valid URL.
    #[must_use]
    pub fn masked(&self) -> Self {
        let shown = self.pieces().into_iter().map(|piece| if piece.is_secret { MASK } else { piece.text });
        let text = [&self.url[..Position::BeforePath]].into_iter().chain(shown).collect::<String>();
        Self::parse_stored(&text).expect("a masked URL is a URL")
    }

    /// Whether the URL has a secret.
    pub fn has_secret(&self) -> bool {
        self.pieces().iter().any(|piece| piece.is_secret && piece.text != MASK)
    }

    /// Returns the answer of the receiver with the secrets of the URL replaced. The result is never longer than the answer.
    pub fn erased_from(&self, answer: &[u8]) -> Vec<u8> {
        secrets::erase(&self.pieces(), answer)
    }

    fn pieces(&self) -> Vec<UrlPiece<'_>> {
        let origin = self.url[..Position::BeforePath].len();
        secrets::pieces(&self.text[origin..])
    }

    /// Returns the key for limits per receiver: `scheme://host:port`.
    pub fn receiver(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// Debug shows only the receiver: paths and queries of callback URLs often contain keys.
impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallbackUrl({}/…)", self.receiver())
    }
}
