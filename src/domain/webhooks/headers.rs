//! Custom headers of a webhook. Their values are secrets, because most of them are API keys of the receiver.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

/// Reason why a custom header is invalid. The error text never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// The name is too long, or is not a token (RFC 9110, section 5.1).
    #[error("must have a name of 1 to {max} letters, digits and !#$%&'*+-.^_`|~", max = HeaderName::MAX_LEN)]
    Name,
    /// The header belongs to the connection, the body, the signature or the trace.
    #[error("is set by the gateway or by HTTP itself")]
    Reserved,
    /// The value is empty or too long, or is not valid (RFC 9110, section 5.5, without obs-text).
    #[error(
        "must have a value of 1 to {max} printable ASCII characters, spaces and tabs, without white space at either end",
        max = CustomHeaders::MAX_VALUE
    )]
    Value,
    /// There are more headers than [`CustomHeaders::MAX`].
    #[error("must have at most {max} headers, has {0}", max = CustomHeaders::MAX)]
    TooMany(usize),
}

/// Name of a header in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderName(String);

/// Headers that tenants must not set: the headers of the connection, the body, the signature and the trace.
const RESERVED: [&str; 13] = [
    "accept-encoding",
    "connection",
    "date",
    "expect",
    "host",
    "keep-alive",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const RESERVED_BEGINNINGS: [&str; 3] = ["content-", "proxy-", "webhook-"];

impl HeaderName {
    /// Maximum length in characters.
    pub const MAX_LEN: usize = 64;

    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidHeader`] names the broken rule.
    pub fn parse(text: &str) -> Result<Self, InvalidHeader> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if !(1..=Self::MAX_LEN).contains(&text.len()) || !text.bytes().all(is_token) {
            return Err(InvalidHeader::Name);
        }
        let name = text.to_ascii_lowercase();
        let reserved = RESERVED.contains(&name.as_str())
            || RESERVED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
        if reserved { Err(InvalidHeader::Reserved) } else { Ok(Self(name)) }
    }

    /// Returns the name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Custom headers by name.
#[derive(Clone, Default)]
pub struct CustomHeaders(BTreeMap<HeaderName, SecretString>);

impl CustomHeaders {
    /// Maximum number of headers.
    pub const MAX: usize = 16;
    /// Maximum size of a value in bytes.
    const MAX_VALUE: usize = 1024;

    /// Adds or replaces a header.
    ///
    /// # Errors
    /// [`InvalidHeader::Value`] if the value is invalid.
    pub fn set(&mut self, name: HeaderName, value: &str) -> Result<(), InvalidHeader> {
        let printable = |b: u8| b.is_ascii_graphic() || b == b' ' || b == b'\t';
        let fits = (1..=Self::MAX_VALUE).contains(&value.len());
        if !fits || !value.bytes().all(printable) || value.trim() != value {
            return Err(InvalidHeader::Value);
        }
        self.0.insert(name, value.into());
        Ok(())
    }

    /// Removes a header.
    pub fn remove(&mut self, name: &HeaderName) {
        self.0.remove(name);
    }

    /// Checks the number of headers.
    ///
    /// # Errors
    /// [`InvalidHeader::TooMany`] if there are too many.
    pub fn check(&self) -> Result<(), InvalidHeader> {
        if self.0.len() > Self::MAX { Err(InvalidHeader::TooMany(self.0.len())) } else { Ok(()) }
    }

    /// Returns the names in alphabetical order.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().map(|name| name.0.clone()).collect()
    }

    /// Returns the names and values for a request.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Replaces header values in a receiver's answer, including the start of a value at the end of a truncated
    /// answer. The result is never longer than the answer. Values of less than four bytes are not replaced, because
    /// they occur everywhere and are easy to guess.
    pub fn erased_from(&self, answer: &[u8]) -> Vec<u8> {
        const ERASED: &[u8] = b"[header]";
        const SHORTEST: usize = 4;
        let values: Vec<&[u8]> = self
            .0
            .values()
            .map(|value| value.expose_secret().as_bytes())
            .filter(|value| value.len() >= SHORTEST)
            .collect();
        let mut shown = Vec::with_capacity(answer.len());
        let mut rest = answer;
        while let Some((first, others)) = rest.split_first() {
            let is_there = |value: &&[u8]| {
                rest.starts_with(value) || (rest.len() >= SHORTEST && value.starts_with(rest))
            };
            // If one value is a prefix of another value, the longer value is replaced.
            match values.iter().copied().filter(is_there).map(<[u8]>::len).max() {
                Some(length) => {
                    shown.extend_from_slice(ERASED);
                    rest = rest.get(length..).unwrap_or_default();
                }
                None => {
                    shown.push(*first);
                    rest = others;
                }
            }
        }
        shown.truncate(answer.len());
        shown
    }

    /// Returns the headers as plain text for sealing, with a line `name: value` for each header. Returns `None` if there are no
    /// headers.
    pub fn to_plain(&self) -> Option<Zeroizing<String>> {
        if self.0.is_empty() {
            return None;
        }
        let lines =
            || self.0.iter().map(|(name, value)| [name.0.as_str(), ": ", value.expose_secret(), "\n"]);
        // The capacity is exact, because a string that grows leaves copies of the secrets in memory.
        let mut plain = Zeroizing::new(String::with_capacity(lines().flatten().map(str::len).sum()));
        plain.extend(lines().flatten());
        Some(plain)
    }

    /// Parses the output of [`CustomHeaders::to_plain`]. Returns `None` if a line or a header is invalid.
    pub fn from_plain(plain: &[u8]) -> Option<Self> {
        let mut headers = Self::default();
        for line in std::str::from_utf8(plain).ok()?.lines() {
            let (name, value) = line.split_once(": ")?;
            headers.set(HeaderName::parse(name).ok()?, value).ok()?;
        }
        Some(headers)
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> CustomHeaders {
        let mut headers = CustomHeaders::default();
        for (name, value) in pairs {
            headers.set(HeaderName::parse(name).unwrap(), value).unwrap();
        }
        headers
    }

    #[test]
    fn headers_parse_their_own_plain_form_and_display_no_value() {
        let headers = headers(&[("X-Api-Key", "k: 1"), ("Authorization", "Bearer\tabc")]);
        assert_eq!(headers.names(), ["authorization", "x-api-key"]);
        let plain = headers.to_plain().unwrap();
        assert_eq!(plain.as_str(), "authorization: Bearer\tabc\nx-api-key: k: 1\n");
        let back = CustomHeaders::from_plain(plain.as_bytes()).unwrap();
        assert_eq!(back.to_plain().unwrap(), plain);
        assert!(!format!("{headers:?}").contains("abc"), "{headers:?}");
        assert_eq!(CustomHeaders::default().to_plain(), None);
        assert!(CustomHeaders::from_plain(b"no colon").is_none());
    }

    #[test]
    fn reserved_names_and_invalid_values_are_refused() {
        for name in ["Host", "content-type", "Webhook-Id", "TE", "proxy-authorization", "traceparent"] {
            assert_eq!(HeaderName::parse(name), Err(InvalidHeader::Reserved), "{name}");
        }
        for name in ["", "a b", "a:b", "ключ", &"x".repeat(65)] {
            assert_eq!(HeaderName::parse(name), Err(InvalidHeader::Name), "{name}");
        }
        let mut headers = CustomHeaders::default();
        for value in ["", " a", "a ", "a\r\nb: c", "ё", "\0", &"x".repeat(1025)] {
            let name = HeaderName::parse("x-key").unwrap();
            assert_eq!(headers.set(name, value), Err(InvalidHeader::Value), "{value:?}");
        }
    }

    #[test]
    fn echoed_values_are_erased() {
        let headers = headers(&[("Authorization", "Bearer s3cr3t"), ("X-Short", "ok")]);
        let echoed = b"\xffBearer s3cr3t, Bearer s3cr3t ok".to_vec();
        assert_eq!(headers.erased_from(&echoed), b"\xff[header], [header] ok");
        assert_eq!(headers.erased_from(b"cut off: Bearer s3c"), b"cut off: [header]");
    }

    #[test]
    fn short_values_are_erased_and_no_answer_gets_longer() {
        let headers = headers(&[("X-One", "head"), ("X-Other", "header"), ("X-Third", "a1b2")]);
        let answer = b"head header a1b2 a1b3, and no more of it".to_vec();
        assert_eq!(headers.erased_from(&answer), b"[header] [header] [header] a1b3, and no ");
        assert_eq!(headers.erased_from(b"a1b2a1b2"), b"[header]");
        assert_eq!(headers.erased_from(b"hea"), b"hea");
    }

    #[test]
    fn the_number_of_headers_is_bounded() {
        let mut headers = CustomHeaders::default();
        for number in 0..=CustomHeaders::MAX {
            assert_eq!(headers.check(), Ok(()));
            headers.set(HeaderName::parse(&format!("x-{number}")).unwrap(), "v").unwrap();
        }
        assert_eq!(headers.check(), Err(InvalidHeader::TooMany(17)));
    }
}
