//! Who did what: a log line for every operation that a known caller asked for, with the target `audit`, or `audit::read`
//! for what only reads.
//!
//! It is known who asks once [`authorize`](super::authorized) has verified the token, or a link was opened; from then on
//! the request leaves a line, whatever its answer is: a refusal tells as much. The action is the operation's id in the
//! OpenAPI document. Nothing of a call's content is in it, and no link: names and ids alone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use tracing::Level;

use super::document;
use super::idempotency::REPLAYED;
use super::input;
use super::observe::{RequestName, RequestTrace, Route};
use super::state::ApiState;
use crate::auth::Caller;
use crate::domain::ids::{CallId, DeliveryId, ReplayId, TenantId, WebhookId};

/// The id of each operation, by the template of its path and its method.
pub struct Operations(HashMap<String, Vec<(Method, Arc<str>)>>);

impl Operations {
    /// Those of the OpenAPI document.
    pub fn documented() -> Self {
        let mut operations: HashMap<String, Vec<(Method, Arc<str>)>> = HashMap::new();
        for (path, method, id) in document::operation_ids() {
            operations.entry(path).or_default().push((method, id.into()));
        }
        Self(operations)
    }

    /// The operation's id; a HEAD is a GET.
    fn id(&self, route: &str, method: &Method) -> Option<Arc<str>> {
        let asked = if *method == Method::HEAD { &Method::GET } else { method };
        let operations = self.0.get(route)?;
        operations.iter().find(|(method, _)| method == asked).map(|(_, id)| Arc::clone(id))
    }
}

/// What a request will leave behind. It travels with the request, and is written when that was answered; of what may
/// change something also when its caller has gone away before, and then without a status.
#[derive(Clone)]
pub(super) struct Audited(Rc<RefCell<Entry>>);

struct Entry {
    action: Option<Arc<str>>,
    only_reads: bool,
    who: Who,
    /// Of what only reads, it comes with the answer.
    request_id: Option<String>,
    trace: Option<RequestTrace>,
    /// A line for each; one line if there are none. With what became of it, if that is not what became of the whole.
    calls: Vec<(CallId, Option<u16>)>,
    webhook: Option<WebhookId>,
    delivery: Option<DeliveryId>,
    replay: Option<ReplayId>,
    status: Option<StatusCode>,
    /// The answer is one that was given before, and nothing was done.
    replayed: Option<bool>,
}

enum Who {
    Bearer(Arc<Caller>),
    Link(TenantId),
}

impl Audited {
    /// Notes that a token was good.
    pub(super) fn bearer(request: &HttpRequest, caller: &Arc<Caller>) {
        let call_id = input::call_of_path(request).ok();
        Self::note(request, Who::Bearer(Arc::clone(caller)), call_id);
    }

    /// Notes that a link was good.
    pub(super) fn link(request: &HttpRequest, tenant: &TenantId, call_id: &CallId) {
        Self::note(request, Who::Link(tenant.clone()), Some(call_id.clone()));
    }

