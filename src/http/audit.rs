//! Who did what: a log line, with the target `audit`, for every operation that a known caller asked for.
//!
//! It is known who asks once [`authorize`](super::authorized) has verified the token, or a link was opened; from then on
//! the request leaves a line, whatever its answer is: a refusal tells as much. The action is the operation's id in the
//! OpenAPI document. Nothing of a call's content is in it, and no link: names and ids alone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use super::audio_links::LINKED;
use super::document;
use super::input;
use crate::auth::Caller;
use crate::domain::ids::{CallId, DeliveryId, ReplayId, TenantId, WebhookId};
use crate::domain::trace::TraceContext;

/// What lines of it are to be found by in the log.
const TARGET: &str = "audit";

/// The id of each operation, by the template of its path and its method.
pub struct Operations(HashMap<String, Vec<(Method, String)>>);

impl Operations {
    /// Those of the OpenAPI document.
    pub fn documented() -> Self {
        let mut operations: HashMap<String, Vec<(Method, String)>> = HashMap::new();
        for (path, method, id) in document::operation_ids() {
            operations.entry(path).or_default().push((method, id));
        }
        Self(operations)
    }

    /// The operation's id; a HEAD is a GET.
    fn id(&self, route: &str, method: &Method) -> Option<&str> {
        let asked = if *method == Method::HEAD { &Method::GET } else { method };
        let operations = self.0.get(route)?;
        operations.iter().find(|(method, _)| method == asked).map(|(_, id)| id.as_str())
    }
}

/// Who asks, and for what, as far as the path does not tell. It travels with the request.
#[derive(Clone)]
pub(super) struct Audited(Rc<Inquiry>);

struct Inquiry {
    who: Who,
    calls: RefCell<Vec<CallId>>,
}

enum Who {
    Bearer(Arc<Caller>),
    Link(TenantId),
}

impl Audited {
    /// Notes that a token was good.
    pub(super) fn bearer(request: &HttpRequest, caller: &Arc<Caller>) {
        Self::note(request, Who::Bearer(Arc::clone(caller)), Vec::new());
    }

    /// Notes that a link was good.
    pub(super) fn link(request: &HttpRequest, tenant: &TenantId, call_id: &CallId) {
        Self::note(request, Who::Link(tenant.clone()), vec![call_id.clone()]);
    }

    /// Notes which calls a request is about that has them in its body: a line for each.
    pub(super) fn about<'a>(request: &HttpRequest, calls: impl IntoIterator<Item = &'a CallId>) {
        if let Some(Self(inquiry)) = request.extensions().get::<Self>() {
            inquiry.calls.borrow_mut().extend(calls.into_iter().cloned());
        }
    }

    fn note(request: &HttpRequest, who: Who, calls: Vec<CallId>) {
        if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            request.extensions_mut().insert(Self(Rc::new(Inquiry { who, calls: RefCell::new(calls) })));
        }
    }
}

/// Writes the lines of a request that was answered, if it is known who asked.
pub(super) fn record<B>(
    operations: &Operations,
    request: &HttpRequest,
    response: &HttpResponse<B>,
    route: &str,
    request_id: &str,
    trace: &TraceContext,
) {
    let Some(Audited(inquiry)) = request.extensions_mut().remove::<Audited>() else { return };
    let action = operations.id(route, request.method()).unwrap_or("unknown");
    let line = Line { action, status: response.status(), request_id, trace, inquiry: &inquiry };
    let calls = inquiry.calls.borrow();
    match calls.as_slice() {
        [] => line.write(request, response, input::call_of_path(request).ok().as_ref()),
        calls => calls.iter().for_each(|call_id| line.write(request, response, Some(call_id))),
    }
}

struct Line<'a> {
    action: &'a str,
    status: StatusCode,
    request_id: &'a str,
    trace: &'a TraceContext,
    inquiry: &'a Inquiry,
}

impl Line<'_> {
    fn write<B>(&self, request: &HttpRequest, response: &HttpResponse<B>, call_id: Option<&CallId>) {
        let (tenant, issuer, subject) = match &self.inquiry.who {
            Who::Bearer(caller) => (&caller.tenant, Some(caller.issuer.as_str()), caller.subject.as_deref()),
            Who::Link(tenant) => (tenant, None, None),
        };
        // What no id can be names nothing, and may be anything.
        let segment = |name| request.match_info().query(name);
        tracing::info!(
            target: TARGET,
            action = self.action,
            status = self.status.as_u16(),
            tenant = tenant.as_str(),
            issuer,
            subject,
            request_id = self.request_id,
            trace_id = %self.trace,
            call_id = call_id.map(CallId::as_str),
            webhook_id = WebhookId::parse(segment("webhook_id")).map(tracing::field::display),
            delivery_id = DeliveryId::parse(segment("delivery_id")).map(tracing::field::display),
            replay_id = ReplayId::parse(segment("replay_id")).map(tracing::field::display),
            made = made(response),
            "an operation"
        );
    }
}

/// What was made, by its path; a link is kept to itself.
fn made<B>(response: &HttpResponse<B>) -> Option<&str> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    (!location.contains(LINKED)).then_some(location)
}
