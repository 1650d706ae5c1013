//! Routes of operations that take an `Idempotency-Key`.

use std::sync::Arc;

use actix_web::{HttpResponse, Route, web};

use crate::http::body::RequestBody;
use crate::http::path::PathParameters;
use crate::http::problem::ApiError;
use crate::http::query::QueryParameters;
use crate::http::request::ApiRequest;

/// Returns the route of a handler that is executed once for each `Idempotency-Key`. A request without a key is always executed.
pub(super) fn once<P, Q, B, Handler, Outcome>(handler: Handler) -> Route
where
    P: PathParameters + 'static,
    Q: QueryParameters + 'static,
    B: RequestBody + 'static,
    Handler: Fn(ApiRequest<P, Q, B>) -> Outcome + Clone + 'static,
    Outcome: Future<Output = Result<HttpResponse, ApiError>> + Send + 'static,
{
    web::to(move |mut request: ApiRequest<P, Q, B>| {
        let handler = handler.clone();
        async move {
            let Some(idempotent) = request.idempotent.take() else { return handler(request).await };
            let (keyed, tenant) = (Arc::clone(&request.state.keyed), request.tenant.id().clone());
            // The box keeps the future of a request without a key small.
            Box::pin(keyed.spawn(tenant, idempotent, handler(request))).await
        }
    })
}
