//! The audit log: a line for each operation of a caller with a valid token or link. The target of a line is `audit`, or
//! `audit::read` for operations that only read.
//!
//! An entry begins when a token is verified or a link is opened. From then on the request is logged, even if it is
//! refused. The action is the operation id of the route table. An entry contains names and ids only, no content of a
//! call and no link.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use super::idempotency::REPLAYED;
use super::item_statuses::ItemStatuses;
use super::operations::ApiOperation;
use super::path;
use super::request_context::RequestContext;
use super::state::ApiState;
use crate::auth::Caller;
use crate::domain::ids::{CallId, DeliveryId, ReplayId, TenantId, WebhookId};
use crate::domain::trace::TraceContext;
use crate::telemetry::audit_log::{AuditLine, AuditLog};

/// The audit entry of a request, kept in the extensions of the request. The lines of an entry are logged when the answer is
/// complete, before it is sent. If the caller disconnects earlier, the entry has no status, and is written only for an operation
/// that may change data.
#[derive(Clone)]
pub(super) struct AuditEntry(Rc<RefCell<Entry>>);

struct Entry {
    log: Arc<AuditLog>,
    action: &'static str,
    only_reads: bool,
    actor: AuditActor,
    /// The id of the request. For an operation that only reads, the id is `None` until the answer.
    request_id: Option<String>,
    trace: Option<TraceContext>,
    /// The calls that the request concerns. For a batch, each call also has the status of its item. The log has one line for each
    /// call, or one line for a request without calls.
    calls: Vec<(CallId, Option<u16>)>,
    webhook: Option<WebhookId>,
    delivery: Option<DeliveryId>,
    replay: Option<ReplayId>,
    status: Option<StatusCode>,
    /// `true` if the answer was stored for an earlier request with the same `Idempotency-Key`.
    replayed: Option<bool>,
}

enum AuditActor {
    Token(Arc<Caller>),
    Link(TenantId),
}

impl AuditEntry {
    /// Begins the entry of a request with a valid token.
    pub(super) fn begin_for_token(
        request: &HttpRequest,
        state_and_operation: (&ApiState, &ApiOperation),
        caller: &Arc<Caller>,
    ) {
        let actor_and_call = || (AuditActor::Token(Arc::clone(caller)), path::call_id(request).ok());
        begin(request, state_and_operation, actor_and_call);
    }

    /// Begins the entry of a request with a valid link.
    pub(super) fn begin_for_link(
        request: &HttpRequest,
        state_and_operation: (&ApiState, &ApiOperation),
        tenant: &TenantId,
        call_id: &CallId,
    ) {
        begin(request, state_and_operation, || (AuditActor::Link(tenant.clone()), Some(call_id.clone())));
    }

    /// Adds the calls that the body names.
    pub(super) fn add_calls(request: &HttpRequest, calls: Vec<CallId>) {
        if let Some(Self(entry)) = request.extensions().get::<Self>() {
            entry.borrow_mut().calls.extend(calls.into_iter().map(|call_id| (call_id, None)));
        }
    }
}

fn begin(
    request: &HttpRequest,
    (state, operation): (&ApiState, &ApiOperation),
    actor_and_call: impl FnOnce() -> (AuditActor, Option<CallId>),
) {
    let only_reads = request.method().is_safe();
    if !state.audit.has(only_reads) {
        return;
    }
    // The text of an invalid id could be anything, so it is not logged.
    let segment = |name| request.match_info().query(name);
    let (actor, call_id) = actor_and_call();
    let context = RequestContext::of(request, |context| (context.trace, context.request_id.clone()));
    let (trace, request_id) = context.unzip();
    let entry = Entry {
        log: Arc::clone(&state.audit),
        action: operation.id,
        only_reads,
        actor,
        request_id: request_id.flatten(),
        trace,
        calls: call_id.into_iter().map(|call_id| (call_id, None)).collect(),
        webhook: WebhookId::parse(segment("webhook_id")),
        delivery: DeliveryId::parse(segment("delivery_id")),
        replay: ReplayId::parse(segment("replay_id")),
        status: None,
        replayed: None,
    };
    request.extensions_mut().insert(AuditEntry(Rc::new(RefCell::new(entry))));
}

/// Completes the entry of an answered request, if it has one. Dropping the entry writes its lines.
pub(super) fn record<B>(request: &HttpRequest, response: &HttpResponse<B>, request_id: &str) {
    let Some(AuditEntry(entry)) = request.extensions_mut().remove::<AuditEntry>() else { return };
    let mut entry = entry.borrow_mut();
    entry.status = Some(response.status());
    entry.replayed = response.headers().contains_key(REPLAYED).then_some(true);
    entry.add_created_ids(response);
    entry.add_item_statuses(response);
    if entry.request_id.is_none() {
        entry.request_id = Some(request_id.to_owned());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // The caller disconnected before the answer, and the operation only reads, so there is no line.
        let Some(request_id) = &self.request_id else { return };
        match self.calls.as_slice() {
            [] => self.write(request_id, None),
            calls => calls.iter().for_each(|call| self.write(request_id, Some(call))),
        }
    }
}

impl Entry {
    /// Adds the id of the created resource, which is the last segment of `Location`.
    fn add_created_ids<B>(&mut self, response: &HttpResponse<B>) {
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let mut parts = location.unwrap_or_default().rsplit('/');
        let id = parts.next().unwrap_or_default();
        self.webhook = self.webhook.or_else(|| WebhookId::parse(id));
        self.delivery = self.delivery.or_else(|| DeliveryId::parse(id));
        self.replay = self.replay.or_else(|| ReplayId::parse(id));
    }

    fn add_item_statuses<B>(&mut self, response: &HttpResponse<B>) {
        if let Some(ItemStatuses(statuses)) = response.extensions().get() {
            self.calls.iter_mut().zip(statuses).for_each(|((_, status), item)| *status = Some(*item));
        }
    }

    fn write(&self, request_id: &str, call: Option<&(CallId, Option<u16>)>) {
        let whole = self.status.map(|status| status.as_u16());
        let (tenant, issuer, subject) = match &self.actor {
            AuditActor::Token(caller) => {
                (&caller.tenant, Some(caller.issuer.as_str()), caller.subject.as_deref())
            }
            AuditActor::Link(tenant) => (tenant, None, None),
        };
        let line = AuditLine {
            action: self.action,
            status: call.and_then(|(_, status)| *status).or(whole),
            replayed: self.replayed,
            tenant: tenant.as_str(),
            issuer,
            subject,
            request_id,
            trace: self.trace,
            call_id: call.map(|(call_id, _)| call_id.as_str()),
            webhook: self.webhook,
            delivery: self.delivery,
            replay: self.replay,
        };
        if self.only_reads { self.log.write_read(&line) } else { self.log.write_change(&line) }
    }
}
