//! Headers that a tenant wants with its deliveries. Their values are secrets: most are keys of the receiver's.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

/// Why a header cannot be sent along. It never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// RFC 9110, 5.1.
    #[error("must have a name of 1 to {max} letters, digits and !#$%&'*+-.^_`|~", max = HeaderName::MAX_LEN)]
    Name,
    /// It belongs to the connection, the body or the signature.
    #[error("is set by the gateway or by HTTP itself")]
    Reserved,
    /// RFC 9110, 5.5, without obs-text.
    #[error(
        "must have a value of 1 to {max} printable ASCII characters, spaces and tabs, neither at its begin nor at its end",
        max = CustomHeaders::MAX_VALUE
    )]
    Value,
    /// Over [`CustomHeaders::MAX`].
    #[error("may be at most {max} headers, are {0}", max = CustomHeaders::MAX)]
    TooMany(usize),
}

/// A header's name, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderName(String);

/// What no tenant sets: who is spoken to and how, what the body is, what is signed, and the trace.
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
    /// The most characters.
    pub const MAX_LEN: usize = 64;

    /// Checks the rules and takes the name.
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

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Headers by name.
#[derive(Clone, Default)]
pub struct CustomHeaders(BTreeMap<HeaderName, SecretString>);

impl CustomHeaders {
    /// The most headers.
    pub const MAX: usize = 16;
    /// The most bytes of a value.
    pub const MAX_VALUE: usize = 1024;

    /// Sets a header.
    ///
    /// # Errors
    /// If the value cannot be one.
    pub fn set(&mut self, name: HeaderName, value: &str) -> Result<(), InvalidHeader> {
        let printable = |b: u8| b.is_ascii_graphic() || b == b' ' || b == b'\t';
        let fits = (1..=Self::MAX_VALUE).contains(&value.len());
        if !fits || !value.bytes().all(printable) || value.trim() != value {
            return Err(InvalidHeader::Value);
        }
        self.0.insert(name, value.into());
        Ok(())
    }

    /// Takes a header away.
    pub fn remove(&mut self, name: &HeaderName) {
        self.0.remove(name);
    }

    /// Checks that there are not too many.
    ///
    /// # Errors
    /// If there are.
    pub fn check(&self) -> Result<(), InvalidHeader> {
        if self.0.len() > Self::MAX { Err(InvalidHeader::TooMany(self.0.len())) } else { Ok(()) }
    }

    /// The names, in their order.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().map(|name| name.0.clone()).collect()
    }

    /// Each name and value, to be sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// What a receiver answered, without the values if it sent them back, also the beginning of one at its end. It gets no
    /// longer by that. Values of less than four bytes stay: they are found everywhere, and guessed anyway.
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
            // The longest, should one begin with another.
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

    /// As a text, to be sealed: a line `name: value` for each. `None` if there are none.
    pub fn to_plain(&self) -> Option<Zeroizing<String>> {
        if self.0.is_empty() {
            return None;
        }
        let lines =
            || self.0.iter().map(|(name, value)| [name.0.as_str(), ": ", value.expose_secret(), "\n"]);
        // As long as it will be: one that grows leaves its beginning behind.
        let mut plain = Zeroizing::new(String::with_capacity(lines().flatten().map(str::len).sum()));
        plain.extend(lines().flatten());
        Some(plain)
    }

    /// Reads [`CustomHeaders::to_plain`] back; `None` if it is not one.
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
    fn headers_read_back_and_show_no_value() {
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
    fn what_belongs_to_others_is_refused() {
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
    fn what_a_receiver_echoes_is_erased() {
        let headers = headers(&[("Authorization", "Bearer s3cr3t"), ("X-Short", "ok")]);
        let echoed = b"\xffBearer s3cr3t, Bearer s3cr3t ok".to_vec();
        assert_eq!(headers.erased_from(&echoed), b"\xff[header], [header] ok");
        assert_eq!(headers.erased_from(b"cut off: Bearer s3c"), b"cut off: [header]");
    }

    #[test]
    fn short_values_are_erased_and_no_answer_gets_longer() {
        let headers = headers(&[("X-One", "head"), ("X-Other", "header"), ("X-Third", "a1b2")]);
        let told = b"head header a1b2 a1b3, and no more of it".to_vec();
        assert_eq!(headers.erased_from(&told), b"[header] [header] [header] a1b3, and no ");
        assert_eq!(headers.erased_from(b"a1b2a1b2"), b"[header]");
        assert_eq!(headers.erased_from(b"hea"), b"hea");
    }

    #[test]
    fn there_are_not_too_many() {
        let mut headers = CustomHeaders::default();
        for number in 0..=CustomHeaders::MAX {
            assert_eq!(headers.check(), Ok(()));
            headers.set(HeaderName::parse(&format!("x-{number}")).unwrap(), "v").unwrap();
        }
        assert_eq!(headers.check(), Err(InvalidHeader::TooMany(17)));
    }
}
