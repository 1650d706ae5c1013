//! Which analyses a list shows, and where in it a page begins.

use super::analysis::{Analysis, Status};
use super::clock::Timestamp;
use super::ids::CallId;
use super::search::SearchQuery;
use super::summary::ResultSummary;

/// What an analysis must be to be listed: all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnalysisFilter {
    /// So far.
    pub status: Option<Status>,
    /// With every one of these tags, by name.
    pub tags: Vec<String>,
    /// With these words.
    pub search: Option<SearchQuery>,
    /// Submitted after this moment.
    pub submitted_after: Option<Timestamp>,
    /// Submitted before this moment.
    pub submitted_before: Option<Timestamp>,
}

/// A place in a list. Neither part of it ever changes for a call, and no two calls have the same: whatever is written
/// meanwhile, what follows after a place is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPosition {
    /// Of the call before.
    pub submitted_at: Timestamp,
    /// The call before.
    pub call_id: CallId,
}

/// A part of a list, the newest first.
#[derive(Debug, Clone)]
pub struct AnalysisQuery {
    /// Of what.
    pub filter: AnalysisFilter,
    /// What comes after this; from the newest if there is none.
    pub after: Option<ListPosition>,
    /// So many at most.
    pub limit: usize,
}

/// An analysis in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedAnalysis {
    /// The record.
    pub analysis: Analysis,
    /// What lists show of its result.
    pub result: Option<ResultSummary>,
}
