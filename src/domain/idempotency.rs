//! Idempotency keys: a request with a key is executed once, even if it is sent several times. The header
//! `Idempotency-Key` follows draft-ietf-httpapi-idempotency-key-header-07.

use super::ids::{CallId, TenantId};

/// Key that the caller chooses for one request: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// Reason why a header value is not an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The key is empty or too long.
    #[error("must have 1 to 255 characters, has {0}")]
    Length(usize),
    /// The key has a space, a control character or a character outside ASCII.
    #[error("must have only visible ASCII characters")]
    Character,
    /// The quoted string is malformed.
    #[error("must be a quoted string, in which \\ escapes only \" and \\, or a string without quotes")]
    Quotes,
}

impl IdempotencyKey {
    /// Maximum length in characters.
    pub const MAX_LEN: usize = 255;

    /// Parses the header value: a string of RFC 9651 (`"…"`), or the string without quotes that many clients send.
    /// Both forms give the same key.
    ///
    /// # Errors
    /// [`InvalidKey`] names the broken rule.
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

    /// Returns the key without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Parses the rest of a quoted string after its opening quote.
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

/// Subject of a stored answer. The subject determines when the answer is deleted, and whether the answer is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// One call. Deleting the call deletes the answer.
    Call(CallId),
    /// Several calls. Deleting any call of the tenant deletes the answer.
    Calls,
    /// The answer concerns no call and contains no secret.
    Plain,
    /// The answer contains a secret. Such an answer is sealed, or not stored at all.
    Secret,
}

impl Subject {
    /// Placeholder for several calls, which is not a valid call id.
    pub const SEVERAL: &str = "*";

    /// Returns the call whose deletion deletes the answer, or [`SEVERAL`](Self::SEVERAL).
    pub fn concerns(&self) -> Option<&str> {
        match self {
            Self::Call(call_id) => Some(call_id.as_str()),
            Self::Calls => Some(Self::SEVERAL),
            Self::Plain | Self::Secret => None,
        }
    }
}

/// Request with a key, in the form that the store keeps. It contains only hashes of the key and of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    /// SHA-256 of the operation (method and path) and the key. This hash is unique per tenant.
    pub name: [u8; 32],
    /// SHA-256 of all data that identify the content of the request.
    pub fingerprint: [u8; 32],
    /// Result of [`Subject::concerns`].
    pub concerns: Option<String>,
}

/// Answer in the form that the store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// Whether the bytes are sealed.
    pub is_sealed: bool,
    /// The answer in plain or sealed form.
    pub bytes: Vec<u8>,
}

/// Returns the associated data of a sealed answer: the tenant and [`KeyedRequest::name`].
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
    fn an_invalid_key_is_refused_with_its_reason() {
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
