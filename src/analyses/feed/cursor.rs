//! A place in a feed, as callers hold on to it.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::feed::FeedPosition;
use crate::domain::ids::TenantId;

const NUMBER: usize = 8;
const CHECK: usize = 8;

/// The text of a place. It carries a check, so that a cursor that was cut short, changed or mixed up with another
/// tenant's is noticed; there is nothing in it to keep secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// The cursor of a place in a tenant's feed.
    pub fn new(tenant: &TenantId, position: FeedPosition) -> Self {
        let number = position.number().to_be_bytes();
        Self(URL_SAFE_NO_PAD.encode([number, check(tenant, number)].concat()))
    }

    /// Reads the text back; `None` if it is none of this tenant's.
    pub fn parse(tenant: &TenantId, text: &str) -> Option<FeedPosition> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (number, given) = bytes.split_at_checked(NUMBER)?;
        let number = number.try_into().ok()?;
        (given == check(tenant, number)).then(|| FeedPosition::new(i64::from_be_bytes(number)))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(tenant: &TenantId, number: [u8; NUMBER]) -> [u8; CHECK] {
    let digest = digest(&SHA256, &[b"events", &number[..], tenant.as_str().as_bytes()].concat());
    let mut check = [0; CHECK];
    check.copy_from_slice(&digest.as_ref()[..CHECK]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_is_nobody_elses() {
        let (acme, globex) = (TenantId::parse("acme").unwrap(), TenantId::parse("globex").unwrap());
        let cursor = Cursor::new(&acme, FeedPosition::new(42)).to_string();
        assert_eq!(Cursor::parse(&acme, &cursor), Some(FeedPosition::new(42)));
        assert_eq!(Cursor::parse(&globex, &cursor), None);
        for place in 0..cursor.len() {
            let mut changed = cursor.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(Cursor::parse(&acme, std::str::from_utf8(&changed).unwrap()), None, "{place}");
            assert_eq!(Cursor::parse(&acme, &cursor[..place]), None);
        }
        assert_eq!(Cursor::parse(&acme, &format!("{cursor}A")), None);
    }
}
