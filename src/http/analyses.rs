//! `/v1/analyses`

use std::sync::Arc;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, SchemaType, Type};

use super::audit::Audited;
use super::authorized::{AnalysesRead, AnalysesWrite, Authorized};
use super::conditional::{is_unchanged, preferred_wait};
use super::exact::ExactObject;
use super::idempotency::Idempotency;
use super::input::{CallPath, JsonBody, NoParameters, Object, StrictQuery};
use super::observe::RequestTrace;
use super::parameters::{CallParameter, KnownState, RequestKey};
use super::problem::{ApiError, FieldError, retry_after};
use super::problem_responses::{BodyProblems, CallProblems, CommonProblems, KeyProblems};
use super::state::ApiState;
use crate::analyses::Representation;
use crate::domain::analysis::{Metadata, Submission};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::Timestamp;
use crate::domain::idempotency::Subject;
use crate::domain::ids::CallId;
use crate::domain::resource::AnalysisResource;
use crate::domain::trace::TraceContext;

/// A call to be analysed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"call_id": "1716207617.42", "metadata": {"ticket": "T-1"}}))]
pub struct SubmitAnalysis {
    /// The call, as the vendor names it: 1 to 128 of `A-Z a-z 0-9 . _ ~ : @ + = -`, neither `.` nor `..`.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^[A-Za-z0-9._~:@+=-]+$",
        example = "1716207617.42"
    )]
    call_id: String,
    /// Where to announce the outcome. A URL given again for the same call counts once.
    #[serde(default)]
    #[schema(value_type = Option<Callback>)]
    callback: Option<Object<Callback>>,
    #[serde(default)]
    #[schema(schema_with = metadata_schema)]
    metadata: Option<ExactObject>,
    /// Whether to have a finished call analysed anew. Without it, the vendor gets each call once.
    #[serde(default)]
    reanalyze: bool,
}

/// Any members; so many at the most, as the shortest ones would fill the 4 KiB.
fn metadata_schema() -> Schema {
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::Object, Type::Null]))
        .description(Some(
            "Given back in the resource and in callbacks: an object of up to 4 KiB, no key twice, no number of more than \
             64 bits.",
        ))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)))
        .max_properties(Some(Metadata::MAX_BYTES / r#""":0,"#.len()))
        .examples([json!({"ticket": "T-1"})])
        .into()
}

/// Where to announce an outcome.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Callback {
    /// An `https` URL at a public address, up to 2,048 bytes, without user name, password and fragment. It gets a
    /// POST signed as Standard Webhooks asks, until it answers 2xx.
    #[schema(
        max_length = 2048,
        pattern = r"^https?://[^\s/?#@]+([/?][^\s#]*)?$",
        example = "https://crm.example.uz/hooks/alovoice"
    )]
    url: String,
}

impl SubmitAnalysis {
    /// Checks every field.
    ///
    /// # Errors
    /// Tells of all that break a rule.
    pub fn into_submission(self, trace: TraceContext) -> Result<Submission, ApiError> {
        let mut errors = Vec::new();
        let call_id = noting(&mut errors, "#/call_id", CallId::parse(&self.call_id));
        let callback = self
            .callback
            .and_then(|callback| noting(&mut errors, "#/callback/url", CallbackUrl::parse(&callback.0.url)));
        let metadata =
            self.metadata.and_then(|object| noting(&mut errors, "#/metadata", Metadata::parse(object.0)));
        match call_id {
            Some(call_id) if errors.is_empty() => {
                Ok(Submission { call_id, callback, metadata, reanalyze: self.reanalyze, trace })
            }
            _ => Err(ApiError::invalid(errors)),
        }
    }
}

fn noting<T>(
    errors: &mut Vec<FieldError>,
    pointer: &str,
    parsed: Result<T, impl std::fmt::Display>,
) -> Option<T> {
    parsed
        .map_err(|error| errors.push(FieldError { pointer: pointer.to_owned(), detail: error.to_string() }))
        .ok()
}

