//! The route table: each operation of the API is declared once, in one row.
//!
//! A row has the method, the path, the handler (its name is the operation id), the access rule, whether the operation
//! takes an `Idempotency-Key`, and the text of the OpenAPI document. The router, the document, the authorization of
//! requests and the action names of the audit log come from these rows; there is no second list.

mod analyses;
mod deliveries;
mod events;
mod recordings;
mod usage;
mod webhooks;

use actix_web::http::Method;
use actix_web::{HttpRequest, Route};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi as Document;

use super::idempotency::AnswerContents;

/// One operation of the API.
pub struct ApiOperation {
    /// The operation id in the OpenAPI document and the action in the audit log.
    pub id: &'static str,
    /// The HTTP method. A GET operation also answers HEAD.
    pub method: Method,
    /// The path, with parameters in braces.
    pub path: &'static str,
    /// The credential that a caller needs.
    pub access: Access,
    /// The contents of answers that are stored under an `Idempotency-Key`; `None` if the operation takes no key.
    pub keyed_answer: Option<AnswerContents>,
    route: fn() -> Route,
}

/// The credential that an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A bearer token with this scope.
    Token(Scope),
    /// A sealed link in the path.
    Link,
}

/// A permission that a token grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Read analyses, events and usage.
    AnalysesRead,
    /// Submit and delete analyses.
    AnalysesWrite,
    /// Read recordings and create links to them.
    AudioRead,
    /// Manage webhooks and deliveries.
    WebhooksManage,
}

impl Scope {
    /// Returns the name of the scope in tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnalysesRead => "analyses:read",
            Self::AnalysesWrite => "analyses:write",
            Self::AudioRead => "audio:read",
            Self::WebhooksManage => "webhooks:manage",
        }
    }
}

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

/// A path with the operations that it has. Each resource of the router carries one.
#[derive(Clone)]
pub(super) struct PathOperations {
    pub(super) path: &'static str,
    pub(super) operations: Vec<&'static ApiOperation>,
}

impl PathOperations {
    /// Returns all paths, in the order of the rows.
    pub(super) fn all() -> Vec<Self> {
        let mut paths: Vec<Self> = Vec::new();
        for operation in operations() {
            match paths.iter_mut().find(|known| known.path == operation.path) {
                Some(known) => known.operations.push(operation),
                None => paths.push(Self { path: operation.path, operations: vec![operation] }),
            }
        }
        paths
    }

    /// Returns the operation that a request asks for. HEAD asks for the GET operation.
    pub(super) fn of(request: &HttpRequest) -> Option<&'static ApiOperation> {
        let wanted = if *request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let path: &Self = request.app_data()?;
        path.operations.iter().copied().find(|operation| operation.method == *wanted)
    }

    /// Returns the methods that the path takes.
    pub(super) fn methods(&self) -> Vec<Method> {
        let takes = |method: &Method| {
            let declared = if *method == Method::HEAD { &Method::GET } else { method };
            self.operations.iter().any(|operation| operation.method == *declared)
        };
        [Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE]
            .into_iter()
            .filter(takes)
            .collect()
    }

    /// One route for each method.
    pub(super) fn routes(&self) -> impl Iterator<Item = Route> + '_ {
        self.operations.iter().flat_map(|operation| {
            let get = operation.method == Method::GET;
            let head = get.then(|| (operation.route)().method(Method::HEAD));
            [Some((operation.route)().method(operation.method.clone())), head].into_iter().flatten()
        })
    }
}

/// Declares the rows of one tag: `OPERATIONS` for the router and `Documentation` for the document.
macro_rules! route_table {
    ($tag:tt: $(
        $(#[doc = $text:tt])*
        $method:ident $path:tt => $module:ident::$handler:ident, $access:expr $(, once $contents:ident)?;
        { $($documentation:tt)* }
    )*) => {
        pub(super) static OPERATIONS: &[super::ApiOperation] = &[$(super::ApiOperation {
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
        || crate::http::idempotency::once(crate::http::$module::$handler)
    };
}
use route_table;
