//! `DELETE /v1/analyses/{call_id}`

use actix_web::{HttpResponse, web};

use super::authorized::{AnalysesWrite, Authorized};
use super::input::{CallPath, NoParameters, StrictQuery};
use super::observe::RequestName;
use super::parameters::CallParameter;
use super::problem::ApiError;
use super::problem_responses::{CallProblems, CommonProblems};
use super::state::ApiState;
use crate::domain::audit::Actor;

/// Delete a call
///
/// All that is known of it goes, whether it is finished or under way: the analysis, its transcript, AloVoice's answer, its
/// events, and deliveries of them that have not been made. What is already on its way to a receiver may still arrive. A
/// record stays that the call was deleted, when, and by which token's subject; nothing of its content.
///
/// A deleted call stays deleted: AloVoice is not asked for it any more, and `get_analysis` answers 404, until it is
/// submitted again. That is a new submission, which hands it over once more. AloVoice's own copy is not touched.
#[utoipa::path(
    delete, path = "/v1/analyses/{call_id}", operation_id = "delete_analysis", tag = "analyses",
    params(CallParameter),
    responses((status = 204, description = "Deleted"), CallProblems, CommonProblems),
    security(("bearer" = ["analyses:write"]))
)]
pub async fn delete_analysis(
    state: web::Data<ApiState>,
    caller: Authorized<AnalysesWrite>,
    request: RequestName,
    call: CallPath,
    _query: StrictQuery<NoParameters>,
) -> Result<HttpResponse, ApiError> {
    let actor = Actor { subject: caller.bearer.subject.clone(), request_id: request.0 };
    state.analyses.delete(&caller.tenant, &call.0, actor).await?;
    Ok(HttpResponse::NoContent().finish())
}
