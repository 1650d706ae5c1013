//! Seals and opens a webhook's secrets, header values and URL.

use secrecy::ExposeSecret;

use super::CustomHeaders;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::{Entropy, Timestamp};
use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::receiver_url::ReceiverUrl;
use crate::domain::sealing::{Purpose, Resealed, SealingKeys};
use crate::domain::secrets::CallbackSecret;
use crate::domain::url_sealer::UrlSealer;

/// Sealed secrets and headers of a webhook, as the store keeps them.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecrets {
    /// The sealed form of the current signing secret.
    pub secret: Vec<u8>,
    /// The sealed form of the previous signing secret, and the time until which this secret also signs requests.
    pub previous_secret: Option<(Vec<u8>, Timestamp)>,
    /// The sealed form of the custom headers, if there are any.
    pub headers: Option<Vec<u8>>,
}

impl std::fmt::Debug for SealedSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// Numbers of the parts of a webhook, by the key that had sealed them. The parts are the secrets, the headers and the URL.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ResealCount {
    /// Number of parts that the first key had sealed.
    pub by_the_first: usize,
    /// Number of parts that another key had sealed, or that an earlier version had not sealed.
    pub by_another: usize,
    /// Names of the parts that no key opens. A previous secret that no longer signs requests is omitted.
    pub unopened: Vec<&'static str>,
}

/// Seals and opens the parts of one webhook. Data that is copied to another webhook does not open.
pub struct WebhookSealer<'a> {
    keys: &'a SealingKeys,
    owner: String,
    url: UrlSealer<'a>,
}

impl<'a> WebhookSealer<'a> {
    /// Creates a sealer for a webhook.
    pub fn new(keys: &'a SealingKeys, tenant: &TenantId, webhook: WebhookId) -> Self {
        let url = UrlSealer::of_webhook(keys, tenant, webhook);
        Self { keys, owner: format!("{tenant} {webhook}"), url }
    }

    /// Seals a secret.
    pub fn seal_secret(&self, secret: &CallbackSecret, entropy: &dyn Entropy) -> Vec<u8> {
        self.keys.seal(Purpose::WebhookSecret, &self.context("secret"), entropy, secret.expose())
    }

    /// Seals the custom headers. Returns `None` if there are none.
    pub fn seal_headers(&self, headers: &CustomHeaders, entropy: &dyn Entropy) -> Option<Vec<u8>> {
        let plain = headers.to_plain()?;
        Some(self.keys.seal(Purpose::WebhookSecret, &self.context("headers"), entropy, plain.as_bytes()))
    }

    /// Opens the secrets that sign requests at `now`, newest first. Returns `None` if the current secret cannot be opened. Omits
    /// a previous secret that cannot be opened.
    pub fn open_secrets(&self, sealed: &SealedSecrets, now: Timestamp) -> Option<Vec<CallbackSecret>> {
        let previous = sealed.previous_secret.as_ref().filter(|(_, until)| *until > now);
        let current = self.open_secret(&sealed.secret)?;
        let previous = previous.and_then(|(secret, _)| self.open_secret(secret));
        Some([current].into_iter().chain(previous).collect())
    }

    fn open_secret(&self, sealed: &[u8]) -> Option<CallbackSecret> {
        let plain = self.keys.open(Purpose::WebhookSecret, &self.context("secret"), sealed)?;
        CallbackSecret::from_bytes(plain.expose_secret()).ok()
    }

    /// Opens the custom headers. Without sealed headers, returns an empty set. Returns `None` if the headers cannot be opened.
    pub fn open_headers(&self, sealed: &SealedSecrets) -> Option<CustomHeaders> {
        let Some(headers) = &sealed.headers else { return Some(CustomHeaders::default()) };
        let plain = self.keys.open(Purpose::WebhookSecret, &self.context("headers"), headers)?;
        CustomHeaders::from_plain(plain.expose_secret())
    }

    /// Seals the URL if it has a secret. A URL without a secret stays plain.
    pub fn seal_url(&self, url: &CallbackUrl, entropy: &dyn Entropy) -> ReceiverUrl {
        self.url.seal(url, entropy)
    }

    /// Opens the URL. Returns `None` if it cannot be opened.
    pub fn open_url(&self, url: &ReceiverUrl) -> Option<CallbackUrl> {
        self.url.open(url)
    }

