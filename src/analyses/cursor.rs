//! Cursors for pages of lists. A cursor is an opaque text with the position at which a page ends. Callers send the cursor back
//! unchanged.
//!
//! A cursor is `base64url(version, position, digest)`. The digest covers the position, the name of the list, the tenant and the
//! filters, so a cursor that is damaged or belongs to another list is rejected. The digest does not protect against forgery. A
//! forged cursor is harmless, because it only leads to another position in the caller's own list.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::ids::TenantId;

const VERSION: u8 = 1;
const DIGEST_BYTES: usize = 8;

/// The text is not a cursor of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor of this list: send `next_cursor` unchanged and with the same filters")]
pub struct InvalidCursor;

/// Reads and writes the cursors of one list: one tenant, one set of filters.
pub(super) struct CursorCodec(Context);

impl CursorCodec {
    /// Creates the codec of a tenant's list without filters. `list` is the name of the list. Different lists have different
    /// names.
    pub(super) fn new(list: &'static str, tenant: &TenantId) -> Self {
        Self(Context::new(&SHA256)).filter(list.as_bytes()).filter(tenant.as_str().as_bytes())
    }

    /// Adds a filter. Lists whose filters differ in value or in order have different cursors.
    pub(super) fn filter(mut self, value: impl AsRef<[u8]>) -> Self {
        update(&mut self.0, value.as_ref());
        self
    }

    /// Returns the cursor of a position.
    pub(super) fn encode(&self, position: &[u8]) -> String {
        let versioned = [&[VERSION], position].concat();
        URL_SAFE_NO_PAD.encode([&versioned[..], &self.digest(&versioned)].concat())
    }

    /// Returns the position of a cursor of this list.
    ///
    /// # Errors
    /// [`InvalidCursor`] if the text is damaged or belongs to another list.
    pub(super) fn decode(&self, cursor: &str) -> Result<Vec<u8>, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor)?;
        let (versioned, digest) = bytes.split_last_chunk().ok_or(InvalidCursor)?;
        match versioned {
            [VERSION, position @ ..] if self.digest(versioned) == *digest => Ok(position.to_vec()),
            _ => Err(InvalidCursor),
        }
    }

    /// Returns the cursor of a position that is one number.
    pub(super) fn encode_number(&self, position: i64) -> String {
        self.encode(&position.to_be_bytes())
    }

    /// Returns the position of a cursor that [`CursorCodec::encode_number`] wrote.
    ///
    /// # Errors
    /// The errors of [`CursorCodec::decode`].
    pub(super) fn decode_number(&self, cursor: &str) -> Result<i64, InvalidCursor> {
        let position = self.decode(cursor)?.try_into().map_err(|_| InvalidCursor)?;
        Ok(i64::from_be_bytes(position))
    }

    fn digest(&self, versioned: &[u8]) -> [u8; DIGEST_BYTES] {
        let mut context = self.0.clone();
        update(&mut context, versioned);
        let mut short = [0; DIGEST_BYTES];
        short.copy_from_slice(&context.finish().as_ref()[..DIGEST_BYTES]);
        short
    }
}

/// Adds a value after its length, so that no two sequences of values give the same digest.
fn update(context: &mut Context, value: &[u8]) {
    context.update(&(value.len() as u64).to_be_bytes());
    context.update(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(list: &'static str, tenant: &str) -> CursorCodec {
        CursorCodec::new(list, &TenantId::parse(tenant).unwrap())
    }

    #[test]
    fn a_cursor_is_valid_only_in_its_own_list() {
        let cursor = codec("events", "acme").filter("a").encode_number(42);
        assert_eq!(codec("events", "acme").filter("a").decode_number(&cursor), Ok(42));
        for other in [
            codec("events", "acme"),
            codec("events", "acme").filter("b"),
            codec("events", "acme").filter("a").filter(""),
            codec("events", "globex").filter("a"),
            codec("deliveries", "acme").filter("a"),
            codec("event", "sacme").filter("a"),
        ] {
            assert_eq!(other.decode_number(&cursor), Err(InvalidCursor));
        }
    }

    #[test]
    fn every_change_of_a_cursor_is_detected() {
        let codec = codec("events", "acme");
        let cursor = codec.encode(b"1716207617.42");
        for place in 0..cursor.len() {
            let mut changed = cursor.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(codec.decode(&changed), Err(InvalidCursor), "{changed}");
            assert_eq!(codec.decode(&cursor[..place]), Err(InvalidCursor));
        }
        for text in ["", "!", &cursor[1..], &format!("{cursor}A")] {
            assert_eq!(codec.decode(text), Err(InvalidCursor), "{text}");
        }
        // A valid cursor whose position is not a number.
        assert_eq!(codec.decode_number(&cursor), Err(InvalidCursor));
    }
}
