//! A span while it lasts, in the words of OpenTelemetry's semantic conventions.

use std::borrow::Cow;
use std::fmt::Display;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_semantic_conventions::attribute::{
    DB_COLLECTION_NAME, DB_OPERATION_BATCH_SIZE, DB_OPERATION_NAME, DB_SYSTEM_NAME, ERROR_TYPE,
    HTTP_REQUEST_METHOD, HTTP_REQUEST_RESEND_COUNT, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, SERVER_ADDRESS,
    SERVER_PORT, URL_PATH, URL_SCHEME,
};
use url::Url;

use super::Database;
use super::export::Recorder;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::trace::TraceContext;

/// The part of a path that may be shown of a URL ("in development" in the conventions, so not among their constants).
const URL_TEMPLATE: &str = "url.template";
/// A path is free text of a caller's, and not worth more.
const MAX_PATH_BYTES: usize = 256;

/// What happens from its making until it is dropped; also when whoever waits for it goes away.
#[must_use = "it ends when it is dropped"]
pub struct Span {
    context: TraceContext,
    recording: Option<Box<Recording>>,
}

struct Recording {
    recorder: Arc<Recorder>,
    began: Instant,
    data: SpanData,
}

/// How a span begins.
struct Begin {
    recorder: Arc<Recorder>,
    context: TraceContext,
    parent: TraceContext,
    kind: SpanKind,
    name: Cow<'static, str>,
    attributes: Vec<KeyValue>,
}

impl Span {
    /// What is not recorded costs nothing: who goes on from here is a child of the parent's.
    pub(super) const fn unrecorded(parent: TraceContext) -> Self {
        Self { context: parent, recording: None }
    }

    pub(super) fn request(
        recorder: Arc<Recorder>,
        context: TraceContext,
        parent: TraceContext,
        method: &'static str,
        path: &str,
    ) -> Self {
        let shown = &path[..path.floor_char_boundary(MAX_PATH_BYTES)];
        let attributes = vec![
            KeyValue::new(HTTP_REQUEST_METHOD, method),
            KeyValue::new(URL_PATH, shown.to_owned()),
            KeyValue::new(URL_SCHEME, "http"),
        ];
        let name = Cow::Borrowed(method);
        Self::begin(Begin { recorder, context, parent, kind: SpanKind::Server, name, attributes })
    }

    pub(super) fn work(
        recorder: Arc<Recorder>,
        context: TraceContext,
        parent: TraceContext,
        name: &'static str,
    ) -> Self {
        let (kind, name) = (SpanKind::Consumer, Cow::Borrowed(name));
        Self::begin(Begin { recorder, context, parent, kind, name, attributes: Vec::new() })
    }

    pub(super) fn call(
        recorder: Arc<Recorder>,
        context: TraceContext,
        parent: TraceContext,
        (method, template): (&'static str, Option<&'static str>),
        url: &Url,
    ) -> Self {
        let mut attributes = vec![
            KeyValue::new(HTTP_REQUEST_METHOD, method),
            KeyValue::new(SERVER_ADDRESS, url.host_str().unwrap_or_default().to_owned()),
        ];
        attributes
            .extend(url.port_or_known_default().map(|port| KeyValue::new(SERVER_PORT, i64::from(port))));
        attributes.extend(template.map(|template| KeyValue::new(URL_TEMPLATE, template)));
        let name = match template {
            Some(template) => Cow::Owned(format!("{method} {template}")),
            None => Cow::Borrowed(method),
        };
        Self::begin(Begin { recorder, context, parent, kind: SpanKind::Client, name, attributes })
    }

    pub(super) fn store(
        recorder: Arc<Recorder>,
        context: TraceContext,
        parent: TraceContext,
        (operation, table): (&'static str, &'static str),
        database: Option<Database>,
    ) -> Self {
        let (kind, system) = match database {
            Some(Database::Postgresql) => (SpanKind::Client, "postgresql"),
            Some(Database::Sqlite) | None => (SpanKind::Internal, "sqlite"),
        };
        let attributes = vec![
            KeyValue::new(DB_SYSTEM_NAME, system),
            KeyValue::new(DB_OPERATION_NAME, operation),
            KeyValue::new(DB_COLLECTION_NAME, table),
        ];
        let name = Cow::Owned(format!("{operation} {table}"));
        Self::begin(Begin { recorder, context, parent, kind, name, attributes })
    }

