//! Schemas of the fields of webhooks whose names or limits their types do not describe.

use serde_json::json;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, SchemaType, Type};

use crate::domain::webhooks::HeaderName;

/// Returns the schema of a filter. The description states the paths, the operators and the limits that a schema cannot express.
pub(super) fn filter_schema() -> Schema {
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::Object, Type::Null]))
        .description(Some(
            "Filter on the content of events: conditions on `data` in a syntax similar to MongoDB. Keys are paths such as `tags.name` \
             or `metadata.ticket`, and the operators `$eq $ne $gt $gte $lt $lte $in $nin $exist $startsWith $contains $or $and \
             $not`. An array matches if one of its elements matches. Unknown paths and operators are errors. A filter can have up \
             to 4 KiB, 100 values and 8 levels. With `null`, all events pass.",
        ))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)))
        .min_properties(Some(1))
        .max_properties(Some(100))
        .examples([json!({"tags.name": "Жалоба", "talk_metrics.duration_ms": {"$gte": 30_000}})])
        .into()
}

pub(super) fn headers_schema() -> Schema {
    headers_with(Type::String.into())
        .schema_type(Type::Object)
        .description(Some(
            "Custom headers of every delivery, for example `{\"Authorization\": \"Bearer …\"}`: up to 16, with values of up to \
             1,024 printable ASCII characters. Headers that HTTP or the gateway sets (`Host`, `Content-…`, `Webhook-…` and \
             others) are not allowed. Values are stored encrypted and never returned.",
        ))
        .into()
}

pub(super) fn header_changes_schema() -> Schema {
    headers_with(SchemaType::Array(vec![Type::String, Type::Null]))
        .schema_type(SchemaType::Array(vec![Type::Object, Type::Null]))
        .description(Some(
            "Custom headers to set. A header with the value `null` is removed. Headers that you omit do not change. `null` instead of \
             the object removes all headers.",
        ))
        .into()
}

/// Returns the schema of headers: names as in RFC 9110 (5.6.2), and values of visible characters and spaces.
fn headers_with(value: SchemaType) -> ObjectBuilder {
    let name = ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(HeaderName::MAX_LEN))
        .pattern(Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"));
    let value = ObjectBuilder::new().schema_type(value).max_length(Some(1024)).pattern(Some("^[ -~]*$"));
    ObjectBuilder::new()
        .property_names(Some(name))
        .additional_properties(Some(value))
        .max_properties(Some(16))
}
