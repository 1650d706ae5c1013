//! The handler of `GET /v1/usage`.

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::ApiError;
use super::request::ApiRequest;
use crate::domain::usage::{Day, DeliveryUsage, FactUsage, Usage, UsageFact};

/// Maximum number of days in one answer.
const MAX_DAYS: i64 = 366;
/// Maximum number of agents or queues in one answer.
const MAX_GROUPS: usize = 1000;
/// Number of days in an answer without `from`.
const DEFAULT_DAYS: i64 = 30;

/// The period of the report.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageDays {
    /// The first day in UTC, for example `2026-11-01`. The default is 29 days before `to`.
    #[param(value_type = Option<String>, format = Date, min_length = 10, max_length = 10)]
    from: Option<Day>,
    /// The last day in UTC. The default is today. The period is limited to 366 days.
    #[param(value_type = Option<String>, format = Date, min_length = 10, max_length = 10)]
    to: Option<Day>,
    /// Also returns the usage of the period by agent or by queue, in `groups`.
    #[param(inline)]
    group_by: Option<UsageFact>,
}

/// The usage of a period.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageReport {
    /// All days of the period in order, including days without usage.
    #[schema(max_items = 366)]
    days: Vec<UsageOfDay>,
    /// The days whose usage this version of the service cannot read. They are not in `days`. Omitted if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, required = false, max_items = 366, example = json!(["2026-11-22"]))]
    unreadable: Vec<Day>,
    /// With `group_by`: the usage of the period by agent (id, or name of an agent without an id) or by queue, most submissions first. A
    /// submission or an outcome counts for the `call` facts that the analysis had at that moment. Calls without the fact are not in a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, max_items = 1000)]
    groups: Option<Vec<FactUsage>>,
}

/// The usage of one day.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageOfDay {
    /// The day in UTC.
    #[schema(value_type = String, format = Date, example = "2026-11-22")]
    date: Day,
    /// Number of accepted submissions, including repeated ones.
    #[schema(example = 120)]
    submissions: u64,
    /// Number of requests to AloVoice for a result. A request for a call that was never submitted counts only if
    /// AloVoice had the result.
    #[schema(example = 310)]
    polls: u64,
    /// Number of completed analyses. Later revisions do not count.
    #[schema(example = 118)]
    completions: u64,
    /// Number of failed analyses.
    #[schema(example = 2)]
    failures: u64,
    /// Deliveries to callbacks and webhooks.
    deliveries: DeliveryUsage,
}

impl From<(Day, Usage)> for UsageOfDay {
    fn from((date, usage): (Day, Usage)) -> Self {
        let Usage { submissions, polls, completions, failures, deliveries } = usage;
        Self { date, submissions, polls, completions, failures, deliveries }
    }
}

/// Returns the usage of each day of a period.
pub(super) async fn get_usage(request: ApiRequest<(), UsageDays>) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, query, .. } = request;
    let to = query.to.unwrap_or_else(|| Day::of(state.env.clock.now()));
    let from = query.from.unwrap_or(to.before(DEFAULT_DAYS - 1));
    if from > to {
        return Err(ApiError::invalid_field("?from", "must not be later than `to`"));
    }
    if from <= to.before(MAX_DAYS) {
        let rule = format!("must start a period of at most {MAX_DAYS} days");
        return Err(ApiError::invalid_field("?from", &rule));
    }
    let groups = match query.group_by {
        Some(fact) => Some(state.analyses.usage_by_fact(&tenant, fact, (from, to), MAX_GROUPS).await?),
        None => None,
    };
    let mut report = UsageReport { days: Vec::new(), unreadable: Vec::new(), groups };
    for (day, usage) in state.analyses.usage(&tenant, from, to).await? {
        match usage {
            Some(usage) => report.days.push(UsageOfDay::from((day, usage))),
            None => report.unreadable.push(day),
        }
    }
    Ok(HttpResponse::Ok().json(report))
}
