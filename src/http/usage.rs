//! `/v1/usage`

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::authorized::{AnalysesRead, Authorized};
use super::input::StrictQuery;
use super::problem::ApiError;
use super::problem_responses::CommonProblems;
use super::state::ApiState;
use crate::domain::usage::{Day, DeliveryUsage, Usage};

/// The most days in one answer.
const MAX_DAYS: i64 = 366;
/// So many, if nobody says from when.
const DEFAULT_DAYS: i64 = 30;

/// Which days.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageDays {
    /// The first day, in UTC, such as `2026-11-01`; if it is left out, 29 days before `to`.
    #[param(value_type = Option<String>, format = Date, min_length = 10, max_length = 10)]
    from: Option<Day>,
    /// The last day, in UTC; if it is left out, today. At most 366 days in all.
    #[param(value_type = Option<String>, format = Date, min_length = 10, max_length = 10)]
    to: Option<Day>,
}

/// What was used.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageReport {
    /// Every day that was asked for, the first one first, also those without anything.
    #[schema(max_items = 366)]
    days: Vec<UsageOfDay>,
}

/// What was used on a day.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageOfDay {
    /// The day, in UTC.
    #[schema(value_type = String, format = Date, example = "2026-11-22")]
    date: Day,
    /// Submissions that were taken, repeated ones included.
    #[schema(example = 120)]
    submissions: u64,
    /// Looks at AloVoice for results of calls under way, and those that took a finished call over.
    #[schema(example = 310)]
    polls: u64,
    /// Analyses that completed; revisions are not counted again.
    #[schema(example = 118)]
    completions: u64,
    /// Analyses that failed.
    #[schema(example = 2)]
    failures: u64,
    /// Callbacks.
    deliveries: DeliveryUsage,
}

impl From<(Day, Usage)> for UsageOfDay {
    fn from((date, usage): (Day, Usage)) -> Self {
        let Usage { submissions, polls, completions, failures, deliveries } = usage;
        Self { date, submissions, polls, completions, failures, deliveries }
    }
}

/// Get what was used, by day
///
/// Each thing counts on the day, in UTC, on which it happened; deleting a call takes nothing back. Numbers are kept for two
/// years. On SQLite they are exact. On PostgreSQL each replica adds its own up every few seconds: numbers of others may be
/// that late, and a replica that is killed, or loses the database, may lose or repeat as much.
#[utoipa::path(
    get, path = "/v1/usage", operation_id = "get_usage", tag = "usage",
    params(UsageDays),
    responses((status = 200, description = "What was used", body = UsageReport), CommonProblems),
    security(("bearer" = ["analyses:read"]))
)]
pub async fn get_usage(
    state: web::Data<ApiState>,
    caller: Authorized<AnalysesRead>,
    query: StrictQuery<UsageDays>,
) -> Result<HttpResponse, ApiError> {
    let to = query.0.to.unwrap_or_else(|| Day::of(state.env.clock.now()));
    let from = query.0.from.unwrap_or(to.before(DEFAULT_DAYS - 1));
    if from > to {
        return Err(ApiError::invalid_field("?from", "must not be after `to`"));
    }
    if from <= to.before(MAX_DAYS) {
        return Err(ApiError::invalid_field(
            "?from",
            &format!("must leave at most {MAX_DAYS} days up to `to`"),
        ));
    }
    let days = state.analyses.usage(&caller.tenant, from, to).await?;
    Ok(HttpResponse::Ok().json(UsageReport { days: days.into_iter().map(UsageOfDay::from).collect() }))
}
