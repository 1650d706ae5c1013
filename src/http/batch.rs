//! `POST /v1/analyses/batch`

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::analyses::SubmitAnalysis;
use super::audit::Audited;
use super::authorized::{AnalysesWrite, Authorized};
use super::idempotency::Idempotency;
use super::input::{JsonBody, NoParameters, Object, StrictQuery, parse};
use super::observe::{RequestName, RequestTrace};
use super::parameters::RequestKey;
use super::problem::{ApiError, Problem};
use super::problem_responses::{BodyProblems, CommonProblems, KeyProblems};
use super::state::ApiState;
use crate::analyses::BatchItem;
use crate::domain::analysis::Submission;
use crate::domain::idempotency::Subject;
use crate::domain::ids::CallId;
use crate::domain::summary::AnalysisSummary;
use crate::domain::trace::TraceContext;
use crate::tenants::Tenant;

/// The most submissions in a batch.
const MAX_ITEMS: usize = 1000;

/// Calls to be analysed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"analyses": [{"call_id": "1716207617.42"}, {"call_id": "1716207618.43", "metadata": {"ticket": "T-2"}}]}))]
pub struct SubmitAnalyses {
    /// Each as in `submit_analysis`: 1 to 1,000 of them.
    #[schema(value_type = Vec<SubmitAnalysis>, min_items = 1, max_items = 1000)]
    analyses: Vec<Box<RawValue>>,
}

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResults {
    /// One for each of `analyses`, in the same order.
    #[schema(max_items = 1000)]
    results: Vec<BatchResult>,
}

/// What became of one submission.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResult {
    /// The call, as it was given; `null` if it was no text.
    #[schema(required = true, example = "1716207617.42")]
    call_id: Option<String>,
    /// As `submit_analysis` would have answered: 202 taken, 200 already finished, 422 or 400 not taken.
    #[schema(example = 202)]
    status: u16,
    /// The analysis as it stands, if the submission was taken; without its transcript.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    analysis: Option<AnalysisSummary>,
    /// Why it was not taken. Its pointers begin with the item's: `#/analyses/17/call_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    problem: Option<Problem>,
}

/// An item whose fields are read.
fn read(item: &RawValue, index: usize, trace: TraceContext) -> Result<Submission, ApiError> {
    let read = || parse::<Object<SubmitAnalysis>>(item.get().as_bytes())?.0.into_submission(trace);
    read().map_err(|error| error.within(&format!("/analyses/{index}")))
}

/// The call of an item that may be wrong in any way.
fn named(item: &RawValue) -> Option<String> {
    let fields: serde_json::Value = serde_json::from_str(item.get()).ok()?;
    Some(fields.get("call_id")?.as_str()?.chars().take(CallId::MAX_LEN).collect())
}

/// Submit many calls
///
/// Each is taken or refused on its own, as if they were submitted one after another; what is taken is on disk when the
/// answer comes, all of it or nothing (503). The answer is 200 whenever the batch as such could be read: look at each
/// `status`. The body may have `server.max_body_bytes` (4 MiB, if the operator has not set another). A batch counts as one
/// request to the rate limit.
#[utoipa::path(
    post, path = "/v1/analyses/batch", operation_id = "submit_analyses", tag = "analyses",
    params(RequestKey),
    request_body = SubmitAnalyses,
    responses(
        (status = 200, description = "A result for each", body = BatchResults,
            headers(("Idempotency-Replayed" = bool, description = "`true`: the first answer to this `Idempotency-Key`, again"))),
        BodyProblems, KeyProblems, CommonProblems,
    ),
    security(("bearer" = ["analyses:write"]))
)]
#[expect(clippy::too_many_arguments, reason = "an extractor each")]
pub async fn submit_analyses(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Authorized<AnalysesWrite>,
    trace: RequestTrace,
    name: RequestName,
    idempotency: Idempotency,
    _query: StrictQuery<NoParameters>,
    body: JsonBody<SubmitAnalyses>,
) -> Result<HttpResponse, ApiError> {
    let items = body.0.analyses;
    if !(1..=MAX_ITEMS).contains(&items.len()) {
        let rule = format!("must have 1 to {MAX_ITEMS} items, has {}", items.len());
        return Err(ApiError::invalid_field("#/analyses", &rule));
    }
    let read: Vec<_> = items.iter().enumerate().map(|(index, item)| read(item, index, trace.0)).collect();
    let calls: Vec<_> = items.iter().map(|item| CallId::parse(&named(item)?).ok()).collect();
    Audited::about(&request, calls.iter().flatten());
    let (keyed, tenant) = (Arc::clone(&state.keyed), Arc::clone(&caller.tenant));
    let (judged, judges) = oneshot::channel();
    let work = async move {
        let results = submit(&state, &caller.tenant, &items, read, &name.0).await?;
        // Nobody hears if the caller has hung up.
        let _ = judged.send(results.iter().map(|result| result.status).collect::<Vec<_>>());
        Ok(HttpResponse::Ok().json(BatchResults { results }))
    };
    let answer = idempotency.once(&keyed, tenant.id(), Subject::Calls, work).await;
    // There is nothing to hear where nothing was done.
    if let Ok(statuses) = judges.await {
        let named = calls.iter().zip(statuses).filter(|(call, _)| call.is_some());
        Audited::judged(&request, &named.map(|(_, status)| status).collect::<Vec<_>>());
    }
    answer
}

/// Submits the items that can be read, and tells of each.
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
            None => Err(ApiError::new(super::problem::INTERNAL, "an item was lost")),
        });
        let call_id = named(&items[index]);
        match outcome {
            Ok(BatchItem { summary, under_way }) => {
                let status = if under_way { 202 } else { 200 };
                BatchResult { call_id, status, analysis: Some(summary), problem: None }
            }
            Err(error) => {
                let problem = error.problem(request_id);
                BatchResult { call_id, status: problem.status, analysis: None, problem: Some(problem) }
            }
        }
    };
    Ok(read.into_iter().enumerate().map(result).collect())
}
