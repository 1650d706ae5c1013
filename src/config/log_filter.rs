//! Parses log filters.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

/// Reason why a string is not a log filter.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLogFilter {
    /// A part that is neither a level nor `target=level`.
    #[error("{0:?} is neither a level (off, error, warn, info, debug, trace) nor target=level")]
    NeitherLevelNorTarget(String),
    /// `tracing` rejects the filter.
    #[error("is not a log filter such as \"info\" or \"info,alovoice_gateway=debug\": {0}")]
    Syntax(#[from] ParseError),
}

/// Directives for libraries that log errors of remote peers, such as requests that are not HTTP or invalid certificates
/// of receivers. A filter that names such a library replaces the directive of that library.
const QUIET: &str = "actix_http=off,actix_server=warn,rustls_platform_verifier=off";

/// Directive that keeps the audit log on at every level. A filter that names the target `audit` replaces this directive.
const AUDIT: &str = "audit=info";

/// Parses a filter such as `info` or `info,alovoice_gateway=debug`.
///
/// The function is stricter than `tracing`, which would treat an unknown word as the name of a module: with `warning`,
/// `tracing` would log almost nothing and report no error.
///
/// # Errors
/// [`InvalidLogFilter`] names the wrong part.
pub fn parse_log_filter(text: &str) -> Result<EnvFilter, InvalidLogFilter> {
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let is_known = |part: &&str| part.contains(['=', '[']) || is_level(part);
    if let Some(unknown) = text.split(',').find(|part| !is_known(part)) {
        return Err(InvalidLogFilter::NeitherLevelNorTarget(unknown.to_owned()));
    }
    Ok(EnvFilter::builder().parse(format!("{QUIET},{AUDIT},{text}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_levels_targets_and_spans_and_refuses_typing_errors() {
        for good in
            ["info", "OFF", "warn,alovoice_gateway=debug", "info,actix_web=error", "[request{a=1}]=debug"]
        {
            assert!(parse_log_filter(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "info, actix_web=error",
            "warning",
            "inof",
            "info,",
            "info,alovoice_gateway",
            "alovoice_gateway=loud",
        ] {
            assert!(parse_log_filter(bad).is_err(), "{bad:?}");
        }
    }
}
