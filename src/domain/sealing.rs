//! Sealing: authenticated encryption of data that only this service can decrypt, and that no other party can change
//! unnoticed. "To open" means to decrypt and to verify.
//!
//! The cipher is AES-256-GCM-SIV (RFC 8452). It stays secure if a nonce repeats, which can happen because replicas choose nonces
//! at random. The purpose and the owner of the data are its associated data, so data that is copied to another place does not
//! open.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretBox, SecretSlice};

use super::clock::Entropy;
use super::secrets::{InvalidSecret, from_base64};

/// Size of a key in bytes.
const KEY_BYTES: usize = 32;
/// Size in bytes by which sealed data is longer than the data: the nonce and the tag.
pub(super) const OVERHEAD: usize = NONCE_LEN + 16;

/// Purpose of sealed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Secret, headers or URL of a webhook in the store.
    WebhookSecret,
    /// URL of the callback of a submission in the store.
    CallbackUrl,
    /// Answer to a request with an `Idempotency-Key` in the store.
    IdempotentAnswer,
    /// Link to a recording.
    AudioLink,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::WebhookSecret => b"webhook-secret\0",
            Self::CallbackUrl => b"callback-url\0",
            Self::IdempotentAnswer => b"idempotent-answer\0",
            Self::AudioLink => b"audio-link\0",
        }
    }
}

/// Outcome of [`SealingKeys::reseal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resealed<T = Vec<u8>> {
    /// The first key had sealed the data already.
    Unchanged,
    /// Another key had sealed the data. This variant has the data, sealed with the first key.
    Replaced(T),
    /// None of the keys opens the data.
    Unopened,
}

/// Keys of `encryption.key_file`. The first key seals data. Every key can open data, so an operator can replace a key at run
/// time.
pub struct SealingKeys(Vec<SealingKey>);

struct SealingKey(LessSafeKey);

impl SealingKeys {
    /// Parses one or more keys, separated by white space. Each is base64 (RFC 4648, section 4) of 32 bytes.
    ///
    /// # Errors
    /// Returns an error if there is no key, or one of them is malformed.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let keys = text.split_whitespace().map(SealingKey::parse).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(InvalidSecret::Empty) } else { Ok(Self(keys)) }
    }

    /// Seals data for a purpose. `context` identifies the owner; opening needs the same context.
    pub fn seal(&self, purpose: Purpose, context: &[u8], entropy: &dyn Entropy, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce);
        let mut sealed = nonce.to_vec();
        let mut text = plain.to_vec();
        let associated = Aad::from(associated(purpose, context));
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0[0].0.seal_in_place_separate_tag(nonce, associated, &mut text);
        // Sealing fails only for more than 64 GiB of data, which never fits into memory.
        let tag = tag.expect("data is shorter than the cipher's limit");
        sealed.append(&mut text);
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens sealed data. Returns `None` if no key sealed the data for this purpose and context, or if the data was changed.
    pub fn open(&self, purpose: Purpose, context: &[u8], sealed: &[u8]) -> Option<SecretSlice<u8>> {
        self.open_by(purpose, context, sealed).map(|(_, plain)| plain)
    }

    /// Opens data that another key sealed, and seals the data with the first key. Afterwards the other key can be
    /// removed.
    pub fn reseal(&self, purpose: Purpose, context: &[u8], entropy: &dyn Entropy, sealed: &[u8]) -> Resealed {
        match self.open_by(purpose, context, sealed) {
            Some((0, _)) => Resealed::Unchanged,
            Some((_, plain)) => {
                Resealed::Replaced(self.seal(purpose, context, entropy, plain.expose_secret()))
            }
            None => Resealed::Unopened,
        }
    }

    /// Opens sealed data and returns the index of the key.
    fn open_by(&self, purpose: Purpose, context: &[u8], sealed: &[u8]) -> Option<(usize, SecretSlice<u8>)> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let associated = associated(purpose, context);
        self.0.iter().enumerate().find_map(|(place, SealingKey(key))| {
            let mut text = Zeroizing::new(sealed.to_vec());
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let plain = key.open_in_place(nonce, Aad::from(&associated), &mut text).ok()?;
            Some((place, SecretBox::new((&*plain).into())))
        })
    }
}

