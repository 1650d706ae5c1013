//! Query parameters. Unknown and repeated parameters are errors, so that a misspelt one does not pass unnoticed.

use actix_web::HttpRequest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::json::{readable_rule, shortened};
use super::problem::ApiError;

/// The query parameters of an operation.
pub trait QueryParameters: Sized {
    /// Parses the query of a request.
    ///
    /// # Errors
    /// `invalid_request`, with the name of the parameter and its rule.
    fn parse(request: &HttpRequest) -> Result<Self, ApiError>;
}

/// The query of an operation without query parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoQuery {}

impl<T: DeserializeOwned> QueryParameters for T {
    fn parse(request: &HttpRequest) -> Result<Self, ApiError> {
        let deserializer = serde_html_form::Deserializer::from_bytes(request.query_string().as_bytes());
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let name = error.path().to_string();
            let pointer = if name == "." { "?".to_owned() } else { format!("?{name}") };
            let rule = readable_rule(&error.into_inner().to_string());
            ApiError::invalid_field(shortened(&pointer), &shortened(&rule))
        })
    }
}
