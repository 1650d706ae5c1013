//! `GET /v1/analyses`

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::authorized::{AnalysesRead, Authorized};
use super::input::StrictQuery;
use super::problem::{ApiError, FieldError};
use super::problem_responses::CommonProblems;
use super::state::ApiState;
use crate::domain::analysis::Status;
use crate::domain::clock::Timestamp;
use crate::domain::listing::AnalysisFilter;
use crate::domain::search::{SearchQuery, SpeakerSide};
use crate::domain::summary::{AnalysisSummary, MAX_TAG_CHARS};

const MAX_LIMIT: u32 = 200;
const DEFAULT_LIMIT: u32 = 50;
/// The most tags in one question.
const MAX_TAGS: usize = 16;

/// Which analyses to list: those that are all of it. No examples: Swagger UI would fill them in, and find nothing.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAnalyses {
    /// That have come so far.
    #[param(inline)]
    status: Option<Status>,
    /// With a quality rule of this name among those that matched, letter for letter, such as `Приветсвие`. Given several times, with all of
    /// them.
    #[serde(default)]
    #[param(inline, required = false, value_type = Vec<TagName>, max_items = 16)]
    tag: Vec<String>,
    /// With all of these words in the talk, anywhere in it; `qabul*` stands for every word that begins so. Up to 16 words.
    /// Case, diacritics and the spelling of apostrophes do not matter (`oʻ`, `o'`, `o‘`); a word without its apostrophes
    /// finds the one with them, too. Uzbek is found in Latin and Cyrillic, whichever is asked for: `salom` finds `салом`.
    #[param(min_length = 1, max_length = 256, pattern = r"\S")]
    q: Option<String>,
    /// The side whose words `q` means. Without `q`: talks in which this side speaks at all.
    #[param(inline)]
    speaker: Option<SpeakerSide>,
    /// First submitted after this moment, such as `2026-11-01T00:00:00Z`.
    #[param(value_type = Option<String>, format = DateTime, max_length = 40)]
    submitted_after: Option<Timestamp>,
    /// First submitted before this moment.
    #[param(value_type = Option<String>, format = DateTime, max_length = 40)]
    submitted_before: Option<Timestamp>,
    /// The `next_cursor` of the page before, with the same filters.
    #[param(min_length = 1, max_length = 256, pattern = r"^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
    /// The most analyses on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// The name of a quality rule.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 256, pattern = r"^[^\x00]+$")]
#[expect(dead_code, reason = "for the document alone")]
pub struct TagName(String);

impl ListAnalyses {
    /// Checks what the types leave open.
    fn into_filter(self) -> Result<(AnalysisFilter, Option<String>, usize), ApiError> {
        let mut errors = Vec::new();
        let mut wrong =
            |name: &str, detail: String| errors.push(FieldError { pointer: format!("?{name}"), detail });
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            wrong("limit", format!("must be 1 to {MAX_LIMIT}"));
        }
        if self.tag.len() > MAX_TAGS {
            wrong("tag", format!("may come at most {MAX_TAGS} times"));
        }
        if self
            .tag
            .iter()
            .any(|tag| !(1..=MAX_TAG_CHARS).contains(&tag.chars().count()) || tag.contains('\0'))
        {
            wrong("tag", format!("must have 1 to {MAX_TAG_CHARS} characters, and no NUL"));
        }
        let search = match &self.q {
            None => self.speaker.map(SearchQuery::spoken_by),
            Some(text) => {
                SearchQuery::parse(text, self.speaker).map_err(|error| wrong("q", error.to_string())).ok()
            }
        };
        if !errors.is_empty() {
            return Err(ApiError::invalid(errors));
        }
        let filter = AnalysisFilter {
            status: self.status,
            tags: self.tag,
            search,
            submitted_after: self.submitted_after,
            submitted_before: self.submitted_before,
        };
        Ok((filter, self.cursor, limit as usize))
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnalysisList {
    /// The newest first: by `submitted_at`, then by `call_id`.
    #[schema(max_items = 200)]
    analyses: Vec<AnalysisSummary>,
    /// For the next page; `null` on the last.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// List analyses, and search in what was said
///
/// The newest first; filters combine, an analysis must fit all of them. Entries are summaries: transcripts and the
/// matches of tags are at `/v1/analyses/{call_id}`.
///
/// Pages do not shift: whoever follows `next_cursor` sees every analysis that was there from the beginning, and none of
/// them twice, whatever is submitted, finished or deleted meanwhile. New ones stand before the first page. A cursor
/// belongs to the filters it came with; `limit` may change.
#[utoipa::path(
    get, path = "/v1/analyses", operation_id = "list_analyses", tag = "analyses",
    params(ListAnalyses),
    responses((status = 200, description = "A page", body = AnalysisList), CommonProblems),
    security(("bearer" = ["analyses:read"]))
)]
pub async fn list_analyses(
    state: web::Data<ApiState>,
    caller: Authorized<AnalysesRead>,
    query: StrictQuery<ListAnalyses>,
) -> Result<HttpResponse, ApiError> {
    let (filter, cursor, limit) = query.0.into_filter()?;
    let listing = state.analyses.list(&caller.tenant, filter, cursor.as_deref(), limit).await?;
    Ok(HttpResponse::Ok().json(AnalysisList { analyses: listing.analyses, next_cursor: listing.next_cursor }))
}
