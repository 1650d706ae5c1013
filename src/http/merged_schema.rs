//! Schemas of objects with the fields of two types. `allOf` would describe the same objects, but code generators produce poor
//! types from it.

use std::borrow::Cow;
use std::marker::PhantomData;

use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Schema of an object with the fields of `Base` and of `Additional`. The schema has the name and the description of
/// `Additional`.
pub struct MergedSchema<Base, Additional>(PhantomData<(Base, Additional)>);

impl<Base: ToSchema, Additional: ToSchema> PartialSchema for MergedSchema<Base, Additional> {
    fn schema() -> RefOr<Schema> {
        match (Base::schema(), Additional::schema()) {
            (RefOr::T(Schema::Object(mut merged)), RefOr::T(Schema::Object(additional))) => {
                merged.description = additional.description;
                merged.properties.extend(additional.properties);
                merged.required.extend(additional.required);
                merged.into()
            }
            (base, _) => base,
        }
    }
}

impl<Base: ToSchema, Additional: ToSchema> ToSchema for MergedSchema<Base, Additional> {
    fn name() -> Cow<'static, str> {
        Additional::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Base::schemas(schemas);
        Additional::schemas(schemas);
    }
}
