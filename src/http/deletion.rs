//! The handler of `DELETE /v1/analyses/{call_id}`.

use actix_web::HttpResponse;

use super::problem::ApiError;
use super::request::ApiRequest;
use crate::domain::audit::Actor;
use crate::domain::ids::CallId;

/// Deletes all data of a call. The record of the deletion names the caller.
pub(super) async fn delete_analysis(request: ApiRequest<CallId>) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, caller, request_id, path: call_id, .. } = request;
    let actor = Actor { subject: caller.subject.clone(), request_id };
    state.analyses.delete(&tenant, &call_id, actor).await?;
    Ok(HttpResponse::NoContent().finish())
}
