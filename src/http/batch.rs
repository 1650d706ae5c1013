//! The handler of `POST /v1/analyses/batch`.

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::analyses::SubmitAnalysis;
use super::body::{JsonBody, JsonFields};
use super::item_statuses::ItemStatuses;
use super::problem::{ApiError, INTERNAL, Problem};
use super::query::NoQuery;
use super::request::ApiRequest;
use super::state::ApiState;
use crate::analyses::BatchItem;
use crate::domain::analysis::Submission;
use crate::domain::ids::CallId;
use crate::domain::phone::Region;
use crate::domain::summary::AnalysisSummary;
use crate::domain::trace::TraceContext;
use crate::tenants::Tenant;

/// Maximum number of submissions in a batch.
const MAX_ITEMS: usize = 1000;

/// Calls to analyze.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"analyses": [{"call_id": "1716207617.42"}, {"call_id": "1716207618.43", "metadata": {"ticket": "T-2"}}]}))]
pub struct SubmitAnalyses {
    /// 1 to 1,000 submissions, each like the body of `submit_analysis`.
    #[schema(value_type = Vec<SubmitAnalysis>, min_items = 1, max_items = 1000)]
    analyses: Vec<Box<RawValue>>,
}

/// The results of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResults {
    /// One result for each item of `analyses`, in the same order.
    #[schema(max_items = 1000)]
    results: Vec<BatchResult>,
}

/// The result of one submission.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResult {
    /// The `call_id` of the item; `null` if it is not a string.
    #[schema(required = true, example = "1716207617.42")]
    call_id: Option<String>,
    /// The status that `submit_analysis` would have answered: 202 for accepted, 200 for already finished, 4xx for refused.
    #[schema(example = 202)]
    status: u16,
    /// A summary of the analysis, if the submission was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    analysis: Option<AnalysisSummary>,
    /// The reason for a refusal. Pointers start with the item, for example `#/analyses/17/call_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    problem: Option<Problem>,
}

/// Parses an item.
fn read(item: &RawValue, index: usize, region: Region, trace: TraceContext) -> Result<Submission, ApiError> {
    let read = || SubmitAnalysis::from_json(item.get().as_bytes())?.into_submission(region, trace);
    read().map_err(|error| error.within(&format!("/analyses/{index}")))
}

/// Returns the `call_id` of an item, cut to the maximum length of a call id. The rest of the item may be invalid.
fn named(item: &RawValue) -> Option<String> {
    let fields: serde_json::Value = serde_json::from_str(item.get()).ok()?;
    Some(fields.get("call_id")?.as_str()?.chars().take(CallId::MAX_LEN).collect())
}

impl JsonFields for SubmitAnalyses {
    fn calls(&self) -> Vec<CallId> {
        self.analyses.iter().filter_map(|item| CallId::parse(&named(item)?).ok()).collect()
    }
}

/// Submits many calls. Each is accepted or refused independently of the others.
pub(super) async fn submit_analyses(
    request: ApiRequest<(), NoQuery, JsonBody<SubmitAnalyses>>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, trace, request_id, body, .. } = request;
    let items = body.0.analyses;
    if !(1..=MAX_ITEMS).contains(&items.len()) {
        let rule = format!("must have 1 to {MAX_ITEMS} items, has {}", items.len());
        return Err(ApiError::invalid_field("#/analyses", &rule));
    }
    let region = tenant.default_region();
    let parsed = items.iter().enumerate().map(|(index, item)| read(item, index, region, trace)).collect();
    let results = submit(&state, &tenant, &items, parsed, &request_id).await?;
    let names_a_call = |result: &&BatchResult| {
        result.call_id.as_deref().is_some_and(|call_id| CallId::parse(call_id).is_ok())
    };
    let statuses = results.iter().filter(names_a_call).map(|result| result.status).collect();
    let mut response = HttpResponse::Ok().json(BatchResults { results });
    response.extensions_mut().insert(ItemStatuses(statuses));
    Ok(response)
}

/// Submits the valid items and collects the result of each item.
async fn submit(
    state: &ApiState,
    tenant: &Tenant,
    items: &[Box<RawValue>],
    read: Vec<Result<Submission, ApiError>>,
    request_id: &str,
) -> Result<Vec<BatchResult>, ApiError> {
    let good = read.iter().filter_map(|item| item.as_ref().ok().cloned()).collect();
    let mut submitted = state.analyses.submit_all(tenant, good).await?.into_iter();
    let result = |(index, item): (usize, Result<Submission, ApiError>)| {
        let outcome = item.and_then(|_| match submitted.next() {
            Some(outcome) => {
                outcome.map_err(|error| ApiError::from(error).within(&format!("/analyses/{index}")))
            }
            None => Err(ApiError::new(INTERNAL, "a result is missing")),
        });
        let call_id = named(&items[index]);
        match outcome {
            Ok(BatchItem { summary, under_way }) => {
                let status = if under_way { 202 } else { 200 };
                BatchResult { call_id, status, analysis: Some(summary), problem: None }
            }
            Err(error) => {
                let problem = error.problem(request_id, &state.env.public_url);
                BatchResult { call_id, status: problem.status, analysis: None, problem: Some(problem) }
            }
        }
    };
    Ok(read.into_iter().enumerate().map(result).collect())
}
