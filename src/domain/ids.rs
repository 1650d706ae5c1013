//! Ids. Each id is parsed once, when it enters the program, and is valid afterwards.

use std::fmt;
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, PercentEncode, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::clock::{Entropy, Timestamp};

/// Reason why a string is not a valid id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The id is empty or too long.
    #[error("must have 1 to {max} characters, has {actual}")]
    Length {
        /// Maximum length in characters.
        max: usize,
        /// Actual length in bytes.
        actual: usize,
    },
    /// The id has a character outside the allowed set.
    #[error("has the character {found:?}; allowed are {allowed}")]
    Character {
        /// First character that is not allowed.
        found: char,
        /// Allowed characters, as error messages show them.
        allowed: &'static str,
    },
    /// The id is `.` or `..`, which URL parsers remove from paths.
    #[error("must be neither \".\" nor \"..\"")]
    DotSegment,
}

fn check(
    text: &str,
    max: usize,
    allowed: &'static str,
    is_allowed: fn(char) -> bool,
) -> Result<(), InvalidId> {
    if let Some(found) = text.chars().find(|c| !is_allowed(*c)) {
        return Err(InvalidId::Character { found, allowed });
    }
    if text.is_empty() || text.len() > max {
        return Err(InvalidId::Length { max, actual: text.len() });
    }
    if matches!(text, "." | "..") {
        return Err(InvalidId::DotSegment);
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max:expr, $allowed:expr, $is_allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Maximum length in characters.
            pub const MAX_LEN: usize = $max;

            /// Parses an id.
            ///
            /// # Errors
            /// [`InvalidId`] names the broken rule.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                check(text, $max, $allowed, $is_allowed)?;
                Ok(Self(text.into()))
            }

            /// Returns the id as a string.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

text_id! {
    /// The vendor's id of a recorded call: 1 to 128 of ``A-Za-z0-9 . _ ~ : @ + = - ! " # % ' ( ) * < > ? [ \ ] ` {
    /// }``, neither `.` nor `..`.
    ///
    /// These are the characters of a SIP `Call-ID` (RFC 3261, section 25.1) without `/`, and additionally `=` and `#`.
    CallId, 128, "A-Z a-z 0-9 . _ ~ : @ + = - ! \" # % ' ( ) * < > ? [ \\ ] ` { }",
    |c| c.is_ascii_alphanumeric() || "._~:@+=-!\"#%'()*<>?[\\]`{}".contains(c)
}

/// Characters of a call id that must be encoded in a path segment of a URL (RFC 3986, section 3.3).
const ENCODED: &AsciiSet = &CONTROLS
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'`')
    .add(b'{')
    .add(b'}');

impl CallId {
    /// Regular expression of the allowed characters, for the OpenAPI document.
    pub const PATTERN: &str = r##"^[A-Za-z0-9._~:@+=!"#%'()*<>?\[\\\]`{}-]+$"##;

    /// Returns the id as a path segment of a URL.
    pub fn path_segment(&self) -> PercentEncode<'_> {
        utf8_percent_encode(&self.0, ENCODED)
    }
}

text_id! {
    /// Name of a tenant in the settings: 1 to 64 of `A-Za-z0-9 . _ -`.
    TenantId, 64, "A-Z a-z 0-9 . _ -",
    |c| c.is_ascii_alphanumeric() || "._-".contains(c)
}

macro_rules! generated_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Generates a new id. Ids sort by time (UUID version 7, RFC 9562).
            pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Self {
                let mut random = [0; 10];
                entropy.fill(&mut random);
                let millis = u64::try_from(now.as_millis()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// Parses the string form. Returns `None` if the string is not an id of this kind.
            pub fn parse(text: &str) -> Option<Self> {
                let uuid = Uuid::try_parse(text.strip_prefix($prefix)?).ok()?;
                (uuid.get_version_num() == 7).then_some(Self(uuid))
            }

            /// Returns the time of generation, by the clock of the generating process.
            pub fn generated_at(self) -> Timestamp {
                // The first 48 bits are milliseconds, which always fit.
                Timestamp::from_millis(i64::try_from(self.0.as_u128() >> 80).unwrap_or(i64::MAX))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

generated_id! {
    /// Id of an event: `evt_…`. It is the `webhook-id` header of the event's deliveries.
    EventId, "evt_"
}
generated_id! {
    /// Id of a delivery: `dlv_…`.
    DeliveryId, "dlv_"
}

generated_id! {
    /// Id of a webhook: `whk_…`.
    WebhookId, "whk_"
}
generated_id! {
    /// Id of a replay: `rpl_…`.
    ReplayId, "rpl_"
}

generated_id! {
    /// Id of a request whose caller sent no id: `req_…`.
    RequestId, "req_"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_ids_have_allowed_characters_and_a_bounded_length() {
        let sip = r#"f81d4fae-7dec-11d0-a765!%*_+`'~()<>:\"[]?{}#=@foo.bar.com"#;
        for good in ["1716207617.42", "a", "A~b:c@d+e=f-g_h.i", sip, "%2F", &"x".repeat(128), "..."] {
            assert_eq!(CallId::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(CallId::parse(""), Err(InvalidId::Length { max: 128, actual: 0 }));
        assert_eq!(CallId::parse(&"x".repeat(129)), Err(InvalidId::Length { max: 128, actual: 129 }));
        for dots in [".", ".."] {
            assert_eq!(CallId::parse(dots), Err(InvalidId::DotSegment));
        }
        for bad in ["a b", "a/b", "ü", "a\0", "a$b", "a&b", "a,b", "a;b", "a^b", "a|b", "a\u{7f}", "a\n"] {
            assert!(matches!(CallId::parse(bad), Err(InvalidId::Character { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_path_segment_has_only_characters_of_rfc_3986() {
        let segment = |id: &str| CallId::parse(id).unwrap().path_segment().to_string();
        assert_eq!(segment("1716207617.42"), "1716207617.42");
        assert_eq!(segment("a%2Fb?c#d"), "a%252Fb%3Fc%23d");
        let every: String = (' '..='~').filter(|c| CallId::parse(&c.to_string().repeat(3)).is_ok()).collect();
        let every = segment(&every);
        assert!(
            every.chars().all(|c| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@%".contains(c)),
            "{every}"
        );
        assert_eq!(every.matches('%').count(), 12, "{every}");
    }

    #[test]
    fn generated_ids_parse_their_own_string_and_no_other_kind() {
        struct Fixed;
        impl Entropy for Fixed {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(7);
            }
        }
        let event = EventId::generate(Timestamp::from_millis(1_716_207_617_000), &Fixed);
        assert_eq!(EventId::parse(&event.to_string()), Some(event));
        assert_eq!(event.generated_at(), Timestamp::from_millis(1_716_207_617_000));
        assert_eq!(EventId::parse("evt_00000000000000000000000000000000"), None);
        assert_eq!(DeliveryId::parse(&event.to_string()), None);
    }
}