    /// Opens the parts that another key had sealed, and seals these parts with the first key. A plain URL with a secret is sealed
    /// too. Parts that no key opens stay unchanged. `url` is the URL in the form of the store.
    pub fn reseal(
        &self,
        (sealed, url): (&mut SealedSecrets, &mut String),
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> ResealCount {
        let mut sealings = ResealCount::default();
        let mut take = |name: &'static str, what: &str, is_needed: bool, bytes: &mut Vec<u8>| match self
            .keys
            .reseal(Purpose::WebhookSecret, &self.context(what), entropy, bytes)
        {
            Resealed::Unchanged => sealings.by_the_first += 1,
            Resealed::Replaced(resealed) => {
                sealings.by_another += 1;
                *bytes = resealed;
            }
            Resealed::Unopened if is_needed => sealings.unopened.push(name),
            Resealed::Unopened => {}
        };
        take("secret", "secret", true, &mut sealed.secret);
        if let Some((previous, until)) = &mut sealed.previous_secret {
            // After the overlap the previous secret is not needed.
            take("previous secret", "secret", *until > now, previous);
        }
        if let Some(headers) = &mut sealed.headers {
            take("headers", "headers", true, headers);
        }
        match self.url.reseal(url, entropy) {
            None => {}
            Some(Resealed::Unchanged) => sealings.by_the_first += 1,
            Some(Resealed::Replaced(text)) => {
                sealings.by_another += 1;
                *url = text;
            }
            Some(Resealed::Unopened) => sealings.unopened.push("url"),
        }
        sealings
    }

    fn context(&self, what: &str) -> Vec<u8> {
        format!("{} {what}", self.owner).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::clock::SystemEntropy;
    use crate::domain::webhooks::HeaderName;

    const NOW: Timestamp = Timestamp::from_millis(1_716_207_617_000);

    fn keys() -> SealingKeys {
        SealingKeys::parse("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap()
    }

    #[test]
    fn two_secrets_sign_until_the_overlap_ends() {
        let (keys, tenant) = (keys(), TenantId::parse("acme").unwrap());
        let webhook = WebhookId::generate(NOW, &SystemEntropy);
        let vault = WebhookSealer::new(&keys, &tenant, webhook);
        let (old, new) = (CallbackSecret::generate(&SystemEntropy), CallbackSecret::generate(&SystemEntropy));
        let until = NOW + Duration::from_secs(60);
        let sealed = SealedSecrets {
            secret: vault.seal_secret(&new, &SystemEntropy),
            previous_secret: Some((vault.seal_secret(&old, &SystemEntropy), until)),
            headers: None,
        };
        let opened = vault.open_secrets(&sealed, NOW).unwrap();
        let bytes = opened.iter().map(CallbackSecret::expose).collect::<Vec<_>>();
        assert_eq!(bytes, [new.expose(), old.expose()]);
        assert_eq!(vault.open_secrets(&sealed, until).unwrap().len(), 1);
        // The sealer of another webhook opens nothing.
        let other = WebhookSealer::new(&keys, &tenant, WebhookId::generate(NOW, &SystemEntropy));
        assert!(other.open_secrets(&sealed, NOW).is_none());
    }

    #[test]
    fn resealing_moves_all_parts_to_the_new_key() {
        const OTHER: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let (old, tenant) = (keys(), TenantId::parse("acme").unwrap());
        let webhook = WebhookId::generate(NOW, &SystemEntropy);
        let both =
            SealingKeys::parse(&format!("{OTHER} AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")).unwrap();
        let new = SealingKeys::parse(OTHER).unwrap();
        let [before, between, after] =
            [&old, &both, &new].map(|keys| WebhookSealer::new(keys, &tenant, webhook));
        let mut headers = CustomHeaders::default();
        headers.set(HeaderName::parse("Authorization").unwrap(), "Bearer abc").unwrap();
        let secret = CallbackSecret::generate(&SystemEntropy);
        let until = NOW + Duration::from_secs(60);
        let url = CallbackUrl::parse("https://a.uz/rest/1/s3cret/m").unwrap();
        let mut stored = before.seal_url(&url, &SystemEntropy).to_text().into_owned();
        let mut sealed = SealedSecrets {
            secret: before.seal_secret(&secret, &SystemEntropy),
            previous_secret: Some((before.seal_secret(&secret, &SystemEntropy), until)),
            headers: before.seal_headers(&headers, &SystemEntropy),
        };
        let unopened = vec!["secret", "previous secret", "headers", "url"];
        assert_eq!(
            after.reseal((&mut sealed, &mut stored), &SystemEntropy, NOW),
            ResealCount { unopened, ..ResealCount::default() }
        );
        let unopened = vec!["secret", "headers", "url"];
        assert_eq!(
            after.reseal((&mut sealed, &mut stored), &SystemEntropy, until),
            ResealCount { unopened, ..ResealCount::default() }
        );
        let moved = ResealCount { by_another: 4, ..ResealCount::default() };
        assert_eq!(between.reseal((&mut sealed, &mut stored), &SystemEntropy, NOW), moved);
        let done = ResealCount { by_the_first: 4, ..ResealCount::default() };
        assert_eq!(between.reseal((&mut sealed, &mut stored), &SystemEntropy, NOW), done);
        assert_eq!(after.open_secrets(&sealed, NOW).unwrap().len(), 2);
        assert_eq!(after.open_headers(&sealed).unwrap().names(), ["authorization"]);
        assert_eq!(after.open_url(&ReceiverUrl::from_text(&stored).unwrap()), Some(url));
    }

    #[test]
    fn a_url_is_sealed_if_it_has_a_secret() {
        let (keys, tenant) = (keys(), TenantId::parse("acme").unwrap());
        let vault = WebhookSealer::new(&keys, &tenant, WebhookId::generate(NOW, &SystemEntropy));
        let other = WebhookSealer::new(&keys, &tenant, WebhookId::generate(NOW, &SystemEntropy));
        for (text, masked) in [
            ("https://a.uz/hooks/{crm.id}", "https://a.uz/hooks/{crm.id}"),
            ("https://a.uz/hooks/{crm.id}?key=s3cret", "https://a.uz/hooks/{crm.id}?***"),
        ] {
            let url = CallbackUrl::parse(text).unwrap();
            let stored = vault.seal_url(&url, &SystemEntropy);
            let read = ReceiverUrl::from_text(&stored.to_text()).unwrap();
            assert_eq!((&read, read.masked().as_str()), (&stored, masked));
            assert_eq!(vault.open_url(&read).as_ref(), Some(&url));
            assert!(!stored.to_text().contains("s3cret"));
            assert_eq!(other.open_url(&stored).is_some(), text == masked);
            // The URL of an earlier version is sealed with the next resealing.
            let mut plain = text.to_owned();
            let mut secrets = SealedSecrets {
                secret: vault.seal_secret(&CallbackSecret::generate(&SystemEntropy), &SystemEntropy),
                previous_secret: None,
                headers: None,
            };
            let count = vault.reseal((&mut secrets, &mut plain), &SystemEntropy, NOW);
            assert_eq!((count.by_the_first, count.by_another), (1, usize::from(text != masked)));
            assert_eq!(vault.open_url(&ReceiverUrl::from_text(&plain).unwrap()), Some(url));
            assert!(!plain.contains("s3cret"));
        }
        assert_eq!(ReceiverUrl::from_text("sealed:later"), None);
    }

    #[test]
    fn a_sealed_secret_does_not_open_as_headers() {
        let (keys, tenant) = (keys(), TenantId::parse("acme").unwrap());
        let vault = WebhookSealer::new(&keys, &tenant, WebhookId::generate(NOW, &SystemEntropy));
        let mut headers = CustomHeaders::default();
        headers.set(HeaderName::parse("Authorization").unwrap(), "Bearer abc").unwrap();
        let mut sealed = SealedSecrets {
            secret: vault.seal_secret(&CallbackSecret::generate(&SystemEntropy), &SystemEntropy),
            previous_secret: None,
            headers: vault.seal_headers(&headers, &SystemEntropy),
        };
        assert_eq!(vault.open_headers(&sealed).unwrap().names(), ["authorization"]);
        sealed.headers = Some(sealed.secret.clone());
        assert!(vault.open_headers(&sealed).is_none());
        assert_eq!(format!("{sealed:?}"), "Sealed(…)");
    }
}
