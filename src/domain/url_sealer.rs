//! Seals and opens the URLs of webhooks and callbacks.

use secrecy::ExposeSecret;

use super::callback_url::{CallbackUrl, InvalidCallbackUrl};
use super::clock::Entropy;
use super::ids::{CallId, TenantId, WebhookId};
use super::receiver_url::{ReceiverKind, ReceiverUrl};
use super::sealing::{OVERHEAD, Purpose, Resealed, SealingKeys};

/// Seals and opens the URL of one webhook, or the URLs of the callbacks of one call. A URL that is copied elsewhere does not open.
pub struct UrlSealer<'a> {
    keys: &'a SealingKeys,
    kind: ReceiverKind,
    context: Vec<u8>,
}

impl<'a> UrlSealer<'a> {
    /// Checks that the URL of a callback can be sealed.
    ///
    /// # Errors
    /// [`InvalidCallbackUrl::TooLongToSeal`], if its sealed form is too long.
    pub fn check_callback(url: &CallbackUrl) -> Result<(), InvalidCallbackUrl> {
        if !url.has_secret() {
            return Ok(());
        }
        let sealed = vec![0; url.as_str().len() + OVERHEAD];
        let size = ReceiverUrl::sealed(ReceiverKind::Callback, url, sealed).to_text().len();
        if size > CallbackUrl::MAX_SEALED { Err(InvalidCallbackUrl::TooLongToSeal(size)) } else { Ok(()) }
    }

    /// Creates a sealer for a webhook.
    pub fn of_webhook(keys: &'a SealingKeys, tenant: &TenantId, webhook: WebhookId) -> Self {
        let context = format!("{tenant} {webhook} url").into_bytes();
        Self { keys, kind: ReceiverKind::Webhook, context }
    }

    /// Creates a sealer for the callbacks of a call.
    pub fn of_callbacks(keys: &'a SealingKeys, tenant: &TenantId, call_id: &CallId) -> Self {
        let context = format!("{tenant} {}", call_id.as_str()).into_bytes();
        Self { keys, kind: ReceiverKind::Callback, context }
    }

    /// Seals a URL if it has a secret. A URL without a secret stays plain.
    pub fn seal(&self, url: &CallbackUrl, entropy: &dyn Entropy) -> ReceiverUrl {
        if !url.has_secret() {
            return url.clone().into();
        }
        let sealed = self.keys.seal(self.purpose(), &self.context, entropy, url.as_str().as_bytes());
        ReceiverUrl::sealed(self.kind, url, sealed)
    }

    /// Opens a URL. Returns `None` if it cannot be opened.
    pub fn open(&self, url: &ReceiverUrl) -> Option<CallbackUrl> {
        let sealed = match url.content() {
            Ok(plain) => return Some(plain.clone()),
            Err(sealed) => sealed,
        };
        let plain = self.keys.open(self.purpose(), &self.context, sealed)?;
        CallbackUrl::parse_stored(std::str::from_utf8(plain.expose_secret()).ok()?).ok()
    }

    /// Seals a stored URL with the first key. `text` is the form in the store. If another key had sealed the URL, that key opens
    /// the URL first. A plain URL with a secret is sealed too. Returns `None` for a plain URL without a secret, for a plain URL
    /// that an earlier version accepted but that is too long to be sealed, and for a text that this version does not know.
    pub fn reseal(&self, text: &str, entropy: &dyn Entropy) -> Option<Resealed<String>> {
        let mut stored = ReceiverUrl::from_text(text)?;
        let resealed = match stored.content() {
            Ok(plain) if !plain.has_secret() => return None,
            Ok(plain) => {
                let fits = self.kind == ReceiverKind::Webhook || Self::check_callback(plain).is_ok();
                return fits.then(|| Resealed::Replaced(self.seal(plain, entropy).to_text().into_owned()));
            }
            Err(sealed) => self.keys.reseal(self.purpose(), &self.context, entropy, sealed),
        };
        Some(match resealed {
            Resealed::Unchanged => Resealed::Unchanged,
            Resealed::Unopened => Resealed::Unopened,
            Resealed::Replaced(sealed) => {
                stored.replace_sealed(sealed);
                Resealed::Replaced(stored.to_text().into_owned())
            }
        })
    }

