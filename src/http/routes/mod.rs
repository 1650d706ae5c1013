//! The route table: each operation of the API is declared once, in one row.
//!
//! A row has the method, the path, the handler (its name is the operation id), the access rule, whether the operation
//! takes an `Idempotency-Key`, and the text of the OpenAPI document. The router, the document, the authorization of
//! requests and the action names of the audit log come from these rows; there is no second list.

mod analyses;
mod deliveries;
mod events;
mod once;
mod recordings;
mod usage;
mod webhooks;

use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi as Document;

use super::operations::{ApiOperation, PathOperations};

/// Returns all operations, in the order of the document.
pub fn operations() -> impl Iterator<Item = &'static ApiOperation> {
    [
        analyses::OPERATIONS,
        recordings::OPERATIONS,
        events::OPERATIONS,
        usage::OPERATIONS,
        webhooks::OPERATIONS,
        deliveries::OPERATIONS,
    ]
    .into_iter()
    .flatten()
}

/// Returns the paths and schemas of all operations, as their rows describe them.
pub(super) fn documentation() -> Document {
    [
        recordings::Documentation::openapi(),
        events::Documentation::openapi(),
        usage::Documentation::openapi(),
        webhooks::Documentation::openapi(),
        deliveries::Documentation::openapi(),
    ]
    .into_iter()
    .fold(analyses::Documentation::openapi(), Document::merge_from)
}

/// Returns all paths, in the order of the rows.
pub(super) fn paths() -> Vec<PathOperations> {
    let mut paths: Vec<PathOperations> = Vec::new();
    for operation in operations() {
        match paths.iter_mut().find(|known| known.path == operation.path) {
            Some(known) => known.operations.push(operation),
            None => paths.push(PathOperations { path: operation.path, operations: vec![operation] }),
        }
    }
    paths
}

/// Declares the rows of one tag: `OPERATIONS` for the router and `Documentation` for the document.
macro_rules! route_table {
    ($tag:tt: $(
        $(#[doc = $text:tt])*
        $method:ident $path:tt => $module:ident::$handler:ident, $access:expr $(, once $contents:ident)?;
        { $($documentation:tt)* }
    )*) => {
        pub(super) static OPERATIONS: &[crate::http::operations::ApiOperation] = &[$(crate::http::operations::ApiOperation {
            id: stringify!($handler),
            method: route_table!(@method $method),
            path: $path,
            access: $access,
            keyed_answer: route_table!(@contents $($contents)?),
            route: route_table!(@route $module::$handler $(, $contents)?),
        }),*];

        #[derive(utoipa::OpenApi)]
        #[openapi(paths($(documented::$handler),*))]
        pub(super) struct Documentation;

        #[expect(dead_code, reason = "these functions carry the documentation of the handlers")]
        mod documented {
            use super::*;
            $(
                $(#[doc = $text])*
                #[utoipa::path($method, path = $path, tag = $tag, $($documentation)*)]
                fn $handler() {}
            )*
        }
    };
    (@method get) => { actix_web::http::Method::GET };
    (@method post) => { actix_web::http::Method::POST };
    (@method patch) => { actix_web::http::Method::PATCH };
    (@method delete) => { actix_web::http::Method::DELETE };
    (@contents) => { None };
    (@contents $contents:ident) => { Some(crate::http::idempotency::AnswerContents::$contents) };
    (@route $module:ident::$handler:ident) => { || actix_web::web::to(crate::http::$module::$handler) };
    (@route $module:ident::$handler:ident, $contents:ident) => {
        || crate::http::routes::once::once(crate::http::$module::$handler)
    };
}
use route_table;
