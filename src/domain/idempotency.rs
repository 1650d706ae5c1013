//! Requests that are to be done once, however often they are sent: the header `Idempotency-Key` of
//! draft-ietf-httpapi-idempotency-key-header-07.

use super::ids::{CallId, TenantId};

/// A key of the caller's own choosing, that names one request: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// A text that is no key. Each says what a key would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Too short or too long.
    #[error("must have 1 to 255 characters, has {0}")]
    Length(usize),
    /// A space, a control character, or beyond ASCII.
    #[error("must have only visible ASCII characters")]
    Character,
    /// A quote that does not end, say.
    #[error("must be a quoted string with \\\" and \\\\ as the only escapes, or the same without quotes")]
    Quotes,
}

impl IdempotencyKey {
    /// The most characters.
    pub const MAX_LEN: usize = 255;

    /// Reads the field's value: a string of RFC 9651 (`"…"`), or the bare text that many clients send. Both name the
    /// same key.
    ///
    /// # Errors
    /// [`InvalidKey`] says which rule it breaks.
    pub fn parse(field: &[u8]) -> Result<Self, InvalidKey> {
        let field = field.trim_ascii();
        let key = match field.strip_prefix(b"\"") {
            Some(quoted) => unquoted(quoted)?,
            None => field.to_vec(),
        };
        if !key.iter().all(u8::is_ascii_graphic) {
            return Err(InvalidKey::Character);
        }
        match key.len() {
            1..=Self::MAX_LEN => String::from_utf8(key).map(Self).map_err(|_| InvalidKey::Character),
            length => Err(InvalidKey::Length(length)),
        }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The string that begins after a quote.
fn unquoted(text: &[u8]) -> Result<Vec<u8>, InvalidKey> {
    let (mut key, mut bytes) = (Vec::new(), text.iter());
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' if bytes.as_slice().is_empty() => return Ok(key),
            b'"' => return Err(InvalidKey::Quotes),
            b'\\' => match bytes.next() {
                Some(&escaped @ (b'"' | b'\\')) => key.push(escaped),
                _ => return Err(InvalidKey::Quotes),
            },
            other => key.push(other),
        }
    }
    Err(InvalidKey::Quotes)
}

/// What an answer is about, and so what may become of it while it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// One call: the answer goes when the call is deleted.
    Call(CallId),
    /// Several calls: the answer goes when any call of the tenant is deleted.
    Calls,
    /// No call, and nothing secret.
    Plain,
    /// It holds a secret: it is kept sealed or not at all.
    Secret,
}

impl Subject {
    /// In place of a call's name, for several of them; no call has it.
    pub const SEVERAL: &str = "*";

    /// Whose deletion makes the answer go: a call's name, [`SEVERAL`](Self::SEVERAL) or nobody's.
    pub fn concerns(&self) -> Option<&str> {
        match self {
            Self::Call(call_id) => Some(call_id.as_str()),
            Self::Calls => Some(Self::SEVERAL),
            Self::Plain | Self::Secret => None,
        }
    }
}

/// A request that came with a key, as the store knows it: neither the key nor the body can be read from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    /// SHA-256 of the operation (method and path) and the key: within a tenant, this is done once.
    pub name: [u8; 32],
    /// SHA-256 of all that makes the request what it is.
    pub fingerprint: [u8; 32],
    /// See [`Subject::concerns`].
    pub concerns: Option<String>,
}

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// Whether the bytes are sealed.
    pub is_sealed: bool,
    /// The answer, or what it was sealed to.
    pub bytes: Vec<u8>,
}

/// What a sealed answer is bound to: whose it is, and [`KeyedRequest::name`].
pub fn sealing_context(tenant: &TenantId, name: &[u8; 32]) -> Vec<u8> {
    [tenant.as_str().as_bytes(), b"\0", name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_string_with_or_without_quotes() {
        let key = |field: &str| IdempotencyKey::parse(field.as_bytes()).unwrap().as_str().to_owned();
        for field in ["\"8e03978e-40d5-43e8\"", "8e03978e-40d5-43e8", " 8e03978e-40d5-43e8 "] {
            assert_eq!(key(field), "8e03978e-40d5-43e8");
        }
        assert_eq!(key(r#""a\"b\\c""#), r#"a"b\c"#);
        assert_eq!(key(r#"a"b\c"#), r#"a"b\c"#);
        assert_eq!(key(&"x".repeat(255)).len(), 255);
        assert_eq!(key(&format!("\"{}\"", "x".repeat(255))).len(), 255);
    }

    #[test]
    fn what_is_no_key_is_told_why() {
        let long = "x".repeat(256);
        for (field, why) in [
            ("", InvalidKey::Length(0)),
            ("\"\"", InvalidKey::Length(0)),
            (long.as_str(), InvalidKey::Length(256)),
            ("a b", InvalidKey::Character),
            ("\"a b\"", InvalidKey::Character),
            ("é", InvalidKey::Character),
            ("\"", InvalidKey::Quotes),
            ("\"a", InvalidKey::Quotes),
            ("\"a\\\"", InvalidKey::Quotes),
            ("\"a\\b\"", InvalidKey::Quotes),
            ("\"a\"b\"", InvalidKey::Quotes),
            ("\"a\";p=1", InvalidKey::Quotes),
        ] {
            assert_eq!(IdempotencyKey::parse(field.as_bytes()), Err(why), "{field}");
        }
    }
}
