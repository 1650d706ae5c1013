//! `/v1/analyses/{call_id}/vendor-answer`

use actix_web::{HttpRequest, HttpResponse, web};

use super::authorized::{AnalysesRead, Authorized};
use super::input::{CallPath, NoParameters, StrictQuery};
use super::observe::RequestTrace;
use super::parameters::{CallParameter, KnownState};
use super::problem::ApiError;
use super::problem_responses::{CallProblems, CommonProblems, ResultProblems};
use super::state::ApiState;
use super::tagged::tagged_json;

/// Get the vendor's own answer
///
/// The JSON that the analysis was read from, byte for byte as it came, with every field that this API does not
/// know. Its form is the vendor's and may change without notice.
#[utoipa::path(
    get, path = "/v1/analyses/{call_id}/vendor-answer", operation_id = "get_vendor_answer", tag = "analyses",
    params(CallParameter, KnownState),
    responses(
        (status = 200, description = "The vendor's answer", body = HashMap<String, Value>,
            headers(("ETag" = String, description = "Names this state"))),
        (status = 304, description = "As known"),
        CallProblems, ResultProblems, CommonProblems,
    ),
    security(("bearer" = ["analyses:read"]))
)]
pub async fn get_vendor_answer(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Authorized<AnalysesRead>,
    trace: RequestTrace,
    call: CallPath,
    _query: StrictQuery<NoParameters>,
) -> Result<HttpResponse, ApiError> {
    let answer = state.analyses.vendor_answer(&caller.tenant, &call.0, trace.0).await?;
    Ok(tagged_json(&request, answer))
}
