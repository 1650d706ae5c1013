//! Adds bounds to integers that do not declare their own.

use utoipa::Number;
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, KnownFormat, Object, SchemaType, Type};
use utoipa::openapi::{Header, OpenApi as Document, RefOr, Schema, SchemaFormat};

use super::operations;

/// Integers above this value are not interoperable in JSON (RFC 8259, 6). No number of this API comes close to this value.
const MAX_SAFE_INTEGER: isize = (1 << 53) - 1;
const MAX_INT32: isize = i32::MAX as isize;

/// Adds the format and the bounds that an integer does not declare itself.
pub(super) fn complete(document: &mut Document) {
    for operation in operations(document) {
        let parameters = operation.parameters.iter_mut().flatten().filter_map(inline);
        parameters.filter_map(|parameter| parameter.schema.as_mut()).for_each(bound);
        for response in operation.responses.responses.values_mut().filter_map(inline) {
            bound_headers(response.headers.values_mut());
            let contents = response.content.values_mut().filter_map(inline);
            contents.filter_map(|content| content.schema.as_mut()).for_each(bound);
        }
    }
    let components = document.components.get_or_insert_default();
    bound_headers(components.headers.values_mut());
    components.schemas.values_mut().for_each(bound);
}

fn bound_headers<'a>(headers: impl Iterator<Item = &'a mut RefOr<Header>>) {
    headers.filter_map(inline).filter_map(|header| header.schema.as_mut()).for_each(bound);
}

fn inline<T>(item: &mut RefOr<T>) -> Option<&mut T> {
    match item {
        RefOr::T(item) => Some(item),
        // A reference is skipped, because its definition is completed separately.
        RefOr::Ref(_) => None,
    }
}

fn bound(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => bound_object(object),
        RefOr::T(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                bound(items);
            }
        }
        RefOr::T(Schema::OneOf(schemas)) => schemas.items.iter_mut().for_each(bound),
        RefOr::T(Schema::AllOf(schemas)) => schemas.items.iter_mut().for_each(bound),
        RefOr::T(Schema::AnyOf(schemas)) => schemas.items.iter_mut().for_each(bound),
        RefOr::T(_) | RefOr::Ref(_) => {}
    }
}

fn bound_object(object: &mut Object) {
    object.properties.values_mut().for_each(bound);
    if let Some(AdditionalProperties::RefOr(schema)) = object.additional_properties.as_deref_mut() {
        bound(schema);
    }
    if !is_integer(&object.schema_type) {
        return;
    }
    let format = object.format.get_or_insert(SchemaFormat::KnownFormat(KnownFormat::Int64));
    let max =
        if *format == SchemaFormat::KnownFormat(KnownFormat::Int32) { MAX_INT32 } else { MAX_SAFE_INTEGER };
    object.minimum.get_or_insert(Number::Int(-max));
    object.maximum.get_or_insert(Number::Int(max));
}

fn is_integer(schema_type: &SchemaType) -> bool {
    match schema_type {
        SchemaType::Type(kind) => *kind == Type::Integer,
        SchemaType::Array(kinds) => kinds.contains(&Type::Integer),
        SchemaType::AnyValue => false,
    }
}
