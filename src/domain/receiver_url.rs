//! URL of a receiver as the store keeps it. The URL of a webhook is sealed if it has a secret.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::callback_url::CallbackUrl;

/// Prefix of a sealed URL in the store. Earlier versions do not know this scheme, so they postpone the deliveries of the webhook.
const SEALED: &str = "sealed:";

/// A URL, sealed or plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverUrl {
    /// The URL. If it is sealed, this is the URL without its secrets.
    url: CallbackUrl,
    /// The sealed form of the URL, if it has a secret.
    sealed: Option<Vec<u8>>,
}

impl From<CallbackUrl> for ReceiverUrl {
    fn from(url: CallbackUrl) -> Self {
        Self { url, sealed: None }
    }
}

impl ReceiverUrl {
    /// Creates a sealed URL from the URL and its sealed form.
    pub(super) fn sealed(url: &CallbackUrl, sealed: Vec<u8>) -> Self {
        Self { url: url.masked(), sealed: Some(sealed) }
    }

    /// Parses the output of [`ReceiverUrl::to_text`]; `None` if it is not a URL.
    pub fn from_text(text: &str) -> Option<Self> {
        let Some(parts) = text.strip_prefix(SEALED) else {
            return CallbackUrl::parse_stored(text).ok().map(Self::from);
        };
        let (sealed, masked) = parts.split_once(' ')?;
        let sealed = Some(URL_SAFE_NO_PAD.decode(sealed).ok()?);
        Some(Self { url: CallbackUrl::parse_stored(masked).ok()?, sealed })
    }

    /// Returns the text for the store: the URL, or the sealed URL in base64 followed by the masked URL.
    pub fn to_text(&self) -> Cow<'_, str> {
        match &self.sealed {
            None => self.url.as_str().into(),
            Some(sealed) => {
                format!("{SEALED}{} {}", URL_SAFE_NO_PAD.encode(sealed), self.url.as_str()).into()
            }
        }
    }

    /// Returns the URL without its secrets.
    pub fn masked(&self) -> CallbackUrl {
        self.url.masked()
    }

    /// Returns the plain URL, or the sealed form of the URL.
    pub(super) fn content(&self) -> Result<&CallbackUrl, &[u8]> {
        self.sealed.as_deref().map_or(Ok(&self.url), Err)
    }

    /// Returns the URL; `None` if it is sealed.
    pub fn plain(&self) -> Option<&CallbackUrl> {
        self.content().ok()
    }

    /// Returns the sealed form. The caller replaces it when another key seals the URL.
    pub(super) const fn sealed_mut(&mut self) -> Option<&mut Vec<u8>> {
        self.sealed.as_mut()
    }

    /// Whether the path has placeholders.
    pub const fn has_placeholders(&self) -> bool {
        self.url.has_placeholders()
    }

    /// Returns the key for limits per receiver: `scheme://host:port`.
    pub fn receiver(&self) -> String {
        self.url.receiver()
    }

    /// Returns the host.
    pub fn host(&self) -> Option<&str> {
        self.url.as_url().host_str()
    }
}
