//! Cursors: where a page of a list ends, as a text that callers give back as it is.
//!
//! A cursor holds a position and a digest of it together with the tenant and the filters. The digest is no secret's:
//! whoever makes one up gets to a place in their own list, which they may see anyway. It finds mistakes: a cursor that was
//! cut off, or goes with other filters.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::listing::{AnalysisFilter, ListPosition};

const VERSION: u8 = 1;
const DIGEST: usize = 8;

/// The text is no cursor of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor of this list: give back `next_cursor` as it came, with the same filters")]
pub struct InvalidCursor;

/// Writes a position down.
pub(super) fn write(tenant: &TenantId, filter: &AnalysisFilter, position: &ListPosition) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(position.submitted_at.as_millis().to_be_bytes());
    bytes.extend(position.call_id.as_str().bytes());
    bytes.extend(digest(tenant, filter, &bytes));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads [`write`] back.
///
/// # Errors
/// If it was written for another tenant or other filters, or not by us.
pub(super) fn read(
    tenant: &TenantId,
    filter: &AnalysisFilter,
    text: &str,
) -> Result<ListPosition, InvalidCursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
    let (position, given) = bytes.split_last_chunk::<DIGEST>().ok_or(InvalidCursor)?;
    if digest(tenant, filter, position) != *given {
        return Err(InvalidCursor);
    }
    let (&[VERSION], rest) = position.split_first_chunk().ok_or(InvalidCursor)? else {
        return Err(InvalidCursor);
    };
    let (millis, call_id) = rest.split_first_chunk().ok_or(InvalidCursor)?;
    let call_id = std::str::from_utf8(call_id).map_err(|_| InvalidCursor)?;
    Ok(ListPosition {
        submitted_at: Timestamp::from_millis(i64::from_be_bytes(*millis)),
        call_id: CallId::parse(call_id).map_err(|_| InvalidCursor)?,
    })
}

fn digest(tenant: &TenantId, filter: &AnalysisFilter, position: &[u8]) -> [u8; DIGEST] {
    let mut context = Context::new(&SHA256);
    // With its length before each part: no two lists of parts look alike.
    let mut part = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    part(position);
    part(tenant.as_str().as_bytes());
    part(filter.status.map_or("", |status| status.as_str()).as_bytes());
    for moment in [filter.submitted_after, filter.submitted_before] {
        part(&moment.map_or(Vec::new(), |moment| moment.as_millis().to_be_bytes().into()));
    }
    for term in filter.search.iter().flat_map(|search| search.terms(tenant)) {
        part(&[term.prefix.into()]);
        term.forms.iter().for_each(|form| part(form.as_bytes()));
    }
    for tag in &filter.tags {
        part(b"tag");
        part(tag.as_bytes());
    }
    let mut short = [0; DIGEST];
    short.copy_from_slice(&context.finish().as_ref()[..DIGEST]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::analysis::Status;

    fn position() -> ListPosition {
        let submitted_at = Timestamp::from_millis(1_716_207_617_042);
        ListPosition { submitted_at, call_id: CallId::parse("1716207617.42").unwrap() }
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    #[test]
    fn a_cursor_reads_back_in_its_own_list_and_in_no_other() {
        let (acme, all) = (tenant("acme"), AnalysisFilter::default());
        let cursor = write(&acme, &all, &position());
        assert_eq!(read(&acme, &all, &cursor), Ok(position()));
        assert_eq!(read(&tenant("globex"), &all, &cursor), Err(InvalidCursor));
        for other in [
            AnalysisFilter { status: Some(Status::Completed), ..AnalysisFilter::default() },
            AnalysisFilter { tags: vec!["a".to_owned()], ..AnalysisFilter::default() },
            AnalysisFilter { submitted_after: Some(Timestamp::from_millis(0)), ..AnalysisFilter::default() },
            AnalysisFilter { submitted_before: Some(Timestamp::from_millis(0)), ..AnalysisFilter::default() },
        ] {
            assert_eq!(read(&acme, &other, &cursor), Err(InvalidCursor), "{other:?}");
        }
    }

    #[test]
    fn whatever_is_changed_in_a_cursor_is_seen() {
        let (acme, all) = (tenant("acme"), AnalysisFilter::default());
        let cursor = write(&acme, &all, &position());
        for place in 0..cursor.len() {
            let mut changed = cursor.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(read(&acme, &all, &changed), Err(InvalidCursor), "{changed}");
            assert_eq!(read(&acme, &all, &cursor[..place]), Err(InvalidCursor));
        }
    }
}
