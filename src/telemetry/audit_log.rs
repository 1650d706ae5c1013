//! The audit log: lines on standard error, as JSON or as text like the other log lines.
//!
//! Audit lines do not pass through `tracing`, which would take a third of the CPU time of a cached read for them. A thread writes
//! the lines of reads in batches, because a write per line takes a considerable part of the CPU time, too. The line of a change is
//! written immediately, and the lines that wait are written before it.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;

use crate::config::{InvalidLogFilter, LogFormat, LogSettings, parse_log_filter};
use crate::domain::ids::{DeliveryId, ReplayId, WebhookId};
use crate::domain::trace::TraceContext;

/// If the waiting lines have this size in bytes, the request that adds a line writes them. So requests wait if standard error takes
/// no more bytes, and no line is lost.
const BATCH_BYTES: usize = 64 << 10;
/// Time for which the lines of a batch collect.
const BATCH_TIME: Duration = Duration::from_millis(1);

/// An operation of a caller with a valid token or link.
#[derive(Serialize)]
pub struct AuditLine<'a> {
    /// The operation id.
    pub action: &'static str,
    /// The status of the answer; `None` if the caller disconnected before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `Some(true)` if the answer was stored for an earlier request with the same `Idempotency-Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<bool>,
    /// The tenant of the caller.
    pub tenant: &'a str,
    /// The issuer of the token; `None` for a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<&'a str>,
    /// The subject of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'a str>,
    /// The id of the request.
    pub request_id: &'a str,
    /// The id of the trace.
    #[serde(rename = "trace_id", serialize_with = "shown", skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
    /// The call that the request concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<&'a str>,
    /// The webhook that the request concerns.
    #[serde(rename = "webhook_id", serialize_with = "shown", skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookId>,
    /// The delivery that the request concerns.
    #[serde(rename = "delivery_id", serialize_with = "shown", skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryId>,
    /// The replay that the request concerns.
    #[serde(rename = "replay_id", serialize_with = "shown", skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayId>,
}

/// An audit line with the fields of every log line.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: &'a str,
    level: &'static str,
    message: &'static str,
    #[serde(flatten)]
    operation: &'a AuditLine<'a>,
    target: &'static str,
}

fn shown<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// The audit log of a process.
pub struct AuditLog {
    writes_reads: bool,
    writes_changes: bool,
    format: LogFormat,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    output: Mutex<Output>,
}

/// The lines that wait to be written.
struct Waiting {
    lines: Vec<u8>,
    /// Whether the thread that writes batches has ended.
    has_ended: bool,
}

/// The lines that are being written. Requests can add waiting lines in the meantime.
struct Output {
    lines: Vec<u8>,
    to: Box<dyn Write + Send>,
}

impl AuditLog {
    /// Returns an audit log that writes no lines.
    pub(super) fn off() -> Self {
        Self::new(LogFormat::Json, [false, false], io::sink())
    }

    /// Returns an audit log on standard error. The log filter decides whether the log has lines of changes (target `audit`) and of
    /// reads (target `audit::read`).
    ///
    /// # Errors
    /// Returns an error if the filter is invalid.
    pub(super) fn on_standard_error(settings: &LogSettings) -> Result<Self, InvalidLogFilter> {
        let filter = tracing_subscriber::registry().with(parse_log_filter(&settings.filter)?);
        let written = tracing::subscriber::with_default(filter, || {
            let changes = tracing::enabled!(target: "audit", Level::INFO);
            [changes, tracing::enabled!(target: "audit::read", Level::INFO)]
        });
        Ok(Self::new(settings.format, written, io::stderr()))
    }

    fn new(
        format: LogFormat,
        [writes_changes, writes_reads]: [bool; 2],
        to: impl Write + Send + 'static,
    ) -> Self {
        let lines = || Vec::with_capacity(BATCH_BYTES);
        let waiting = Mutex::new(Waiting { lines: lines(), has_ended: false });
        let output = Mutex::new(Output { lines: lines(), to: Box::new(to) });
        Self { writes_reads, writes_changes, format, waiting, arrived: Condvar::new(), output }
    }

