//! Logs: one line per event on standard error, as JSON or as text for people.
//!
//! Commands print their results, such as a token, on standard output. Log lines never go to standard output, so results can be
//! piped.
//!
//! A thread writes the audit lines of reads in batches, because a write per line takes a considerable part of the CPU time of a cached
//! read. All other lines are written immediately, so the audit line of a change is written before the answer.

use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

use super::audit_lines::{AUDIT_OF_READS, JsonLines};
use super::spans::EXPORT_ONLY;
use crate::config::{InvalidLogFilter, LogFormat, LogSettings, parse_log_filter};

/// Maximum number of lines that wait for the thread. If standard error takes no more lines, requests wait too, so no line is lost.
const MAX_WAITING_LINES: usize = 1024;
/// Minimum pause between two batches.
const BATCH_PAUSE: Duration = Duration::from_millis(1);
/// Size in bytes at which a batch is written without waiting for more lines.
const BATCH_BYTES: usize = 64 << 10;

/// Writes lines in batches. The pause after a batch lets the next lines collect, so the thread is not woken for each line.
struct Batches<W> {
    lines: Vec<u8>,
    to: W,
}

impl<W: Write> Batches<W> {
    /// Writes the batch in one piece, so that lines of other threads do not divide it.
    fn end_batch(&mut self) -> io::Result<()> {
        let result = self.to.write_all(&self.lines);
        self.lines.clear();
        result
    }
}

impl<W: Write> Write for Batches<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.extend_from_slice(line);
        if self.lines.len() >= BATCH_BYTES {
            self.end_batch()?;
        }
        Ok(line.len())
    }

    #[expect(clippy::disallowed_methods, reason = "this thread only writes the log")]
    fn flush(&mut self) -> io::Result<()> {
        let result = self.end_batch();
        std::thread::sleep(BATCH_PAUSE);
        result
    }
}

/// Starts the thread that writes lines in batches. The guard writes the waiting lines when it is dropped, and waits for the thread for
/// up to a second.
fn in_batches(to: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let thread = NonBlockingBuilder::default().lossy(false).buffered_lines_limit(MAX_WAITING_LINES);
    thread.thread_name("audit log").finish(Batches { lines: Vec::with_capacity(BATCH_BYTES), to })
}

/// Returns the layer that writes log lines, and a guard that writes the waiting lines when it is dropped.
///
/// # Errors
/// Returns an error if the filter is invalid.
pub(super) fn layer<S>(
    settings: &LogSettings,
) -> Result<(impl Layer<S> + use<S>, WorkerGuard), InvalidLogFilter>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let (waiting, guard) = in_batches(io::stderr());
    let writer = waiting.with_filter(|metadata| metadata.target() == AUDIT_OF_READS).or_else(io::stderr);
    let lines = fmt::layer().with_writer(writer).with_ansi(wants_colours());
    let lines = match settings.format {
        // Fields of an event are at the top of the JSON object, where log stores look for them.
        LogFormat::Json => {
            lines.json().flatten_event(true).with_span_list(false).map_event_format(JsonLines).boxed()
        }
        LogFormat::Human => lines.boxed(),
    };
    let filter = parse_log_filter(&settings.filter)?;
    // The hint limits the level of the whole process. Without the hint, the process would evaluate the disabled events of all
    // libraries.
    let level = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
    let shown = filter_fn(|metadata| metadata.target() != EXPORT_ONLY).with_max_level_hint(level);
    Ok((lines.with_filter(filter.and(shown)), guard))
}

/// Logs a panic as one line. The default hook writes several lines, which log stores cannot parse.
pub(super) fn log_panics() {
    std::panic::set_hook(Box::new(log_panic));
}

/// Whether log lines get colours: only if standard error is a terminal and `NO_COLOR` is not set (<https://no-color.org>).
fn wants_colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("(no message)");
    let location = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(panic = message, location, thread = thread.name(), "thread panicked");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::tests::Captured;

    #[test]
    fn a_panic_is_an_event_with_message_and_location() {
        let _exclusive = crate::telemetry::tests::exclusive();
        let lines = Captured::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
        // Other tests of this process may panic on purpose at the same time. Their panics go to the previous hook.
        let this_thread = std::thread::current().id();
        let before = Arc::new(std::panic::take_hook());
        let others = Arc::clone(&before);
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().id() == this_thread { log_panic(panic) } else { others(panic) }
        }));
        let result = tracing::subscriber::with_default(subscriber, || {
            std::panic::catch_unwind(|| panic!("out of {}", "luck"))
        });
        std::panic::set_hook(Box::new(move |panic| before(panic)));
        assert!(result.is_err());
        let line: serde_json::Value = serde_json::from_slice(&lines.0.lock().unwrap()).unwrap();
        assert_eq!((&line["level"], &line["panic"]), (&"ERROR".into(), &"out of luck".into()));
        assert!(line["location"].as_str().unwrap().contains("logs.rs"));
    }

    #[test]
    fn the_filter_bounds_the_level_of_the_whole_process() {
        let _exclusive = crate::telemetry::tests::exclusive();
        let settings = LogSettings { format: LogFormat::Json, filter: "info".to_owned() };
        let subscriber = tracing_subscriber::registry().with(layer(&settings).unwrap().0);
        assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::INFO));
    }

    #[test]
    fn the_guard_writes_all_lines_in_order() {
        let written = Captured::default();
        let (mut waiting, guard) = in_batches(written.clone());
        let lines: Vec<String> =
            (0..5 * MAX_WAITING_LINES).map(|number| format!("line {number}\n")).collect();
        for line in &lines {
            waiting.write_all(line.as_bytes()).unwrap();
        }
        drop(guard);
        assert_eq!(*written.0.lock().unwrap(), lines.concat().into_bytes());
    }

    #[test]
    fn an_invalid_filter_is_refused() {
        let settings = LogSettings { format: LogFormat::Json, filter: "loud".to_owned() };
        assert!(layer::<tracing_subscriber::Registry>(&settings).is_err());
    }
}
