//! The parameters that operations share, for the OpenAPI document.

use utoipa::IntoParams;

/// The call in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct CallParameter {
    /// The call, as the vendor names it.
    #[param(
        min_length = 1,
        max_length = 128,
        pattern = r"^[A-Za-z0-9._~:@+=-]+$",
        example = "1716207617.42"
    )]
    pub call_id: String,
}

/// What is known already.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct KnownState {
    /// The `ETag` of the state that is known: if it still stands, the answer is 304 and has no body.
    #[param(rename = "If-None-Match")]
    pub if_none_match: Option<String>,
}

/// The webhook in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct WebhookParameter {
    /// The webhook.
    #[param(example = "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    pub webhook_id: String,
}

/// The replay in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct ReplayParameter {
    /// The replay.
    #[param(example = "rpl_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    pub replay_id: String,
}

/// The delivery in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct DeliveryParameter {
    /// The delivery.
    #[param(example = "dlv_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    pub delivery_id: String,
}
