//! Secrets. They are never displayed, their memory is wiped when they are dropped, and only `expose` reveals them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretBox, SecretSlice, SecretString};

use super::clock::Entropy;
use super::invisible::is_invisible;

/// Reason why a string is not a valid secret. The error text never repeats the string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// The string has only white space.
    #[error("is empty")]
    Empty,
    /// The string has white space or a control character inside.
    #[error("has white space or a control character in it")]
    Whitespace,
    /// The string has a character that editors do not show.
    #[error("has the invisible character U+{code_point:04X} at position {position}")]
    Invisible {
        /// The Unicode code point of the character.
        code_point: u32,
        /// The position of the character, counted from 1.
        position: usize,
    },
    /// The string has a character that is not ASCII, for example a Cyrillic letter that looks like a Latin one.
    #[error("has a character at position {position} that is not ASCII; some look like Latin letters")]
    NotAscii {
        /// The position of the character, counted from 1.
        position: usize,
    },
    /// The string is longer than the maximum for this kind of secret.
    #[error("is longer than {max_bytes} bytes")]
    TooLong {
        /// Maximum length for this kind of secret, in bytes.
        max_bytes: usize,
    },
    /// The string is in quotes.
    #[error("is in quotes, which are not part of a secret")]
    Quoted,
    /// The string is a line of a shell script or of an environment file.
    #[error("is an assignment; put only the value into the file")]
    Assignment,
    /// The string is a URL, for example a URL of the vendor that contains the token.
    #[error("is a URL; put only the token into the file")]
    Url,
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

/// Secret that signs callbacks (Standard Webhooks, `whsec_…`): 24 to 64 bytes.
pub struct CallbackSecret(SecretSlice<u8>);

impl CallbackSecret {
    /// Parses the `whsec_` form.
    ///
    /// # Errors
    /// Returns an error if the prefix is missing, the rest is not base64, or the key's length is out of bounds.
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
    /// Returns an error if the number of bytes is out of bounds.
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

/// Checks that a string has no invisible characters. Copied texts often have them.
///
/// # Errors
/// [`InvalidSecret::Invisible`] with the first such character.
pub fn check_visible(text: &str) -> Result<(), InvalidSecret> {
    match text.chars().enumerate().find(|(_, c)| is_invisible(*c)) {
        Some((index, c)) => Err(InvalidSecret::Invisible { code_point: c.into(), position: index + 1 }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
