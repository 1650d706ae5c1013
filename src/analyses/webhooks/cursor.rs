//! Where a page of deliveries ends, as a text that callers give back as it is. As in [`super::super::cursor`], the digest
//! finds mistakes and keeps no secret.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::analyses::InvalidCursor;
use crate::domain::deliveries::DeliveryFilter;
use crate::domain::ids::TenantId;

const VERSION: u8 = 1;
const DIGEST: usize = 8;

/// Writes a place down.
pub(super) fn write(tenant: &TenantId, filter: &DeliveryFilter, place: i64) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(place.to_be_bytes());
    bytes.extend(digest(tenant, filter, &bytes));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads [`write`] back.
///
/// # Errors
/// If it was written for another tenant or other filters, or not by us.
pub(super) fn read(tenant: &TenantId, filter: &DeliveryFilter, text: &str) -> Result<i64, InvalidCursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
    let (position, given) = bytes.split_last_chunk::<DIGEST>().ok_or(InvalidCursor)?;
    if digest(tenant, filter, position) != *given {
        return Err(InvalidCursor);
    }
    let (&[VERSION], place) = position.split_first_chunk().ok_or(InvalidCursor)? else {
        return Err(InvalidCursor);
    };
    Ok(i64::from_be_bytes(place.try_into().map_err(|_| InvalidCursor)?))
}

fn digest(tenant: &TenantId, filter: &DeliveryFilter, position: &[u8]) -> [u8; DIGEST] {
    let webhook = filter.webhook.map(|webhook| webhook.to_string()).unwrap_or_default();
    let status = filter.status.map_or("", |status| status.as_str());
    let call_id = filter.call_id.as_ref().map_or("", |call_id| call_id.as_str());
    let mut context = Context::new(&SHA256);
    for part in [
        b"deliveries",
        position,
        tenant.as_str().as_bytes(),
        webhook.as_bytes(),
        status.as_bytes(),
        call_id.as_bytes(),
    ] {
        // With its length before each part: no two lists of parts look alike.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut short = [0; DIGEST];
    short.copy_from_slice(&context.finish().as_ref()[..DIGEST]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::deliveries::DeliveryStatus;

    #[test]
    fn a_cursor_reads_back_for_its_own_list_alone() {
        let (acme, globex) = (TenantId::parse("acme").unwrap(), TenantId::parse("globex").unwrap());
        let all = DeliveryFilter::default();
        let failed = DeliveryFilter { status: Some(DeliveryStatus::Failed), ..DeliveryFilter::default() };
        let cursor = write(&acme, &all, 42);
        assert_eq!(read(&acme, &all, &cursor), Ok(42));
        assert_eq!(read(&globex, &all, &cursor), Err(InvalidCursor));
        assert_eq!(read(&acme, &failed, &cursor), Err(InvalidCursor));
        for text in ["", "!", &cursor[1..], &cursor[..cursor.len() - 1]] {
            assert_eq!(read(&acme, &all, text), Err(InvalidCursor), "{text}");
        }
    }
}
