//! Lists of analyses: filter, position and page.

use super::analysis::{Analysis, Status};
use super::attributes::Attribute;
use super::clock::Timestamp;
use super::search::SearchQuery;
use super::summary::ResultSummary;
use super::tags::TagKey;

/// Filter of a list of analyses. An analysis must match every part that is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnalysisFilter {
    /// Status of the analysis.
    pub status: Option<Status>,
    /// Keys of tags. The analysis must have all these tags.
    pub tags: Vec<TagKey>,
    /// Search in the transcript.
    pub search: Option<SearchQuery>,
    /// Attributes. The analysis must have all these attributes. The rarest attribute comes first, because a page is read along
    /// the index entries of the first attribute.
    pub attributes: Vec<Attribute>,
    /// Lower bound of the time of submission, exclusive.
    pub submitted_after: Option<Timestamp>,
    /// Upper bound of the time of submission, exclusive.
    pub submitted_before: Option<Timestamp>,
}

impl AnalysisFilter {
    /// Returns whether a query for a page may have to examine many analyses that do not match. This is the case if the
    /// index along which the page is read does not cover a part of the filter.
    pub fn skips_analyses(&self) -> bool {
        let has_other_parts = self.attributes.len() > 1 || self.status.is_some();
        self.needs_result() || (!self.attributes.is_empty() && has_other_parts)
    }

    /// Returns whether only analyses with a result can match.
    pub fn needs_result(&self) -> bool {
        self.status == Some(Status::Completed) || !self.tags.is_empty() || self.search.is_some()
    }

    /// Returns whether the filter has a part that an index can find: a tag, a search or an attribute.
    pub fn has_indexed_part(&self) -> bool {
        !self.tags.is_empty() || self.search.is_some() || !self.attributes.is_empty()
    }

    /// Returns the stricter of two upper bounds: `submitted_before` and the position. A statement gets only this bound. With
    /// both, a database may start at the newer bound and read all analyses between the two.
    pub fn upper_bound<'a>(&self, after: Option<&'a ListPosition>) -> Option<UpperBound<'a>> {
        match (self.submitted_before, after) {
            (Some(before), Some(position)) if position.submitted_at >= before => {
                Some(UpperBound::Before(before))
            }
            (_, Some(position)) => Some(UpperBound::After(position)),
            (before, None) => before.map(UpperBound::Before),
        }
    }
}

/// Upper bound of the analyses on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpperBound<'a> {
    /// The analyses that were submitted before this time.
    Before(Timestamp),
    /// The analyses after this position.
    After(&'a ListPosition),
}

/// Position of an analysis in a list. The position of an analysis never changes, and no two analyses have the same
/// position. So pages are stable: concurrent writes cause neither duplicates nor gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPosition {
    /// Time of submission of the last analysis on the previous page.
    pub submitted_at: Timestamp,
    /// Stored call id of the last analysis on the previous page. The id may have a form that only a later version knows.
    pub call_id: String,
}

/// Query for one page of analyses, newest first.
#[derive(Debug, Clone)]
pub struct AnalysisQuery {
    /// Filter of the list.
    pub filter: AnalysisFilter,
    /// Position after which the page starts; `None` for the first page.
    pub after: Option<ListPosition>,
    /// Maximum number of analyses on the page.
    pub limit: usize,
}

/// Analysis in a list, with the summary of its result.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedAnalysis {
    /// The analysis itself.
    pub analysis: Analysis,
    /// Summary of the result, if there is one.
    pub result: Option<ResultSummary>,
}

/// A row of a list: an analysis, or the position of an analysis that this version cannot read.
pub type ListedRow = Result<ListedAnalysis, ListPosition>;

/// One page of analyses, newest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AnalysisPage {
    /// The analyses that match the filter.
    pub analyses: Vec<ListedRow>,
    /// Position of the last examined analysis, if the query stopped early because it had examined enough analyses. Older analyses
    /// may match. `None` if the page is full or the list has ended.
    pub searched_to: Option<ListPosition>,
}

impl ListedAnalysis {
    /// Returns the position of the analysis in lists.
    pub fn position(&self) -> ListPosition {
        ListPosition { submitted_at: self.analysis.submitted_at, call_id: self.analysis.call_id.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_upper_bound_counts() {
        let at = Timestamp::from_millis;
        let position = |millis| ListPosition { submitted_at: at(millis), call_id: "1".to_owned() };
        let filter = |submitted_before| AnalysisFilter { submitted_before, ..AnalysisFilter::default() };
        assert_eq!(filter(None).upper_bound(None), None);
        assert_eq!(filter(Some(at(5))).upper_bound(None), Some(UpperBound::Before(at(5))));
        assert_eq!(filter(None).upper_bound(Some(&position(5))), Some(UpperBound::After(&position(5))));
        for (millis, is_older) in [(4, true), (5, false), (6, false)] {
            let position = position(millis);
            let bound = if is_older { UpperBound::After(&position) } else { UpperBound::Before(at(5)) };
            assert_eq!(filter(Some(at(5))).upper_bound(Some(&position)), Some(bound), "{millis}");
        }
    }
}
