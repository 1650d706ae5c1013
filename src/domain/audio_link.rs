//! Links to recordings. A link gives access to one recording without a token until the link expires.
//!
//! The link contains all its data in sealed (encrypted and authenticated) form. Only replicas with the same keys can create
//! or open a link. They need no database to open it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret;

use super::clock::{Entropy, Timestamp};
use super::ids::{CallId, TenantId};
use super::sealing::{Purpose, SealingKeys};

/// Minimum lifetime of a link.
pub const MIN_LIFETIME: Duration = Duration::from_mins(1);
/// Maximum lifetime of a link.
pub const MAX_LIFETIME: Duration = Duration::from_hours(7 * 24);
/// Lifetime of a link if the caller does not choose a lifetime.
pub const DEFAULT_LIFETIME: Duration = Duration::from_hours(1);

/// Version of the sealed format.
const FORM: &[u8] = b"1";

/// Content of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioLink {
    /// Tenant that owns the call.
    pub tenant: TenantId,
    /// Id of the call.
    pub call_id: CallId,
    /// Time at which the link expires.
    pub expires_at: Timestamp,
}

impl AudioLink {
    /// Returns the link as a URL-safe string of `A-Za-z0-9_-`.
    pub fn seal(&self, keys: &SealingKeys, entropy: &dyn Entropy) -> String {
        // Ids contain no line breaks, so a line break can separate them.
        let plain = format!("{}\n{}\n{}", self.expires_at.as_millis(), self.tenant, self.call_id);
        URL_SAFE_NO_PAD.encode(keys.seal(Purpose::AudioLink, FORM, entropy, plain.as_bytes()))
    }

    /// Opens the output of [`AudioLink::seal`], even after the link has expired. Returns `None` if the string is not a link, or
    /// if no key opens it.
    pub fn open(keys: &SealingKeys, token: &str) -> Option<Self> {
        let sealed = URL_SAFE_NO_PAD.decode(token).ok()?;
        let plain = keys.open(Purpose::AudioLink, FORM, &sealed)?;
        let mut parts = std::str::from_utf8(plain.expose_secret()).ok()?.splitn(3, '\n');
        let expires_at = Timestamp::from_millis(parts.next()?.parse().ok()?);
        let tenant = TenantId::parse(parts.next()?).ok()?;
        Some(Self { tenant, call_id: CallId::parse(parts.next()?).ok()?, expires_at })
    }

    /// Whether the link has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::SystemEntropy;

    fn keys(text: &str) -> SealingKeys {
        SealingKeys::parse(text).unwrap()
    }

    const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const OTHER: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

    fn link(tenant: &str, call_id: &str) -> AudioLink {
        AudioLink {
            tenant: TenantId::parse(tenant).unwrap(),
            call_id: CallId::parse(call_id).unwrap(),
            expires_at: Timestamp::from_millis(1_716_207_617_042),
        }
    }

    #[test]
    fn a_link_opens_to_its_content() {
        for link in [link("acme", "1716207617.42"), link(&"t".repeat(64), &"~:@+=-_.".repeat(16))] {
            let token = link.seal(&keys(KEY), &SystemEntropy);
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)), "{token}");
            assert_eq!(AudioLink::open(&keys(KEY), &token), Some(link.clone()));
            // An old key opens the link while the key is still configured.
            assert_eq!(AudioLink::open(&keys(&format!("{OTHER} {KEY}")), &token), Some(link));
            assert_eq!(AudioLink::open(&keys(OTHER), &token), None);
        }
    }

    #[test]
    fn a_modified_link_does_not_open() {
        let token = link("acme", "1").seal(&keys(KEY), &SystemEntropy);
        for place in 0..token.len() {
            for other in ['A', 'B', '.', '='] {
                let mut forged = token.clone();
                forged.replace_range(place..=place, other.encode_utf8(&mut [0; 4]));
                assert_eq!(AudioLink::open(&keys(KEY), &forged).is_some(), forged == token, "{forged}");
            }
            assert_eq!(AudioLink::open(&keys(KEY), &token[..place]), None);
        }
        assert_eq!(AudioLink::open(&keys(KEY), &format!("{token}A")), None);
    }

    #[test]
    fn data_sealed_for_another_purpose_is_not_a_link() {
        let plain = b"1\nacme\n1";
        for (purpose, context) in [(Purpose::WebhookSecret, FORM), (Purpose::AudioLink, b"2")] {
            let sealed = keys(KEY).seal(purpose, context, &SystemEntropy, plain);
            assert_eq!(AudioLink::open(&keys(KEY), &URL_SAFE_NO_PAD.encode(sealed)), None);
        }
        let sealed = keys(KEY).seal(Purpose::AudioLink, FORM, &SystemEntropy, plain);
        assert!(AudioLink::open(&keys(KEY), &URL_SAFE_NO_PAD.encode(sealed)).is_some());
    }

    #[test]
    fn a_link_expires_at_its_expiry_time() {
        let link = link("acme", "1");
        let at = |ms| link.is_expired(Timestamp::from_millis(link.expires_at.as_millis() + ms));
        assert_eq!([at(-1), at(0), at(1)], [false, true, true]);
    }
}
