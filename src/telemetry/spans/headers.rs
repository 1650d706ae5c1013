//! Headers for the collector. Hosted collectors authenticate their users by a key in a header, so the headers are
//! secrets.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::config::{SettingsProblems, TracesSettings};
use crate::domain::secrets::InvalidSecret;
use crate::secrets::{ReloadableSecrets, SecretKind, Watched, utf8};

/// Settings key of the file with the headers.
const KEY: &str = "traces.headers_file";

/// The headers in `traces.headers_file`. They are reloaded when the file changes while the program runs.
#[derive(Debug, Default)]
pub struct CollectorHeaders(Option<Arc<Watched<Headers>>>);

impl CollectorHeaders {
    /// Reads the headers if the settings name a file.
    ///
    /// # Errors
    /// [`SettingsProblems`] if the file cannot be read or does not hold headers.
    pub fn load(settings: &TracesSettings) -> Result<Self, SettingsProblems> {
        let load = |path| {
            Watched::from_file(SecretKind::CollectorHeaders, KEY.to_owned(), path, utf8(Headers::parse))
        };
        Ok(Self(settings.headers_file.as_deref().map(load).transpose()?))
    }

    /// Returns the secrets that may change while the process runs.
    pub fn secrets(&self) -> ReloadableSecrets {
        self.0.iter().map(|headers| headers.clone() as _).collect()
    }

    /// Adds the headers to a request.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        let Some(own) = self.0.as_deref().map(Watched::current) else { return };
        for (name, value) in &own.0 {
            if let Ok(mut value) = HeaderValue::from_str(value.expose_secret()) {
                value.set_sensitive(true);
                headers.insert(name.clone(), value);
            }
        }
    }
}

/// Names and values of headers. All of them are valid.
#[derive(Debug)]
struct Headers(Vec<(HeaderName, SecretString)>);

impl Headers {
    /// Reads one header per line, `name: value`. Empty lines are ignored.
    fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').ok_or(InvalidSecret::NotHeaders)?;
            let name =
                HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| InvalidSecret::NotHeaders)?;
            HeaderValue::from_str(value.trim()).map_err(|_| InvalidSecret::NotHeaders)?;
            Ok((name, SecretString::from(value.trim())))
        });
        let headers = headers.collect::<Result<Vec<_>, _>>()?;
        if headers.is_empty() { Err(InvalidSecret::Empty) } else { Ok(Self(headers)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_header_and_values_are_never_printed() {
        let headers = Headers::parse("Api-Key: s3cr3t\r\n\n x-scope : a b:c \n").unwrap();
        let read: Vec<_> =
            headers.0.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        assert_eq!(read, [("api-key", "s3cr3t"), ("x-scope", "a b:c")]);
        assert!(!format!("{headers:?}").contains("s3cr3t"));
    }

    #[test]
    fn lines_that_are_not_headers_are_refused() {
        for bad in ["s3cr3t", ": s3cr3t", "a b: c", "name: va\u{7}lue"] {
            assert_eq!(Headers::parse(bad).unwrap_err(), InvalidSecret::NotHeaders, "{bad}");
        }
        assert_eq!(Headers::parse("\n").unwrap_err(), InvalidSecret::Empty);
    }
}
