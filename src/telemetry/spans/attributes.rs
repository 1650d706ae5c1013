//! The allow-list of the span fields that a collector receives, and their names in OpenTelemetry's semantic conventions.

use std::collections::HashSet;

use opentelemetry::trace::{SpanBuilder, SpanKind, Tracer};
use opentelemetry::{Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, Span, SpanData};

/// The exported fields of spans, each with the name of its attribute. All other fields stay in the process.
///
/// No exported field may contain a token, a URL or content of a call.
const EXPORTED: &[(&str, &str)] = &[
    ("method", "http.request.method"),
    ("resend_count", "http.request.resend_count"),
    ("status", "http.response.status_code"),
    ("route", "http.route"),
    ("path", "url.path"),
    ("scheme", "url.scheme"),
    ("template", "url.template"),
    ("host", "server.address"),
    ("port", "server.port"),
    ("operation", OPERATION),
    ("table", "db.collection.name"),
    ("batch_size", "db.operation.batch.size"),
    ("error_type", "error.type"),
    ("tenant", "tenant"),
    ("call_id", "call_id"),
    ("webhook_id", "webhook"),
    ("delivery_id", "delivery"),
    ("attempt", "attempt"),
    ("event", "event"),
    ("outcome", "outcome"),
];

/// The attribute that marks a span of the store.
const OPERATION: &str = "db.operation.name";
/// The name of the span of a caller's request.
const REQUEST: &str = "request";
/// Maximum length of an attribute's text in bytes. A path is free text from a caller.
const MAX_TEXT_BYTES: usize = 256;

/// The kind of the store's database. Exported spans contain this kind.
#[derive(Debug, Clone, Copy)]
pub(super) enum Database {
    /// A `SQLite` file.
    Sqlite,
    /// A PostgreSQL server.
    Postgresql,
}

/// A tracer that sets the kind of each span without a kind. The span of a caller's request gets the kind "server". Spans of later
/// work get the kind "consumer".
#[derive(Debug)]
pub(super) struct KindTracer(pub(super) SdkTracer);

impl Tracer for KindTracer {
    type Span = Span;

    fn build_with_context(&self, mut builder: SpanBuilder, parent: &Context) -> Span {
        builder.span_kind.get_or_insert(match builder.name.as_ref() {
            REQUEST => SpanKind::Server,
            _ => SpanKind::Consumer,
        });
        self.0.build_with_context(builder, parent)
    }
}

/// Removes the parts of a span that must not be exported.
pub(super) fn reduce(span: &mut SpanData, database: Database) {
    span.events = Default::default();
    span.links = Default::default();
    let mut known = HashSet::new();
    let attributes = std::mem::take(&mut span.attributes).into_iter().filter_map(|attribute| {
        let (field, name) = EXPORTED.iter().find(|(field, _)| *field == attribute.key.as_str())?;
        // If a field was recorded twice, its first value counts.
        known.insert(*field).then(|| KeyValue::new(*name, cut(attribute.value)))
    });
    span.attributes = attributes.collect();
    if span.attributes.iter().any(|attribute| attribute.key.as_str() == OPERATION) {
        let (kind, system) = match database {
            Database::Sqlite => (SpanKind::Internal, "sqlite"),
            Database::Postgresql => (SpanKind::Client, "postgresql"),
        };
        span.span_kind = kind;
        span.attributes.push(KeyValue::new("db.system.name", system));
    }
}

fn cut(value: Value) -> Value {
    match value {
        Value::String(text) if text.as_str().len() > MAX_TEXT_BYTES => {
            let text = text.as_str();
            Value::String(StringValue::from(text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()))
        }
        short => short,
    }
}
