//! Lists of a tenant's analyses, page by page.

use super::cursor::{CursorCodec, InvalidCursor};
use super::{Analyses, AnalysesError};
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::listing::{
    AnalysisFilter, AnalysisPage, AnalysisQuery, ListPosition, ListedAnalysis, ListedRow,
};
use crate::domain::summary::AnalysisSummary;
use crate::tenants::Tenant;

/// A page of a list of analyses.
#[derive(Debug)]
pub struct Listing {
    /// The analyses, newest first.
    pub analyses: Vec<AnalysisSummary>,
    /// The call ids of the analyses on this page that cannot be read.
    pub unreadable: Vec<String>,
    /// Cursor of the next page; `None` on the last page.
    pub next_cursor: Option<String>,
    /// Submission time of the last examined analysis, if the search stopped at its limit before the page was full; else `None`.
    pub searched_back_to: Option<Timestamp>,
}

impl Analyses {
    /// Lists up to `limit` analyses that match the filter, after the cursor or from the newest on. A page may have fewer
    /// analyses, even none, and still have a next page.
    ///
    /// # Errors
    /// [`AnalysesError::InvalidCursor`] for a cursor of another list, [`AnalysesError::Store`] if the store fails or refuses the
    /// read.
    pub async fn list(
        &self,
        tenant: &Tenant,
        filter: AnalysisFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing, AnalysesError> {
        let codec = codec(tenant.id(), &filter);
        let after = cursor.map(|cursor| decode(&codec, cursor)).transpose()?;
        // One more row than the page holds shows whether there is a next page.
        let query = AnalysisQuery { filter, after, limit: limit.saturating_add(1) };
        let AnalysisPage { analyses: mut listed, searched_to } =
            self.store.list_analyses(tenant.id(), query).await?;
        let is_full = listed.len() > limit;
        listed.truncate(limit);
        let searched_to = searched_to.filter(|_| !is_full);
        let searched_back_to = searched_to.as_ref().map(|position| position.submitted_at);
        let last = |row: &ListedRow| row.as_ref().map_or_else(ListPosition::clone, ListedAnalysis::position);
        let last = if is_full { listed.last().map(last) } else { searched_to };
        let next_cursor = last.map(|last| encode(&codec, &last));
        let (mut analyses, mut unreadable) = (Vec::with_capacity(listed.len()), Vec::new());
        for row in listed {
            match row {
                Ok(ListedAnalysis { analysis, result }) => {
                    analyses.push(AnalysisSummary::new(&analysis, result, &self.env.public_url));
                }
                Err(position) => unreadable.push(position.call_id),
            }
        }
        Ok(Listing { analyses, unreadable, next_cursor, searched_back_to })
    }
}

fn codec(tenant: &TenantId, filter: &AnalysisFilter) -> CursorCodec {
    let codec =
        CursorCodec::new("analyses", tenant).filter(filter.status.map_or("", |status| status.as_str()));
    let moments = [filter.submitted_after, filter.submitted_before];
    let codec = moments.into_iter().fold(codec, |codec, moment| {
        codec.filter(moment.map_or(Vec::new(), |moment| moment.as_millis().to_be_bytes().into()))
    });
    let terms = filter.search.iter().flat_map(|search| search.terms(tenant));
    let codec = terms.fold(codec, |codec, term| {
        term.forms.iter().fold(codec.filter([u8::from(term.prefix)]), CursorCodec::filter)
    });
    let codec = filter.tags.iter().fold(codec, |codec, tag| codec.filter("tag").filter(tag.as_str()));
    filter.attributes.iter().fold(codec, |codec, attribute| {
        codec.filter("attribute").filter(attribute.name()).filter(attribute.value())
    })
}

fn encode(codec: &CursorCodec, position: &ListPosition) -> String {
    let ListPosition { submitted_at, call_id } = position;
    codec.encode(&[&submitted_at.as_millis().to_be_bytes(), call_id.as_bytes()].concat())
}

fn decode(codec: &CursorCodec, cursor: &str) -> Result<ListPosition, InvalidCursor> {
    let position = codec.decode(cursor)?;
    let (millis, call_id) = position.split_first_chunk().ok_or(InvalidCursor)?;
    let call_id = std::str::from_utf8(call_id).map_err(|_| InvalidCursor)?;
    Ok(ListPosition {
        submitted_at: Timestamp::from_millis(i64::from_be_bytes(*millis)),
        call_id: call_id.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::analysis::Status;
    use crate::domain::attributes::{Attribute, AttributeSource};
    use crate::domain::tags::TagKey;

    #[test]
    fn a_cursor_is_valid_only_with_the_same_filters() {
        let acme = TenantId::parse("acme").unwrap();
        let all = codec(&acme, &AnalysisFilter::default());
        let submitted_at = Timestamp::from_millis(1_716_207_617_042);
        let call_id = "1716207617.42".to_owned();
        let position = ListPosition { submitted_at, call_id };
        let cursor = encode(&all, &position);
        assert_eq!(decode(&all, &cursor), Ok(position));
        for other in [
            AnalysisFilter { status: Some(Status::Completed), ..AnalysisFilter::default() },
            AnalysisFilter { tags: vec![TagKey::of("a")], ..AnalysisFilter::default() },
            AnalysisFilter {
                attributes: vec![Attribute::new(AttributeSource::Agent, "17").unwrap()],
                ..AnalysisFilter::default()
            },
            AnalysisFilter { submitted_after: Some(Timestamp::from_millis(0)), ..AnalysisFilter::default() },
            AnalysisFilter { submitted_before: Some(Timestamp::from_millis(0)), ..AnalysisFilter::default() },
        ] {
            assert_eq!(decode(&codec(&acme, &other), &cursor), Err(InvalidCursor), "{other:?}");
        }
    }
}
