//! The handler of `GET /v1/analyses/{call_id}/vendor-answer`.

use actix_web::{HttpRequest, HttpResponse};

use super::problem::ApiError;
use super::request::ApiRequest;
use super::tagged::tagged_json;
use crate::domain::ids::CallId;

/// Returns the JSON of AloVoice as the gateway received it.
pub(super) async fn get_vendor_answer(
    http: HttpRequest,
    request: ApiRequest<CallId>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, trace, path: call_id, .. } = request;
    let answer = state.analyses.vendor_answer(&tenant, &call_id, trace).await?;
    Ok(tagged_json(&http, answer))
}
