//! The JSON form of audit lines.
//!
//! The formatter of `tracing-subscriber` passes a line in pieces of a few bytes through an adapter that checks each piece. For an audit
//! line, this takes a considerable part of the CPU time of the request. Here the line is built in a buffer and passed on
//! in one piece. Its content is the same.

use std::fmt;

use serde::Serializer as _;
use serde::ser::SerializeMap;
use serde_json::Serializer;
use tracing::{Event, Subscriber};
use tracing_serde::SerdeMapVisitor;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Target of the audit lines of operations that change data.
pub const AUDIT_OF_CHANGES: &str = "audit";
/// Target of the audit lines of operations that only read.
pub const AUDIT_OF_READS: &str = "audit::read";
/// Usual size of a line in bytes.
const LINE_BYTES: usize = 512;

/// A formatter of JSON lines. `F` formats all lines except audit lines that are in no span.
pub(super) struct JsonLines<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for JsonLines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let is_audit_line = [AUDIT_OF_CHANGES, AUDIT_OF_READS].contains(&event.metadata().target());
        if !is_audit_line || context.lookup_current().is_some() {
            return self.0.format_event(context, writer, event);
        }
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let line = json(event, &timestamp).map_err(|_| fmt::Error)?;
        writer.write_str(std::str::from_utf8(&line).map_err(|_| fmt::Error)?)
    }
}

/// Returns the line of an event, with its line break.
fn json(event: &Event<'_>, timestamp: &str) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = Vec::with_capacity(LINE_BYTES);
    let mut serializer = Serializer::new(&mut line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", timestamp)?;
    map.serialize_entry("level", event.metadata().level().as_str())?;
    let mut visitor = SerdeMapVisitor::new(map);
    event.record(&mut visitor);
    let mut map = visitor.take_serializer()?;
    map.serialize_entry("target", event.metadata().target())?;
    map.end()?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::fmt;
    use tracing_subscriber::fmt::format::Format;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::tests::{Captured, exclusive};

    /// The lines that a formatter writes for the same events, without their timestamps.
    fn lines<F>(formatter: F) -> Vec<String>
    where
        F: FormatEvent<tracing_subscriber::Registry, fmt::format::JsonFields> + Send + Sync + 'static,
    {
        let captured = Captured::default();
        let writer = captured.clone();
        let layer = fmt::layer().json().event_format(formatter).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let subject = Some("agent \"7\"\n\u{1}\u{2028}Дилноза");
            let missing = None::<&str>;
            let shown = tracing::field::display("1-\"2\"");
            tracing::info!(target: AUDIT_OF_READS, status = 200_u16, subject, missing, call_id = shown, replayed = true, "read");
            tracing::info!(target: AUDIT_OF_CHANGES, status = 202_u16, webhook_id = shown, "change");
            tracing::info_span!("request", path = "/").in_scope(|| {
                tracing::info!(target: AUDIT_OF_READS, status = 404, "read");
            });
            tracing::warn!(took_ms = 1.5, error = ?subject, "another line");
        });
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        text.split_inclusive('\n').map(|line| line.split_once(',').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn a_line_equals_that_of_the_library() {
        let _exclusive = exclusive();
        let library = || Format::default().json().flatten_event(true).with_span_list(false);
        let expected = lines(library());
        assert_eq!(expected.len(), 4);
        assert_eq!(lines(JsonLines(library())), expected);
    }

    #[test]
    fn a_line_begins_with_the_time() {
        let _exclusive = exclusive();
        let captured = Captured::default();
        let writer = captured.clone();
        let formatter = JsonLines(Format::default().json().flatten_event(true));
        let layer = fmt::layer().json().event_format(formatter).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(target: AUDIT_OF_READS, "read");
        });
        let line: serde_json::Value = serde_json::from_slice(&captured.0.lock().unwrap()).unwrap();
        let time: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(time > jiff::Timestamp::UNIX_EPOCH);
    }
}