impl SealingKey {
    fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let bytes = from_base64(text).ok_or(InvalidSecret::NotASealingKey)?;
        if bytes.expose_secret().len() != KEY_BYTES {
            return Err(InvalidSecret::NotASealingKey);
        }
        let key = UnboundKey::new(&AES_256_GCM_SIV, bytes.expose_secret())
            .map_err(|_| InvalidSecret::NotASealingKey)?;
        Ok(Self(LessSafeKey::new(key)))
    }
}

fn associated(purpose: Purpose, context: &[u8]) -> Vec<u8> {
    [purpose.label(), context].concat()
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKeys(…)")
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::domain::clock::SystemEntropy;

    fn key(byte: u8) -> String {
        STANDARD.encode([byte; KEY_BYTES])
    }

    fn keys(text: &str) -> SealingKeys {
        SealingKeys::parse(text).unwrap()
    }

    fn opened(keys: &SealingKeys, purpose: Purpose, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        keys.open(purpose, context, sealed).map(|plain| plain.expose_secret().to_vec())
    }

    #[test]
    fn sealed_data_opens_only_for_the_same_purpose_and_context() {
        let keys = keys(&key(1));
        let sealed = keys.seal(Purpose::AudioLink, b"acme", &SystemEntropy, b"plain");
        assert_eq!(sealed.len(), b"plain".len() + OVERHEAD);
        assert_eq!(opened(&keys, Purpose::AudioLink, b"acme", &sealed).unwrap(), b"plain");
        assert_eq!(opened(&keys, Purpose::AudioLink, b"beta", &sealed), None);
        assert_eq!(opened(&keys, Purpose::WebhookSecret, b"acme", &sealed), None);
        for place in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[place] ^= 1;
            assert_eq!(opened(&keys, Purpose::AudioLink, b"acme", &forged), None);
            assert_eq!(opened(&keys, Purpose::AudioLink, b"acme", &sealed[..place]), None);
        }
    }

    #[test]
    fn sealing_twice_gives_different_data() {
        let keys = keys(&key(1));
        let seal = || keys.seal(Purpose::AudioLink, b"", &SystemEntropy, b"");
        assert_ne!(seal(), seal());
    }

    #[test]
    fn an_old_key_opens_while_it_is_configured() {
        let sealed = keys(&key(1)).seal(Purpose::WebhookSecret, b"", &SystemEntropy, b"old");
        let both = keys(&format!("{}\n{}\n", key(2), key(1)));
        assert_eq!(opened(&both, Purpose::WebhookSecret, b"", &sealed).unwrap(), b"old");
        let newly_sealed = both.seal(Purpose::WebhookSecret, b"", &SystemEntropy, b"new");
        let newer = keys(&key(2));
        assert_eq!(opened(&newer, Purpose::WebhookSecret, b"", &newly_sealed).unwrap(), b"new");
        assert_eq!(opened(&newer, Purpose::WebhookSecret, b"", &sealed), None);
    }

    #[test]
    fn resealing_moves_data_to_the_first_key() {
        let (old, new) = (keys(&key(1)), keys(&key(2)));
        let both = keys(&format!("{} {}", key(2), key(1)));
        let reseal = |keys: &SealingKeys, sealed: &[u8]| {
            keys.reseal(Purpose::WebhookSecret, b"acme", &SystemEntropy, sealed)
        };
        let sealed = old.seal(Purpose::WebhookSecret, b"acme", &SystemEntropy, b"plain");
        let Resealed::Replaced(resealed) = reseal(&both, &sealed) else { panic!("the second key sealed it") };
        assert_eq!(opened(&new, Purpose::WebhookSecret, b"acme", &resealed).unwrap(), b"plain");
        assert_eq!(reseal(&both, &resealed), Resealed::Unchanged);
        assert_eq!(reseal(&new, &sealed), Resealed::Unopened);
        assert_eq!(reseal(&both, b""), Resealed::Unopened);
    }

    #[test]
    fn a_key_is_base64_of_32_bytes_and_is_never_displayed() {
        assert_eq!(SealingKeys::parse(" \n").unwrap_err(), InvalidSecret::Empty);
        let (short, long) = (STANDARD.encode([0; 31]), STANDARD.encode([0; 33]));
        for bad in ["secret", &short, &long, &format!("{} !", key(1))] {
            assert_eq!(SealingKeys::parse(bad).unwrap_err(), InvalidSecret::NotASealingKey);
        }
        assert_eq!(format!("{:?}", keys(&key(1))), "SealingKeys(…)");
    }
}
