//! Query parameters. Unknown and repeated parameters are errors, so that callers notice a misspelt parameter.

use actix_web::HttpRequest;
use serde::de::value::StringDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Deserializer};

use super::json::{readable_rule, shortened};
use super::problem::ApiError;
use crate::domain::clock::Timestamp;

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
        parse_query(request.query_string())
    }
}

/// Parses the text of a query.
///
/// # Errors
/// The errors of [`QueryParameters::parse`].
pub(super) fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    let deserializer = serde_html_form::Deserializer::from_bytes(query.as_bytes());
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let name = error.path().to_string();
        let pointer = if name == "." { "?".to_owned() } else { format!("?{name}") };
        let rule = readable_rule(&error.into_inner().to_string());
        ApiError::invalid_field(shortened(&pointer), &shortened(&rule))
    })
}

/// A time in a query. A `+` that is not encoded decodes to a space, so a space before the UTC offset is read as `+`.
#[derive(Debug, Clone, Copy)]
pub struct QueryTime(pub Timestamp);

impl<'de> Deserialize<'de> for QueryTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parse = |text: String| {
            let text: StringDeserializer<D::Error> = text.into_deserializer();
            Timestamp::deserialize(text)
        };
        let with_plus = text.rsplit_once(' ').map(|(time, offset)| format!("{time}+{offset}"));
        parse(text).or_else(|error| with_plus.and_then(|text| parse(text).ok()).ok_or(error)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Since {
        since: QueryTime,
    }

    #[test]
    fn the_plus_of_an_offset_need_not_be_encoded() {
        let read = |query: &str| serde_html_form::from_str::<Since>(query).map(|query| query.since.0);
        let expected = read("since=2026-11-29T03:00:00Z").unwrap();
        for same in [
            "2026-11-29T08:00:00%2B05:00",
            "2026-11-29T08:00:00+05:00",
            "2026-11-29t08:00:00.000+05:00",
            "2026-11-29T08:00:00+0500",
            "2026-11-29%2008:00:00+05:00",
            "2026-11-29+08:00:00+05:00",
            "2026-11-28T22:00:00-05:00",
        ] {
            assert_eq!(read(&format!("since={same}")).unwrap(), expected, "{same}");
        }
        for invalid in [
            "2026-11-29T08:00:00",
            "2026-11-29+08:00:00",
            "2026-11-29",
            "+",
            "",
            "2026-11-29T08:00:00++05:00",
        ] {
            let error = read(&format!("since={invalid}")).unwrap_err().to_string();
            assert!(error.contains("must be a time with its offset"), "{invalid}: {error}");
        }
    }
}