    const fn purpose(&self) -> Purpose {
        match self.kind {
            ReceiverKind::Webhook => Purpose::WebhookSecret,
            ReceiverKind::Callback => Purpose::CallbackUrl,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::SystemEntropy;

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const OTHER_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const URL: &str = "https://a.uz:8443/hooks/{crm.id}/s3cr3t-k3y?key=%D1%91&x={y}";

    fn keys(text: &str) -> SealingKeys {
        SealingKeys::parse(text).unwrap()
    }

    fn call(id: &str) -> (TenantId, CallId) {
        (TenantId::parse("acme").unwrap(), CallId::parse(id).unwrap())
    }

    #[test]
    fn the_url_of_a_callback_opens_only_for_its_call() {
        let (keys, (tenant, call_id)) = (keys(KEY), call("1"));
        let sealer = UrlSealer::of_callbacks(&keys, &tenant, &call_id);
        let url = CallbackUrl::parse(URL).unwrap();
        let text = sealer.seal(&url, &SystemEntropy).to_text().into_owned();
        let read = ReceiverUrl::from_text(&text).unwrap();
        assert_eq!((read.masked(), read.receiver()), (url.masked(), url.receiver()));
        assert_eq!(read.to_text(), text);
        assert_eq!(sealer.open(&read).as_ref(), Some(&url));
        for (tenant, call_id) in [("acme", "2"), ("beta", "1")] {
            let (tenant, call_id) = (TenantId::parse(tenant).unwrap(), CallId::parse(call_id).unwrap());
            assert_eq!(UrlSealer::of_callbacks(&keys, &tenant, &call_id).open(&read), None);
        }
        let public = CallbackUrl::parse("https://a.uz/hooks/{crm.id}").unwrap();
        assert_eq!(sealer.seal(&public, &SystemEntropy).to_text(), public.as_str());
    }

    #[test]
    fn an_earlier_version_keeps_the_sealed_url_of_a_callback_and_sends_nothing_to_it() {
        let (keys, (tenant, call_id)) = (keys(KEY), call("1"));
        let sealed = UrlSealer::of_callbacks(&keys, &tenant, &call_id);
        let sealed = sealed.seal(&CallbackUrl::parse(URL).unwrap(), &SystemEntropy);
        // An earlier version parses the text, and copies it to the delivery.
        let seen = CallbackUrl::parse_stored(&sealed.to_text()).unwrap();
        assert_eq!(seen.as_str(), sealed.to_text());
        assert!(!seen.has_placeholders());
        assert_eq!(
            (seen.as_url().scheme(), seen.as_url().host_str().unwrap().rsplit('.').next()),
            ("https", Some("invalid"))
        );
        assert!(!seen.as_str().contains("s3cr3t"));
    }

    #[test]
    fn a_url_with_the_host_of_sealed_urls_is_a_url() {
        for text in [
            "https://encrypted.by.a.newer.version.invalid/",
            "https://encrypted.by.a.newer.version.invalid/hook/x",
            "https://encrypted.by.a.newer.version.invalid/aGk/aGk",
        ] {
            assert_eq!(ReceiverUrl::from_text(text).unwrap().plain().unwrap().as_str(), text);
        }
    }

    #[test]
    fn resealing_moves_the_url_of_a_callback_to_the_new_key() {
        let (tenant, call_id) = call("1");
        let [old, both, new] = [KEY, &format!("{OTHER_KEY} {KEY}"), OTHER_KEY].map(keys);
        let [old, both, new] =
            [&old, &both, &new].map(|keys| UrlSealer::of_callbacks(keys, &tenant, &call_id));
        let url = CallbackUrl::parse(URL).unwrap();
        let Some(Resealed::Replaced(text)) = old.reseal(URL, &SystemEntropy) else { panic!("it was plain") };
        assert_eq!(new.reseal(&text, &SystemEntropy), Some(Resealed::Unopened));
        let Some(Resealed::Replaced(text)) = both.reseal(&text, &SystemEntropy) else {
            panic!("another key")
        };
        assert_eq!(both.reseal(&text, &SystemEntropy), Some(Resealed::Unchanged));
        assert_eq!(new.open(&ReceiverUrl::from_text(&text).unwrap()), Some(url));
        for text in ["https://a.uz/hook", "", "sealed:later"] {
            assert_eq!(both.reseal(text, &SystemEntropy), None);
        }
    }

    #[test]
    fn the_sealed_url_of_a_callback_fits_into_an_index() {
        let keys = keys(KEY);
        let (tenant, call_id) = call("1");
        let sealer = UrlSealer::of_callbacks(&keys, &tenant, &call_id);
        let url =
            |secret: usize| CallbackUrl::parse(&format!("https://a.uz/?{}", "x".repeat(secret))).unwrap();
        let longest = (0..2000).rev().map(url).find(|url| UrlSealer::check_callback(url).is_ok()).unwrap();
        let size = sealer.seal(&longest, &SystemEntropy).to_text().len();
        assert!((CallbackUrl::MAX_SEALED - 2..=CallbackUrl::MAX_SEALED).contains(&size), "{size}");
        let longer = url(longest.as_str().len());
        assert!(UrlSealer::check_callback(&longer).is_err());
        assert_eq!(sealer.reseal(longer.as_str(), &SystemEntropy), None);
        let public = CallbackUrl::parse(&format!("https://a.uz{}", "/x".repeat(1000))).unwrap();
        assert_eq!(UrlSealer::check_callback(&public), Ok(()));
    }
}
