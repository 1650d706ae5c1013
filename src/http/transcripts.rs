//! `/v1/analyses/{call_id}/transcript`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::authorized::{AnalysesRead, Authorized};
use super::input::{CallPath, NoParameters, StrictQuery};
use super::observe::RequestTrace;
use super::parameters::{CallParameter, KnownState};
use super::problem::ApiError;
use super::problem_responses::{CallProblems, CommonProblems, ResultProblems};
use super::state::ApiState;
use super::tagged::tagged_json;
use crate::analyses::Transcript;
use crate::domain::clock::Timestamp;
use crate::domain::ids::CallId;
use crate::domain::transcript::Turn;

/// A call's talk.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transcript)]
pub struct TranscriptResource {
    /// The call, as the vendor names it.
    #[schema(value_type = String, example = "1716207617.42")]
    call_id: CallId,
    /// Counted up with every change of the result.
    revision: u32,
    /// When the call began.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    begin_time: Option<Timestamp>,
    /// Who said what, in the order of time.
    #[schema(max_items = 20_000)]
    transcript: Vec<Turn>,
}

impl From<Transcript> for TranscriptResource {
    fn from(transcript: Transcript) -> Self {
        let Transcript { call_id, revision, begin_time, turns } = transcript;
        Self { call_id, revision, begin_time, transcript: turns }
    }
}

/// Get the transcript of a call
///
/// Who said what, in the order of time, without the rest of the analysis.
#[utoipa::path(
    get, path = "/v1/analyses/{call_id}/transcript", operation_id = "get_transcript", tag = "analyses",
    params(CallParameter, KnownState),
    responses(
        (status = 200, description = "The transcript", body = TranscriptResource,
            headers(("ETag" = String, description = "Names this state"))),
        (status = 304, description = "As known"),
        CallProblems, ResultProblems, CommonProblems,
    ),
    security(("bearer" = ["analyses:read"]))
)]
pub async fn get_transcript(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Authorized<AnalysesRead>,
    trace: RequestTrace,
    call: CallPath,
    _query: StrictQuery<NoParameters>,
) -> Result<HttpResponse, ApiError> {
    let transcript = state.analyses.transcript(&caller.tenant, &call.0, trace.0).await?;
    let body = serde_json::to_vec(&TranscriptResource::from(transcript))
        .map_err(|error| ApiError::new(super::problem::INTERNAL, error.to_string()))?;
    Ok(tagged_json(&request, body.into()))
}
