//! A tenant's token at the vendor, and its removal from texts that repeat it.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::echo::Echo;
use super::secrets::{InvalidSecret, check_visible};

/// Token of a tenant at the vendor. It appears only in the vendor's URLs.
#[derive(Clone)]
pub struct VendorToken(SecretString);

impl VendorToken {
    /// Maximum length of a token, in bytes. The token is a segment of a URL.
    const MAX_BYTES: usize = 4096;

    /// Parses a token: visible ASCII characters. A trailing line break is not part of the token.
    ///
    /// # Errors
    /// [`InvalidSecret`] names the broken rule: the token is empty or too long, has other characters, is a URL or an assignment,
    /// or is in quotes.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(InvalidSecret::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidSecret::TooLong { max_bytes: Self::MAX_BYTES });
        }
        if text.contains("://") {
            return Err(InvalidSecret::Url);
        }
        if is_assignment(text) {
            return Err(InvalidSecret::Assignment);
        }
        if text.contains('"')
            || ['\'', '`'].iter().any(|quote| text.starts_with(*quote) || text.ends_with(*quote))
        {
            return Err(InvalidSecret::Quoted);
        }
        check_visible(text)?;
        for (index, c) in text.chars().enumerate() {
            let position = index + 1;
            match c {
                '!'..='~' => {}
                _ if c.is_ascii() || c.is_control() => return Err(InvalidSecret::Whitespace),
                _ if c.is_whitespace() => {
                    return Err(InvalidSecret::Invisible { code_point: c.into(), position });
                }
                _ => return Err(InvalidSecret::NotAscii { position }),
            }
        }
        Ok(Self(text.into()))
    }

    /// Returns the token itself, for the vendor's URL.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Returns a fingerprint that shows whether the token has changed.
    pub fn fingerprint(&self) -> TokenFingerprint {
        let digest = digest(&SHA256, self.expose().as_bytes());
        TokenFingerprint(digest.as_ref().iter().take(2).fold(0, |hash, byte| (hash << 8) | u16::from(*byte)))
    }

    /// Replaces the token in every spelling in which a server may repeat it: plain, percent-encoded, with escapes of JSON or
    /// entities of HTML (also nested), in base64, or in hexadecimal digits. Each spelling is recognized in UTF-8, UTF-16 and
    /// UTF-32. Returns `None` if the bytes do not contain the token.
    pub fn erased_from(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        Echo::of(self.expose(), "[token]").erased_from(bytes)
    }

    /// Whether the bytes contain the token in a spelling that [`VendorToken::erased_from`] recognizes.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.erased_from(bytes).is_some()
    }

    /// Returns the text with the token replaced, as [`VendorToken::erased_from`] does.
    pub fn erased_from_text(&self, text: String) -> String {
        match self.erased_from(text.as_bytes()) {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => text,
        }
    }
}

/// Two bytes of a hash of a [`VendorToken`]. Two bytes suffice to detect a change of the token. They are too few to confirm a
/// guess of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenFingerprint(u16);

/// Whether the text is a line of a shell script or of an environment file, such as `export TOKEN=value` or `vendor_token=value`. A
/// token in base64 may end with `=`.
fn is_assignment(text: &str) -> bool {
    let Some((name, value)) = text.split_once('=') else { return text.starts_with("export ") };
    let is_constant = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let is_name = is_constant || name.to_ascii_lowercase().ends_with("token");
    name.starts_with("export ") || (is_name && !value.trim_matches('=').is_empty())
}

impl fmt::Debug for VendorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VendorToken(…)")
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
        for valid in ["a", "YWJj/+==", "AB=", "a=b", "token=", "-._~:@!$&()*+,;"] {
            assert_eq!(VendorToken::parse(valid).unwrap().expose(), valid);
        }
    }

    #[test]
    fn a_token_with_characters_that_are_easily_overlooked_is_refused_with_the_reason() {
        let invisible = |code_point, position| InvalidSecret::Invisible { code_point, position };
        for (text, reason) in [
            ("", InvalidSecret::Empty),
            ("\r\n", InvalidSecret::Empty),
            ("a b", InvalidSecret::Whitespace),
            ("ab ", InvalidSecret::Whitespace),
            ("\tab", InvalidSecret::Whitespace),
            ("a\nb", InvalidSecret::Whitespace),
            ("a\0b", InvalidSecret::Whitespace),
            ("a\u{7f}", InvalidSecret::Whitespace),
            ("a\u{85}", InvalidSecret::Whitespace),
            ("\u{feff}ab", invisible(0xfeff, 1)),
            ("ab\u{200b}", invisible(0x200b, 3)),
            ("a\u{2060}b", invisible(0x2060, 2)),
            ("\u{200e}ab", invisible(0x200e, 1)),
            ("a\u{ad}b", invisible(0xad, 2)),
            ("ab\u{a0}", invisible(0xa0, 3)),
            ("a\u{3000}b", invisible(0x3000, 2)),
            ("tok\u{435}n", InvalidSecret::NotAscii { position: 4 }),
            ("a\u{2011}b", InvalidSecret::NotAscii { position: 2 }),
            ("\"ab\"", InvalidSecret::Quoted),
            ("'ab'", InvalidSecret::Quoted),
            ("{\"token\":\"ab\"}", InvalidSecret::Quoted),
            ("\u{201c}ab\u{201d}", InvalidSecret::NotAscii { position: 1 }),
            ("export TOKEN=ab", InvalidSecret::Assignment),
            ("export TOKEN", InvalidSecret::Assignment),
            ("VENDOR_TOKEN=ab", InvalidSecret::Assignment),
            ("TOKEN=\"ab\"", InvalidSecret::Assignment),
            ("token=ab", InvalidSecret::Assignment),
            ("alovoice_token=ab", InvalidSecret::Assignment),
            ("https://cld.alovoice.uz/callsendai/ab/1", InvalidSecret::Url),
        ] {
            assert_eq!(VendorToken::parse(text).unwrap_err(), reason, "{text:?}");
        }
        let long = VendorToken::parse(&"x".repeat(VendorToken::MAX_BYTES + 1)).unwrap_err();
        assert_eq!(long.to_string(), "is longer than 4096 bytes");
    }
}