    /// Returns whether the log has lines of operations that only read, or of operations that change data.
    pub fn has(&self, only_reads: bool) -> bool {
        if only_reads { self.writes_reads } else { self.writes_changes }
    }

    /// Writes the line of an operation that changes data. The line is on standard error when this function returns.
    pub fn write_change(&self, line: &AuditLine<'_>) {
        self.add(&mut self.waiting(), line, "audit");
        self.write();
    }

    /// Adds the line of an operation that only reads to the batch.
    pub fn write_read(&self, line: &AuditLine<'_>) {
        let mut waiting = self.waiting();
        let is_first = waiting.lines.is_empty();
        self.add(&mut waiting, line, "audit::read");
        if waiting.lines.len() >= BATCH_BYTES || waiting.has_ended {
            drop(waiting);
            self.write();
        } else if is_first {
            self.arrived.notify_one();
        }
    }

    /// Writes the waiting lines in one piece, so that lines of other threads do not divide them.
    fn write(&self) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let Output { lines, to } = &mut *output;
        std::mem::swap(lines, &mut self.waiting().lines);
        // If standard error is closed, the gateway works without a log.
        let _ = to.write_all(lines);
        lines.clear();
    }

    fn add(&self, waiting: &mut Waiting, operation: &AuditLine<'_>, target: &'static str) {
        let mut timestamp = String::with_capacity(32);
        let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
        let line =
            Line { timestamp: &timestamp, level: "INFO", message: "operation requested", operation, target };
        let lines = &mut waiting.lines;
        let began = lines.len();
        let written = match self.format {
            LogFormat::Json => serde_json::to_writer(&mut *lines, &line).map_err(io::Error::from),
            LogFormat::Human => write_for_people(lines, &line),
        };
        match written {
            Ok(()) => lines.push(b'\n'),
            Err(error) => {
                lines.truncate(began);
                tracing::error!(%error, action = operation.action, "failed to format an audit line");
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the lines of reads in batches, until the log ends.
    #[expect(clippy::disallowed_methods, reason = "this thread only writes the log")]
    fn write_batches(&self) {
        loop {
            let mut waiting = self.waiting();
            while waiting.lines.is_empty() && !waiting.has_ended {
                waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            if waiting.has_ended {
                return;
            }
            drop(waiting);
            std::thread::sleep(BATCH_TIME);
            self.write();
        }
    }
}

/// Writes a line as text: the time, the level, the target, the message, and the fields.
fn write_for_people(to: &mut Vec<u8>, line: &Line<'_>) -> io::Result<()> {
    let Line { timestamp, level, message, operation, target } = line;
    write!(to, "{timestamp}  {level} {target}: {message}")?;
    if let serde_json::Value::Object(fields) = serde_json::to_value(operation)? {
        for (name, value) in fields {
            match value {
                // The debug format escapes characters that control a terminal.
                serde_json::Value::String(text) => write!(to, " {name}={text:?}")?,
                value => write!(to, " {name}={value}")?,
            }
        }
    }
    Ok(())
}

/// Runs the thread that writes batches. Dropping this value writes the lines that wait.
pub(super) struct AuditThread(Arc<AuditLog>);

impl AuditThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// Returns an error if the system starts no more threads.
    pub(super) fn start(log: &Arc<AuditLog>) -> io::Result<Self> {
        let writer = Arc::clone(log);
        std::thread::Builder::new().name("audit log".to_owned()).spawn(move || writer.write_batches())?;
        Ok(Self(Arc::clone(log)))
    }
}

impl Drop for AuditThread {
    fn drop(&mut self) {
        self.0.waiting().has_ended = true;
        self.0.write();
        self.0.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests;
