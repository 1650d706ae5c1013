//! Operations of the API: the rows of the route table, without their documentation.

use actix_web::http::Method;
use actix_web::{HttpRequest, Route};

use super::idempotency::AnswerContents;
use crate::auth::Scope;

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
    /// Creates the route to the handler.
    pub(super) route: fn() -> Route,
}

/// The credential that an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A bearer token with this scope.
    Token(Scope),
    /// A sealed link in the path.
    Link,
}

/// A path with its operations. Each resource of the router has such a value.
#[derive(Clone)]
pub(super) struct PathOperations {
    pub(super) path: &'static str,
    pub(super) operations: Vec<&'static ApiOperation>,
}

impl PathOperations {
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

    /// Returns one route for each method.
    pub(super) fn routes(&self) -> impl Iterator<Item = Route> + '_ {
        self.operations.iter().flat_map(|operation| {
            let get = operation.method == Method::GET;
            let head = get.then(|| (operation.route)().method(Method::HEAD));
            [Some((operation.route)().method(operation.method.clone())), head].into_iter().flatten()
        })
    }
}
