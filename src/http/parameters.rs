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