    fn begin(Begin { recorder, context, parent, kind, name, attributes }: Begin) -> Self {
        let start_time = time_of(recorder.wall_clock.now_micros());
        let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
        let data = SpanData {
            span_context: SpanContext::new(
                TraceId::from(context.trace_id()),
                span_id(context.span_id()),
                flags,
                false,
                TraceState::NONE,
            ),
            parent_span_id: span_id(parent.span_id()),
            // A caller's, or one of a process that may be gone by now.
            parent_span_is_remote: matches!(kind, SpanKind::Server | SpanKind::Consumer)
                && parent.span_id().is_some(),
            span_kind: kind,
            name,
            start_time,
            end_time: start_time,
            attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: Status::Unset,
            instrumentation_scope: recorder.scope.clone(),
        };
        Self { context, recording: Some(Box::new(Recording { recorder, began: Instant::now(), data })) }
    }

    /// What is done in this span goes by this.
    pub const fn context(&self) -> TraceContext {
        self.context
    }

    /// Whether it will be sent.
    pub const fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// Its id for a log line; `None` if nobody will find it.
    pub fn shown_id(&self) -> Option<impl Display + use<>> {
        self.recording.as_ref().map(|recording| recording.data.span_context.span_id())
    }

    /// Adds an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(recording) = &mut self.recording {
            recording.data.attributes.push(KeyValue::new(key, value));
        }
    }

    /// Adds an attribute that is written out only if the span is recorded.
    pub fn show(&mut self, key: &'static str, value: &(impl Display + ?Sized)) {
        if self.is_recorded() {
            self.set(key, value.to_string());
        }
    }

    /// Whose it is, and what it is about.
    pub fn about(&mut self, tenant: &TenantId, call_id: Option<&CallId>) {
        self.show("tenant", tenant);
        if let Some(call_id) = call_id {
            self.show("call_id", call_id);
        }
    }

    /// The template of the path that a request matched.
    pub fn route(&mut self, method: &'static str, route: &str) {
        if let Some(recording) = &mut self.recording {
            recording.data.name = Cow::Owned(format!("{method} {route}"));
            recording.data.attributes.push(KeyValue::new(HTTP_ROUTE, route.to_owned()));
        }
    }

    /// The answer's status. The caller's mistakes are no failure of who answers, but one of who asks.
    pub fn status(&mut self, status: u16) {
        let Some(recording) = &mut self.recording else { return };
        recording.data.attributes.push(KeyValue::new(HTTP_RESPONSE_STATUS_CODE, i64::from(status)));
        let least = if recording.data.span_kind == SpanKind::Server { 500 } else { 400 };
        if status >= least {
            self.fail(status.to_string());
        }
    }

    /// How many rows one operation was about.
    pub fn batch(&mut self, rows: usize) {
        self.set(DB_OPERATION_BATCH_SIZE, i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// How often this was tried before.
    pub fn tried_before(&mut self, times: u32) {
        if times > 0 {
            self.set(HTTP_REQUEST_RESEND_COUNT, i64::from(times));
        }
    }

    /// It is over, and failed by this reason, if there is one.
    pub fn end(mut self, failure: Option<&'static str>) {
        if let Some(reason) = failure {
            self.fail(reason);
        }
    }

    /// It failed, by a reason of few: no text of anybody else's. The first reason counts.
    pub fn fail(&mut self, reason: impl Into<Value>) {
        let Some(recording) = &mut self.recording else { return };
        if recording.data.status == Status::Unset {
            recording.data.status = Status::error("");
            recording.data.attributes.push(KeyValue::new(ERROR_TYPE, reason));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(recording) = self.recording.take() {
            let Recording { recorder, began, mut data } = *recording;
            data.end_time = data.start_time + began.elapsed();
            recorder.record(data);
        }
    }
}

fn span_id(id: Option<NonZeroU64>) -> SpanId {
    id.map_or(SpanId::INVALID, |id| SpanId::from(id.get()))
}

fn time_of(micros: i64) -> SystemTime {
    // A clock before 1970 is a clock that is wrong.
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