/// Submit a call
///
/// The call is handed to the vendor once, however often it is submitted. The answer comes when the submission is
/// on disk; the outcome is announced to `callback`, or can be asked for at `Location`. Submitting a call that is
/// finished delivers its event to a new `callback` at once; submitting one that is under way adds the `callback`
/// and replaces `metadata` if given.
#[utoipa::path(
    post, path = "/v1/analyses", operation_id = "submit_analysis", tag = "analyses",
    params(RequestKey),
    request_body = SubmitAnalysis,
    responses(
        (status = 202, description = "Taken; an outcome is still to come", body = AnalysisResource,
            headers(("Location" = String, description = "Where the analysis is"),
                    ("Retry-After" = u64, description = "When it is worth asking, in seconds"),
                    ("Idempotency-Replayed" = bool, description = "`true`: the first answer to this `Idempotency-Key`, again"))),
        (status = 200, description = "Already finished", body = AnalysisResource,
            headers(("Location" = String, description = "Where the analysis is"),
                    ("Idempotency-Replayed" = bool, description = "`true`: the first answer to this `Idempotency-Key`, again"))),
        BodyProblems, KeyProblems, CommonProblems,
    ),
    security(("bearer" = ["analyses:write"]))
)]
pub async fn submit_analysis(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Authorized<AnalysesWrite>,
    trace: RequestTrace,
    idempotency: Idempotency,
    _query: StrictQuery<NoParameters>,
    body: JsonBody<SubmitAnalysis>,
) -> Result<HttpResponse, ApiError> {
    let submission = body.0.into_submission(trace.0)?;
    Audited::about(&request, [&submission.call_id]);
    let subject = Subject::Call(submission.call_id.clone());
    let (keyed, tenant) = (Arc::clone(&state.keyed), Arc::clone(&caller.tenant));
    let work = async move {
        let location = format!("/v1/analyses/{}", submission.call_id);
        let submitted = state.analyses.submit(&caller.tenant, submission).await?;
        let representation = submitted.representation;
        let mut response = if submitted.under_way { HttpResponse::Accepted() } else { HttpResponse::Ok() };
        response.insert_header((header::LOCATION, location));
        describe(&mut response, &representation, state.env.clock.now());
        Ok(response.body(representation.body))
    };
    idempotency.once(&keyed, tenant.id(), subject, work).await
}

/// Get the analysis of a call
///
/// While it is unfinished, `Retry-After` says when to ask again; with `Prefer: wait=N` the answer waits up to N
/// seconds (60 at most) for the outcome. A call that was never submitted is asked for at the vendor once; a
/// finished answer is taken over and served, and needs no submission.
#[utoipa::path(
    get, path = "/v1/analyses/{call_id}", operation_id = "get_analysis", tag = "analyses",
    params(
        CallParameter,
        ("Prefer" = Option<String>, Header, description = "`wait=N`: answer when the analysis is finished, or after N seconds", example = "wait=30"),
        KnownState,
    ),
    responses(
        (status = 200, description = "The analysis as it stands", body = AnalysisResource,
            headers(("ETag" = String, description = "Names this state"),
                    ("Retry-After" = u64, description = "While it is unfinished: when to ask again, in seconds"))),
        (status = 304, description = "As known"),
        CallProblems, CommonProblems,
    ),
    security(("bearer" = ["analyses:read"]))
)]
pub async fn get_analysis(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Authorized<AnalysesRead>,
    trace: RequestTrace,
    call: CallPath,
    _query: StrictQuery<NoParameters>,
) -> Result<HttpResponse, ApiError> {
    let wait = preferred_wait(&request);
    let representation = state.analyses.get(&caller.tenant, &call.0, wait, trace.0).await?;
    let unchanged = is_unchanged(&request, &representation.etag);
    let mut response = if unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    if let Some(wait) = wait {
        response.insert_header(("preference-applied", format!("wait={}", wait.as_secs())));
    }
    describe(&mut response, &representation, state.env.clock.now());
    Ok(if unchanged { response.finish() } else { response.body(representation.body.clone()) })
}

fn describe(response: &mut actix_web::HttpResponseBuilder, representation: &Representation, now: Timestamp) {
    response
        .content_type(header::ContentType::json())
        .insert_header((header::ETAG, representation.etag.as_str()))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")))
        .insert_header((header::VARY, HeaderValue::from_static("Authorization, Prefer")));
    if let Some(at) = representation.retry_at {
        response.insert_header((header::RETRY_AFTER, retry_after(at.since(now))));
    }
}