    /// Notes which calls a request is about that has them in its body.
    pub(super) fn about<'a>(request: &HttpRequest, calls: impl IntoIterator<Item = &'a CallId>) {
        if let Some(Self(entry)) = request.extensions().get::<Self>() {
            entry.borrow_mut().calls.extend(calls.into_iter().map(|call_id| (call_id.clone(), None)));
        }
    }

    /// Notes what became of each of these calls.
    pub(super) fn judged(request: &HttpRequest, statuses: &[u16]) {
        if let Some(Self(entry)) = request.extensions().get::<Self>() {
            let mut entry = entry.borrow_mut();
            entry.calls.iter_mut().zip(statuses).for_each(|((_, status), judged)| *status = Some(*judged));
        }
    }

    fn note(request: &HttpRequest, who: Who, call_id: Option<CallId>) {
        let only_reads = request.method().is_safe();
        let is_wanted = match only_reads {
            true => tracing::enabled!(target: "audit::read", Level::INFO),
            false => tracing::enabled!(target: "audit", Level::INFO),
        };
        if !is_wanted {
            return;
        }
        let state = request.app_data::<web::Data<ApiState>>();
        let route = request.app_data::<Route>();
        let action =
            state.zip(route).and_then(|(state, route)| state.operations.id(route.0, request.method()));
        // What no id can be names nothing, and may be anything.
        let segment = |name| request.match_info().query(name);
        let mut extensions = request.extensions_mut();
        let entry = Entry {
            action,
            only_reads,
            who,
            request_id: extensions.get::<RequestName>().map(|name| name.0.clone()),
            trace: extensions.get::<RequestTrace>().copied(),
            calls: call_id.into_iter().map(|call_id| (call_id, None)).collect(),
            webhook: WebhookId::parse(segment("webhook_id")),
            delivery: DeliveryId::parse(segment("delivery_id")),
            replay: ReplayId::parse(segment("replay_id")),
            status: None,
            replayed: None,
        };
        extensions.insert(Self(Rc::new(RefCell::new(entry))));
    }
}

/// Writes the lines of a request that was answered, if it is known who asked.
pub(super) fn record<B>(request: &HttpRequest, response: &HttpResponse<B>, request_id: &str) {
    let Some(Audited(entry)) = request.extensions_mut().remove::<Audited>() else { return };
    let mut entry = entry.borrow_mut();
    entry.status = Some(response.status());
    entry.replayed = response.headers().contains_key(REPLAYED).then_some(true);
    entry.name_what_was_made(response);
    if entry.request_id.is_none() {
        entry.request_id = Some(request_id.to_owned());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Nobody was answered, and nothing was changed.
        let Some(request_id) = &self.request_id else { return };
        match self.calls.as_slice() {
            [] => self.write(request_id, None),
            calls => calls.iter().for_each(|call| self.write(request_id, Some(call))),
        }
    }
}

/// A target has to be a constant.
macro_rules! write_line {
    ($target:literal, $entry:expr, $request_id:expr, $call:expr) => {{
        let (entry, call): (&Entry, Option<&(CallId, Option<u16>)>) = ($entry, $call);
        let whole = entry.status.map(|status| status.as_u16());
        let (tenant, issuer, subject) = match &entry.who {
            Who::Bearer(caller) => (&caller.tenant, Some(caller.issuer.as_str()), caller.subject.as_deref()),
            Who::Link(tenant) => (tenant, None, None),
        };
        tracing::info!(
            target: $target,
            action = entry.action.as_deref(),
            status = call.and_then(|(_, status)| *status).or(whole),
            replayed = entry.replayed,
            tenant = tenant.as_str(),
            issuer,
            subject,
            request_id = $request_id,
            trace_id = entry.trace.map(|trace| tracing::field::display(trace.0)),
            call_id = call.map(|(call_id, _)| call_id.as_str()),
            webhook_id = entry.webhook.map(tracing::field::display),
            delivery_id = entry.delivery.map(tracing::field::display),
            replay_id = entry.replay.map(tracing::field::display),
            "an operation"
        );
    }};
}

impl Entry {
    /// Takes up the ids of what the answer says was made.
    fn name_what_was_made<B>(&mut self, response: &HttpResponse<B>) {
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let mut parts = location.unwrap_or_default().rsplit('/');
        let id = parts.next().unwrap_or_default();
        self.webhook = self.webhook.or_else(|| WebhookId::parse(id));
        self.delivery = self.delivery.or_else(|| DeliveryId::parse(id));
        self.replay = self.replay.or_else(|| ReplayId::parse(id));
    }

    fn write(&self, request_id: &str, call: Option<&(CallId, Option<u16>)>) {
        if self.only_reads {
            write_line!("audit::read", self, request_id, call);
        } else {
            write_line!("audit", self, request_id, call);
        }
    }
}
