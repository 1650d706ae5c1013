//! Logs: one line per event on standard error, as JSON or as text for people.
//!
//! Commands print their results, such as a token, on standard output. Log lines never go to standard output, so results can be
//! piped.

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

use super::spans::EXPORT_ONLY;
use crate::config::{InvalidLogFilter, LogFormat, LogSettings, parse_log_filter};

/// Returns the layer that writes log lines.
///
/// # Errors
/// Returns an error if the filter is invalid.
pub(super) fn layer<S>(settings: &LogSettings) -> Result<impl Layer<S> + use<S>, InvalidLogFilter>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(wants_colours());
    let lines = match settings.format {
        // Fields of an event are at the top of the JSON object, where log stores look for them.
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Human => lines.boxed(),
    };
    let filter = parse_log_filter(&settings.filter)?;
    // The hint limits the level of the whole process. Without the hint, the process would evaluate the disabled events of all
    // libraries.
    let level = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
    let shown = filter_fn(|metadata| metadata.target() != EXPORT_ONLY).with_max_level_hint(level);
    Ok(lines.with_filter(filter.and(shown)))
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
        let subscriber = tracing_subscriber::registry().with(layer(&settings).unwrap());
        assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::INFO));
    }

    #[test]
    fn an_invalid_filter_is_refused() {
        let settings = LogSettings { format: LogFormat::Json, filter: "loud".to_owned() };
        assert!(layer::<tracing_subscriber::Registry>(&settings).is_err());
    }
}
