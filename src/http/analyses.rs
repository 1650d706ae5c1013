//! Handlers of `/v1/analyses` and `/v1/analyses/{call_id}`.

use std::time::Duration;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Deserialize;
use serde_json::json;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{IntoParams, ToSchema};

use super::body::{JsonBody, JsonFields, NoFields, OptionalBody};
use super::call_id_schema::new_call_id_schema;
use super::call_input::CallInput;
use super::conditional::is_unchanged;
use super::exact_object::ExactObject;
use super::field_errors::FieldErrors;
use super::json::Object;
use super::negotiation::accepts_gzip;
use super::problem::{ApiError, retry_after};
use super::query::NoQuery;
use super::request::ApiRequest;
use crate::analyses::Representation;
use crate::domain::analysis::{Metadata, Submission, SubmissionCallback};
use crate::domain::callback_url::{CallbackUrl, InvalidCallbackUrl};
use crate::domain::clock::Timestamp;
use crate::domain::event_payload::EventPayload;
use crate::domain::ids::CallId;
use crate::domain::phone::Region;
use crate::domain::trace::TraceContext;
use crate::domain::transforms::Transform;
use crate::domain::url_sealer::UrlSealer;

/// A call to analyze.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"call_id": "1716207617.42", "metadata": {"ticket": "T-1"},
    "call": {"direction": "inbound", "agent": {"id": "17", "name": "Dilnoza"}, "phone": "+998901234567", "queue": "support"}}))]
pub struct SubmitAnalysis {
    #[schema(schema_with = new_call_id_schema)]
    call_id: String,
    /// Receiver of the outcome. Submitting the same URL again for this call does not add a second delivery.
    #[serde(default)]
    #[schema(value_type = Option<Callback>)]
    callback: Option<Object<Callback>>,
    #[serde(default)]
    #[schema(schema_with = metadata_schema)]
    metadata: Option<ExactObject>,
    /// Facts of the call that AloVoice does not know, such as the agent and the phone number.
    #[serde(default)]
    #[schema(value_type = Option<CallInput>)]
    call: Option<Object<CallInput>>,
    /// Whether AloVoice analyzes the call again if its analysis is finished. By default each call is sent to AloVoice once.
    #[serde(default)]
    reanalyze: bool,
}

/// Returns the schema of an object with any members. The size limit of the object, 4 KiB, also limits the number of members:
/// the shortest member is `"":0,`.
fn metadata_schema() -> Schema {
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::Object, Type::Null]))
        .description(Some(
            "Your own data, returned in the analysis, in events and in callbacks: an object of up to 4 KiB, without \
             duplicate keys and without integers of more than 64 bits.",
        ))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)))
        .max_properties(Some(Metadata::MAX_BYTES / r#""":0,"#.len()))
        .examples([json!({"ticket": "T-1"})])
        .into()
}

/// A receiver of the outcome of one submission.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Callback {
    /// An `https` URL with a public address, of up to 2,048 bytes, without a user name, password or fragment. The gateway sends
    /// a POST request that is signed as Standard Webhooks specifies. Without a 2xx answer, the gateway retries for more than a
    /// day. After a 410 it does not retry.
    #[schema(
        max_length = 2048,
        pattern = r"^https?://[^\s/?#@{}]+(/([^\s?#{}]|\{crm\.[A-Za-z0-9_.-]{1,64}\})*)?(\?[^\s#]*)?$",
        example = "https://crm.example.uz/hooks/alovoice"
    )]
    url: String,
    /// `full` sends the whole analysis. `thin` sends only the ids, the status, the revision and the URL of the analysis, for
    /// receivers that limit the size of a request: a transcript of three hours can have several megabytes. The default is `full`.
    #[serde(default)]
    payload: EventPayload,
    /// How the body is made from the event. Without a transform, the event itself is the body. With a transform, `payload` has
    /// no effect.
    #[serde(default)]
    #[schema(value_type = Option<Transform>)]
    transform: Option<Object<Transform>>,
}

/// Advice for callers who need headers or credentials, which are not stored with submissions.
const USE_A_WEBHOOK: &str = "for headers or credentials, register a webhook, which stores them encrypted";

impl Callback {
    fn into_receiver(self, errors: &mut FieldErrors) -> Option<SubmissionCallback> {
        let parsed = CallbackUrl::parse(&self.url);
        let url =
            parsed.and_then(|url| UrlSealer::check_callback(&url).map(|()| url)).map_err(
                |error| match error {
                    InvalidCallbackUrl::UserInfo => format!("{error}: {USE_A_WEBHOOK}"),
                    other => other.to_string(),
                },
            );
        let url = errors.take("#/callback/url", url);
        let transform = self.transform.and_then(|it| errors.transform("#/callback/transform", it.0));
        Some(SubmissionCallback { url: url?, payload: self.payload, transform })
    }
}

/// Describes the header `Prefer` for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents a header that `preferred_wait` reads")]
pub struct Prefer {
    /// `wait=N`: wait up to N seconds (at most 60) for the outcome, for example `wait=30`.
    #[param(rename = "Prefer")]
    prefer: Option<String>,
}

