//! What a log filter may say.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

/// Why a text is not a log filter.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLogFilter {
    /// A word that is neither a level nor `target=level`.
    #[error("{0:?} is neither a level (off, error, warn, info, debug, trace) nor target=level")]
    NeitherLevelNorTarget(String),
    /// Refused by `tracing` itself.
    #[error("is not a log filter such as \"info\" or \"info,alovoice_gateway=debug\": {0}")]
    Syntax(#[from] ParseError),
}

/// Libraries that cry at what others do wrong: anybody's request that is not HTTP, any receiver's bad certificate. A
/// filter that names them has the last word.
const QUIET: &str = "actix_http=off,actix_server=warn,rustls_platform_verifier=off";

/// Who did what is written whatever the level is, unless a filter names it.
const AUDIT: &str = "audit=info";

/// Reads a filter such as `info` or `info,alovoice_gateway=debug`.
///
/// Stricter than `tracing`, which takes a word that it does not know for a module's name and then logs next to nothing:
/// `warning` would pass in silence.
///
/// # Errors
/// [`InvalidLogFilter`] says which part is wrong.
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
    fn takes_levels_targets_and_spans_and_no_typing_errors() {
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
