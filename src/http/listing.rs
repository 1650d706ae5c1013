//! The handler of `GET /v1/analyses`.

use actix_web::HttpResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer_body::taken;
use super::list_query::ListQuery;
use super::problem::ApiError;
use super::request::ApiRequest;
use crate::analyses::Listing;
use crate::domain::clock::Timestamp;
use crate::domain::summary::AnalysisSummary;

/// Maximum `limit` for which a page is usually a small answer. For a larger `limit`, the request waits for memory before it reads
/// the page.
const SMALL_LIMIT: usize = 50;
/// Memory in bytes that is reserved for each analysis on a page until the size of the page is known.
const TYPICAL_BYTES: usize = 2048;

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
pub(super) async fn list_analyses(request: ApiRequest<(), ListQuery>) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, query, .. } = request;
    let (filter, cursor, limit) = query.into_filter(tenant.default_region())?;
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