impl JsonFields for SubmitAnalysis {
    fn calls(&self) -> Vec<CallId> {
        CallId::parse(&self.call_id).into_iter().collect()
    }

    fn advice(pointer: &str) -> Option<&'static str> {
        pointer.starts_with("#/callback/").then_some(USE_A_WEBHOOK)
    }
}

impl SubmitAnalysis {
    /// Checks every field. `region` completes phone numbers without a country code.
    ///
    /// # Errors
    /// `invalid_request`, with all fields that break a rule.
    pub fn into_submission(self, region: Region, trace: TraceContext) -> Result<Submission, ApiError> {
        let mut errors = FieldErrors::default();
        let call_id = errors.take("#/call_id", CallId::parse(&self.call_id));
        let callback = self.callback.and_then(|callback| callback.0.into_receiver(&mut errors));
        let metadata = self.metadata.and_then(|object| errors.take("#/metadata", Metadata::parse(object.0)));
        let call = self.call.map(|Object(call)| call.into_facts(region, &mut errors)).unwrap_or_default();
        errors.check()?;
        // The collected errors already include the error of an invalid call id.
        let call_id = call_id.ok_or_else(|| ApiError::invalid(Vec::new()))?;
        Ok(Submission { call_id, callback, metadata, call, reanalyze: self.reanalyze, trace })
    }
}

/// Submits one call. If the request has `Prefer: wait`, waits for the outcome of the analysis.
pub(super) async fn submit_analysis(
    request: ApiRequest<(), NoQuery, JsonBody<SubmitAnalysis>>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, trace, wait, body, .. } = request;
    let submission = body.0.into_submission(tenant.default_region(), trace)?;
    let location = state.env.public_url.analysis(&submission.call_id);
    let analysis = state.analyses.submit(&tenant, submission, wait).await?;
    let mut response = if analysis.under_way { HttpResponse::Accepted() } else { HttpResponse::Ok() };
    response.insert_header((header::LOCATION, location));
    describe(&mut response, &analysis, &analysis.etag, (wait, state.env.clock.now()));
    Ok(response.body(analysis.body.clone()))
}

/// Returns one analysis. If the request has `Prefer: wait`, first waits for the outcome of the analysis.
pub(super) async fn get_analysis(
    http: HttpRequest,
    request: ApiRequest<CallId>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, trace, wait, path: call_id, .. } = request;
    let analysis = state.analyses.get(&tenant, &call_id, wait, trace).await?;
    let (now, gzip) = (state.env.clock.now(), accepts_gzip(&http));
    if let Some(etag) = known_tag(&http, &analysis, gzip) {
        let mut response = HttpResponse::NotModified();
        describe(&mut response, &analysis, &etag, (wait, now));
        return Ok(response.finish());
    }
    let mut response = HttpResponse::Ok();
    if gzip {
        state.analyses.compress(&tenant, &call_id, &analysis).await;
        if let Some(body) = analysis.gzip.get() {
            describe(&mut response, &analysis, &analysis.gzip_etag(), (wait, now));
            response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
            return Ok(response.body(body.clone()));
        }
    }
    describe(&mut response, &analysis, &analysis.etag, (wait, now));
    Ok(response.body(analysis.body.clone()))
}

/// Returns the entity tag of the caller's copy if the copy is still current. A compressed copy counts only if the caller accepts
/// gzip (RFC 9110, 13.1.2).
fn known_tag(http: &HttpRequest, analysis: &Representation, gzip: bool) -> Option<String> {
    if !http.headers().contains_key(header::IF_NONE_MATCH) {
        return None;
    }
    let tags = [Some(analysis.etag.clone()), gzip.then(|| analysis.gzip_etag())];
    tags.into_iter().flatten().find(|etag| is_unchanged(http, etag))
}

/// Plans one more poll of a finished analysis. If the request has `Prefer: wait`, waits for the end of the poll.
pub(super) async fn refresh_analysis(
    request: ApiRequest<CallId, NoQuery, OptionalBody<NoFields>>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, trace, wait, path: call_id, .. } = request;
    let analysis = state.analyses.refresh(&tenant, &call_id, wait, trace).await?;
    let is_over = wait.is_some() && !analysis.under_way && !analysis.refreshing;
    let mut response = if is_over { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    response.insert_header((header::LOCATION, state.env.public_url.analysis(&call_id)));
    describe(&mut response, &analysis, &analysis.etag, (wait, state.env.clock.now()));
    Ok(response.body(analysis.body.clone()))
}

fn describe(
    response: &mut HttpResponseBuilder,
    analysis: &Representation,
    etag: &str,
    (wait, now): (Option<Duration>, Timestamp),
) {
    response
        .content_type(header::ContentType::json())
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")))
        .insert_header((header::VARY, HeaderValue::from_static("Authorization, Prefer, Accept-Encoding")));
    if let Some(wait) = wait {
        response.insert_header(("preference-applied", format!("wait={}", wait.as_secs())));
    }
    if let Some(at) = analysis.retry_at {
        response.insert_header((header::RETRY_AFTER, retry_after(at.since(now))));
    }
}
