//! URL of a receiver, in the form that the store keeps. The URL is sealed if it has a secret and the gateway has an encryption
//! key.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::callback_url::CallbackUrl;

/// Prefix of the sealed URL of a webhook in the store. Earlier versions do not know this scheme, so they postpone the
/// deliveries of the webhook.
const OF_WEBHOOK: &str = "sealed:";

/// Prefix of the sealed URL of a callback in the store. An earlier version cannot open the sealed URL. For that version, the
/// text is a URL whose host does not exist (RFC 6761, 6.4). So that version still creates the delivery of an event, sends
/// nothing, and retries until a newer version sends the event.
const OF_CALLBACK: &str = "https://encrypted.by.a.newer.version.invalid/";

/// The kinds of receivers. The sealed URLs of each kind have their own prefix in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReceiverKind {
    Webhook,
    Callback,
}

/// URL of a receiver, in sealed or plain form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverUrl {
    /// The plain URL. If the URL is sealed, `url` is the masked URL without its secrets.
    url: CallbackUrl,
    /// The sealed form of the URL; `None` if the URL is plain.
    sealed: Option<(ReceiverKind, Vec<u8>)>,
}

impl From<CallbackUrl> for ReceiverUrl {
    fn from(url: CallbackUrl) -> Self {
        Self { url, sealed: None }
    }
}

impl ReceiverUrl {
    /// Creates a sealed URL from the URL and its sealed form.
    pub(super) fn sealed(kind: ReceiverKind, url: &CallbackUrl, sealed: Vec<u8>) -> Self {
        Self { url: url.masked(), sealed: Some((kind, sealed)) }
    }

    /// Parses the output of [`ReceiverUrl::to_text`]. Returns `None` if the text is not the URL of a receiver.
    pub fn from_text(text: &str) -> Option<Self> {
        if let Some(parts) = text.strip_prefix(OF_WEBHOOK) {
            let (sealed, masked) = parts.split_once(' ')?;
            let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
            let url = CallbackUrl::parse_stored(masked).ok()?;
            return Some(Self { url, sealed: Some((ReceiverKind::Webhook, sealed)) });
        }
        // A caller may have chosen a URL with this host.
        let sealed = text.strip_prefix(OF_CALLBACK).and_then(Self::of_callback);
        sealed.or_else(|| CallbackUrl::parse_stored(text).ok().map(Self::from))
    }

    fn of_callback(parts: &str) -> Option<Self> {
        let (sealed, masked) = parts.split_once('/')?;
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let masked = URL_SAFE_NO_PAD.decode(masked).ok()?;
        let url = CallbackUrl::parse_stored(std::str::from_utf8(&masked).ok()?).ok()?;
        Some(Self { url, sealed: Some((ReceiverKind::Callback, sealed)) })
    }

    /// Returns the text for the store: the URL, or the sealed URL in base64 followed by the masked URL.
    pub fn to_text(&self) -> Cow<'_, str> {
        let masked = self.url.as_str();
        match &self.sealed {
            None => masked.into(),
            Some((ReceiverKind::Webhook, sealed)) => {
                format!("{OF_WEBHOOK}{} {masked}", URL_SAFE_NO_PAD.encode(sealed)).into()
            }
            Some((ReceiverKind::Callback, sealed)) => {
                let [sealed, masked] =
                    [&sealed[..], masked.as_bytes()].map(|part| URL_SAFE_NO_PAD.encode(part));
                format!("{OF_CALLBACK}{sealed}/{masked}").into()
            }
        }
    }

    /// Returns the URL without its secrets.
    pub fn masked(&self) -> CallbackUrl {
        self.url.masked()
    }

    /// Returns the plain URL, or the sealed form of the URL.
    pub(super) fn content(&self) -> Result<&CallbackUrl, &[u8]> {
        self.sealed.as_ref().map_or(Ok(&self.url), |(_, sealed)| Err(sealed))
    }

    /// Returns the URL; `None` if the URL is sealed.
    pub fn plain(&self) -> Option<&CallbackUrl> {
        self.content().ok()
    }

    /// Replaces the sealed form when another key seals the URL.
    pub(super) fn replace_sealed(&mut self, resealed: Vec<u8>) {
        if let Some((_, sealed)) = &mut self.sealed {
            *sealed = resealed;
        }
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
