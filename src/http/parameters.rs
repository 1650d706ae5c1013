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
    #[param(
        max_length = 36,
        pattern = "^whk_[0-9a-f]{32}$",
        example = "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e"
    )]
    pub webhook_id: String,
}

/// The replay in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct ReplayParameter {
    /// The replay.
    #[param(
        max_length = 36,
        pattern = "^rpl_[0-9a-f]{32}$",
        example = "rpl_018f95f4cd287c5b9a6f3b1f8f0a1d2e"
    )]
    pub replay_id: String,
}

/// The delivery in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct DeliveryParameter {
    /// The delivery.
    #[param(
        max_length = 36,
        pattern = "^dlv_[0-9a-f]{32}$",
        example = "dlv_018f95f4cd287c5b9a6f3b1f8f0a1d2e"
    )]
    pub delivery_id: String,
}

/// A key of the caller's own for what is to be done once.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct RequestKey {
    /// Names this request (1 to 255 visible ASCII characters, in quotes or without): sent again with the same key within
    /// 24 hours, it is not done again, and gets the first answer, with `Idempotency-Replayed: true`. The same key with
    /// another body is 422 `idempotency_key_reused`. Problems are not kept: after one, the key is free again.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 255,
        pattern = r#"^("[!#-\[\]-~]+"|[!#-~][!-~]*)$"#,
        example = "\"8e03978e-40d5-43e8-bc93-6894a57f9324\""
    )]
    pub idempotency_key: Option<String>,
}
