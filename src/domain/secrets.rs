//! Secrets. They are never displayed, their memory is wiped when they are dropped, and only `expose` reveals them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretBox, SecretSlice, SecretString};

use super::clock::Entropy;

/// Reason why a string is not a valid secret. It never repeats the string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// The string has only white space.
    #[error("is empty")]
    Empty,
    /// The string has white space or a control character inside.
    #[error("has white space or a control character in it")]
    Whitespace,
    /// The string is not a secret of Standard Webhooks.
    #[error("must be \"whsec_\" followed by base64 of 24 to 64 bytes")]
    NotAWebhookSecret,
    /// The string is not an encryption key.
    #[error("must be base64 of 32 bytes, or several such keys separated by white space")]
    NotASealingKey,
    /// The string is not a list of headers.
    #[error("must be lines of the form \"name: value\"")]
    NotHeaders,
}

/// Token of a tenant at the vendor. It appears only in the vendor's URLs.
#[derive(Clone)]
pub struct VendorToken(SecretString);

impl VendorToken {
    /// Parses a token. A trailing line break is not part of it.
    ///
    /// # Errors
    /// If the token is empty or has white space inside.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(InvalidSecret::Empty);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(InvalidSecret::Whitespace);
        }
        Ok(Self(text.into()))
    }

    /// Returns the token itself, for the vendor's URL.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Returns the text with the token replaced; `None` if the text does not contain the token.
    pub fn erased_from(&self, text: &str) -> Option<String> {
        text.contains(self.expose()).then(|| text.replace(self.expose(), "[token]"))
    }
}

impl fmt::Debug for VendorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VendorToken(…)")
    }
}

/// Secret that signs callbacks (Standard Webhooks, `whsec_…`): 24 to 64 bytes.
pub struct CallbackSecret(SecretSlice<u8>);

impl CallbackSecret {
    /// Parses the `whsec_` form.
    ///
    /// # Errors
    /// If the prefix is missing, the rest is not base64, or the key's length is out of bounds.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.trim().strip_prefix("whsec_").ok_or(InvalidSecret::NotAWebhookSecret)?;
        let key = from_base64(encoded).ok_or(InvalidSecret::NotAWebhookSecret)?;
        if !(24..=64).contains(&key.expose_secret().len()) {
            return Err(InvalidSecret::NotAWebhookSecret);
        }
        Ok(Self(key))
    }

    /// Generates a new secret of 32 bytes.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut key = vec![0; 32].into_boxed_slice();
        entropy.fill(&mut key);
        Self(SecretBox::new(key))
    }

    /// Restores a secret from its bytes.
    ///
    /// # Errors
    /// If the number of bytes is out of bounds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidSecret> {
        if !(24..=64).contains(&bytes.len()) {
            return Err(InvalidSecret::NotAWebhookSecret);
        }
        Ok(Self(SecretBox::new(bytes.into())))
    }

    /// Returns the `whsec_` form, for the answer that shows the secret once.
    pub fn to_text(&self) -> SecretString {
        const PREFIX: &str = "whsec_";
        // The capacity is exact, because a string that grows leaves copies of the secret in memory.
        let mut text = String::with_capacity(PREFIX.len() + self.expose().len().div_ceil(3) * 4);
        text.push_str(PREFIX);
        STANDARD.encode_string(self.expose(), &mut text);
        text.into()
    }

    /// Returns the key's bytes, for the signature.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

/// Decodes the base64 form (RFC 4648, section 4) of a secret and wipes the intermediate buffer.
pub(super) fn from_base64(text: &str) -> Option<SecretSlice<u8>> {
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = STANDARD.decode_slice(text, &mut bytes[..]).ok()?;
    Some(SecretBox::new(bytes[..length].into()))
}

impl Clone for CallbackSecret {
    fn clone(&self) -> Self {
        Self(SecretBox::new(self.expose().into()))
    }
}

impl fmt::Debug for CallbackSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_loses_its_line_break_and_is_never_displayed() {
        let token = VendorToken::parse("s3cr3t\r\n").unwrap();
        assert_eq!(token.expose(), "s3cr3t");
        assert_eq!(format!("{token:?}"), "VendorToken(…)");
        assert_eq!(VendorToken::parse("\n").unwrap_err(), InvalidSecret::Empty);
        assert_eq!(VendorToken::parse("a b").unwrap_err(), InvalidSecret::Whitespace);
    }

    #[test]
    fn a_callback_secret_has_the_standard_form() {
        let secret = CallbackSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        assert_eq!(secret.expose().len(), 24);
        assert_eq!(format!("{secret:?}"), "CallbackSecret(…)");
        assert_eq!(secret.to_text().expose_secret(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        for bad in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_c2hvcnQ=", "whsec_!"] {
            assert_eq!(CallbackSecret::parse(bad).unwrap_err(), InvalidSecret::NotAWebhookSecret);
        }
    }
}
