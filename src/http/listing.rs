//! The handler of `GET /v1/analyses`.

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer_body::taken;
use super::field_errors::FieldErrors;
use super::problem::ApiError;
use super::query::QueryTime;
use super::request::ApiRequest;
use crate::analyses::Listing;
use crate::domain::analysis::Status;
use crate::domain::clock::Timestamp;
use crate::domain::listing::AnalysisFilter;
use crate::domain::search::{SearchQuery, SpeakerSide};
use crate::domain::summary::{AnalysisSummary, MAX_TAG_CHARS};
use crate::domain::tags::TagKey;

const MAX_LIMIT: u32 = 200;
const DEFAULT_LIMIT: u32 = 50;
/// Maximum `limit` of a page that is usually a small answer. A larger page waits for memory before it is read.
const SMALL_LIMIT: usize = 50;
/// Memory in bytes that is reserved for each analysis on a page until the size of the page is known.
const TYPICAL_BYTES: usize = 2048;
/// Maximum number of `tag` parameters in a request.
const MAX_TAGS: usize = 16;

/// Filters and paging. They have no examples, because Swagger UI would fill them in and find nothing.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAnalyses {
    /// Filter by status.
    #[param(inline)]
    status: Option<Status>,
    /// Filter by the exact name of a matched quality rule, for example `Приветсвие`. Repeat the parameter to require
    /// several rules. Different Unicode spellings of the same characters are equal.
    #[serde(default)]
    #[param(inline, required = false, value_type = Vec<TagName>, max_items = 16)]
    tag: Vec<String>,
    /// Search for up to 16 words; all of them must occur in the transcript. `qabul*` matches every word with that prefix.
    /// Case, diacritics and apostrophes (`oʻ`, `o'`, `o‘`, none) do not matter. Uzbek words match in Latin and in Cyrillic
    /// script, and in the alphabets of 1995 and 2026: `salom` finds `салом`, `shahar` finds `şahar`.
    #[param(min_length = 1, max_length = 256, pattern = r"\S")]
    q: Option<String>,
    /// Search only the words of this speaker. Without `q`, the filter selects calls in which this speaker says at
    /// least one word.
    #[param(inline)]
    speaker: Option<SpeakerSide>,
    /// Only calls first submitted after this time, for example `2026-11-01T00:00:00Z`.
    #[param(value_type = Option<String>, format = DateTime, max_length = 40)]
    submitted_after: Option<QueryTime>,
    /// Only calls first submitted before this time.
    #[param(value_type = Option<String>, format = DateTime, max_length = 40)]
    submitted_before: Option<QueryTime>,
    /// The `next_cursor` of the previous page. Use it with the same filters.
    #[param(min_length = 1, max_length = 256, pattern = r"^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
    /// Maximum number of analyses on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// The name of a quality rule.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 256, pattern = r"^[^\x00]+$")]
#[expect(dead_code, reason = "only describes a schema of the document")]
pub struct TagName(String);

impl ListAnalyses {
    /// Checks the rules that the types do not express. Returns the filter, the cursor and the size of a page.
    fn into_filter(self) -> Result<(AnalysisFilter, Option<String>, usize), ApiError> {
        let mut errors = FieldErrors::default();
        let limit = errors.page_size(self.limit, DEFAULT_LIMIT, MAX_LIMIT);
        if self.tag.len() > MAX_TAGS {
            errors.add("?tag", format!("must be given at most {MAX_TAGS} times"));
        }
        if self
            .tag
            .iter()
            .any(|tag| !(1..=MAX_TAG_CHARS).contains(&tag.chars().count()) || tag.contains('\0'))
        {
            errors.add("?tag", format!("must have 1 to {MAX_TAG_CHARS} characters without NUL"));
        }
        let search = match &self.q {
            None => self.speaker.map(SearchQuery::spoken_by),
            Some(text) => errors.take("?q", SearchQuery::parse(text, self.speaker)),
        };
        errors.check()?;
        let filter = AnalysisFilter {
            status: self.status,
            tags: self.tag.iter().map(|name| TagKey::of(name)).collect(),
            search,
            submitted_after: self.submitted_after.map(|time| time.0),
            submitted_before: self.submitted_before.map(|time| time.0),
        };
        Ok((filter, self.cursor, limit))
    }
}

/// One page of analyses. A page of a search can have fewer analyses than `limit`, even none, and still have a `next_cursor`.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnalysisList {
    /// The analyses, newest first by `submitted_at`, then by `call_id`.
    #[schema(max_items = 200)]
    analyses: Vec<AnalysisSummary>,
    /// The call ids of analyses on this page that this version of the service cannot read, usually because a later version wrote
    /// them. `GET` of such a call answers `unreadable_record`, and `DELETE` works. Omitted if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 200)]
    unreadable: Vec<String>,
    /// The cursor of the next page; `null` on the last page.
    #[schema(required = true)]
    next_cursor: Option<String>,
    /// The time of submission that the search has reached. This page and the earlier ones have all matching calls
    /// that were submitted after this time. `next_cursor` continues the search. Omitted on a full page and on the
    /// last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, format = DateTime)]
    searched_back_to: Option<Timestamp>,
}

/// Lists the analyses that match all filters.
pub(super) async fn list_analyses(request: ApiRequest<(), ListAnalyses>) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, query, .. } = request;
    let (filter, cursor, limit) = query.into_filter()?;
    let memory = if limit > SMALL_LIMIT {
        Some(state.answers.take_in_time(tenant.id(), limit * TYPICAL_BYTES).await?)
    } else {
        None
    };
    let listing = state.analyses.list(&tenant, filter, cursor.as_deref(), limit).await?;
    let Listing { analyses, unreadable, next_cursor, searched_back_to } = listing;
    let response =
        HttpResponse::Ok().json(AnalysisList { analyses, unreadable, next_cursor, searched_back_to });
    Ok(taken(response, memory))
}
