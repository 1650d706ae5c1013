//! The handlers of `GET /v1/renderings` and `GET /v1/analyses/{call_id}/renderings/{preset}`.

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer_body::taken;
use super::problem::ApiError;
use super::request::ApiRequest;
use super::tagged::{File, tagged_file};
use crate::domain::ids::CallId;
use crate::domain::transforms::DeliveryMethod;
use crate::domain::transforms::presets::{Need, PRESETS, Preset};

/// A preset: the request body that a CRM, help desk or messenger expects.
#[derive(Serialize, ToSchema)]
#[schema(as = Preset)]
pub struct PresetResource {
    /// Name of the preset, for `transform` and for the path of a rendering.
    #[schema(max_length = 64, example = "zendesk.comment")]
    preset: &'static str,
    /// Description of the request whose body the preset makes.
    #[schema(max_length = 1024)]
    description: &'static str,
    /// HTTP method of the request.
    method: DeliveryMethod,
    /// Example URL of a webhook that uses the preset. Replace the host, the keys and the words in capital letters. A
    /// placeholder such as `{crm.zendesk_ticket_id}` stands for an id in `call.crm`.
    #[schema(
        max_length = 1024,
        example = "https://example.zendesk.com/api/v2/tickets/{crm.zendesk_ticket_id}"
    )]
    url: &'static str,
    /// Content type of the body.
    #[schema(max_length = 128, example = "application/json")]
    content_type: &'static str,
    /// Values that the preset reads in addition to the result of the analysis.
    #[schema(max_items = 16)]
    needs: Vec<NeedResource>,
    /// Limits of the receiver, and how the preset complies with them.
    #[schema(max_length = 1024)]
    limits: &'static str,
    /// Behaviour and limits of the receiver that its documentation does not state and that the preset depends on; `null` if
    /// there are none.
    #[schema(required = true, max_length = 1024)]
    unverified: Option<&'static str>,
    /// Link to the documentation of the receiver.
    #[schema(max_length = 1024)]
    documentation: &'static str,
    /// The default of `rate` for a webhook with the preset: the deliveries per second that the receiver allows; `null` if there
    /// is no limit.
    #[schema(required = true, minimum = 0.01, maximum = 1000, example = 2)]
    rate: Option<f64>,
    /// The default of `burst` for a webhook with the preset; `null` if there is no limit.
    #[schema(required = true, minimum = 1, maximum = 10000, example = 50)]
    burst: Option<u32>,
}

/// A value that a preset reads: from `values` of the transform, else from `call` or `call.crm`, else from `metadata`.
#[derive(Serialize, ToSchema)]
#[schema(as = PresetNeed)]
pub struct NeedResource {
    /// Name of the value.
    #[schema(max_length = 64, example = "zammad_ticket_id")]
    name: &'static str,
    /// Description of the value.
    #[schema(max_length = 1024)]
    description: &'static str,
    /// Whether the preset needs the value to render a call.
    required: bool,
}

/// The list of all presets.
#[derive(Serialize, ToSchema)]
pub struct PresetList {
    /// The presets, grouped by receiver.
    #[schema(max_items = 100)]
    renderings: Vec<PresetResource>,
}

impl From<&'static Need> for NeedResource {
    fn from(need: &'static Need) -> Self {
        let Need { name, description, is_required } = need;
        Self { name, description, required: *is_required }
    }
}

impl From<&'static Preset> for PresetResource {
    fn from(preset: &'static Preset) -> Self {
        Self {
            preset: preset.name,
            description: preset.description,
            method: preset.method,
            url: preset.url,
            content_type: preset.content_type,
            needs: preset.needs.iter().map(NeedResource::from).collect(),
            limits: preset.limits,
            unverified: preset.unverified,
            documentation: preset.documentation,
            rate: preset.rate.map(|rate| rate.per_second.into()),
            burst: preset.rate.map(|rate| rate.burst.into()),
        }
    }
}

/// Lists the presets.
pub(super) async fn list_renderings(_: ApiRequest<()>) -> Result<HttpResponse, ApiError> {
    let renderings = PRESETS.into_iter().map(PresetResource::from).collect();
    Ok(HttpResponse::Ok().json(PresetList { renderings }))
}

/// Returns the request body of a preset for a call.
pub(super) async fn get_rendering(
    http: HttpRequest,
    request: ApiRequest<(CallId, &'static Preset)>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, trace, path: (call_id, preset), .. } = request;
    let (rendered, memory) = state.analyses.rendering(&tenant, &call_id, preset, trace).await?;
    let media_type = preset.content_type.split(';').next().unwrap_or_default();
    let extension = match media_type {
        "text/markdown" => "md",
        "text/html" => "html",
        _ => "json",
    };
    let file = File { media_type, stem: call_id.as_str(), extension };
    Ok(taken(tagged_file(&http, &file, rendered.body), memory))
}
