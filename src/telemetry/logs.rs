//! Logs: one line an event on standard error, as JSON or for people.
//!
//! Standard output is left to what the commands print (a token, the OpenAPI document), so that it can be piped.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{InvalidLogFilter, LogFormat, LogSettings, parse_log_filter};

/// Why there can be no logs.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Impossible for settings that come from [`config::load`](crate::config::load), which checks the filter.
    #[error("log.filter {0}")]
    Filter(#[from] InvalidLogFilter),
    /// This process has a subscriber already.
    #[error("logs are set up already")]
    AlreadySetUp(#[from] TryInitError),
}

/// Sends events to standard error, and panics with them. To be called once, before anything that logs.
///
/// # Errors
/// [`TelemetryError`] if the filter is wrong or logs are set up already.
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse_log_filter(&settings.filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(wants_colours());
    match settings.format {
        // The fields of an event at the top of its object, where log stores look for them.
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).finish().try_init()?,
        LogFormat::Human => builder.finish().try_init()?,
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Colours are for a person at a terminal who does not mind them (<https://no-color.org>).
fn wants_colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A panic as one event with the rest, where the default hook would write lines that no log store can read.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("(not a text)");
    let location = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(panic = message, location, thread = thread.name(), "the program panicked");
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_an_event_with_message_and_location() {
        let lines = Captured::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
        // Other tests of this process may panic on purpose meanwhile: theirs go to the hook that was there before.
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
        assert!(line["location"].as_str().unwrap().contains("telemetry.rs"));
    }

    #[test]
    fn a_filter_that_means_nothing_is_refused() {
        let settings = LogSettings { format: LogFormat::Json, filter: "loud".to_owned() };
        assert!(matches!(init(&settings), Err(TelemetryError::Filter(_))));
    }
}
