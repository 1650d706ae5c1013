//! Headers for the collector. Hosted collectors authenticate their users by a key in a header, so the headers are secrets.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::config::{Problem, Problems, SecretSource, TracesSettings};
use crate::domain::secrets::InvalidSecret;
use crate::secrets::{FromSecretText, Reload, UnusableSecret, Watched};

/// Settings key of the file.
const KEY: &str = "traces.headers_file";

/// The headers in `traces.headers_file`. They follow the file while the program runs.
#[derive(Debug, Default)]
pub struct CollectorHeaders(Option<Watched<Headers>>);

impl CollectorHeaders {
    /// Reads the headers if the settings name a file.
    ///
    /// # Errors
    /// [`Problems`] if the file cannot be read or does not hold headers.
    pub fn load(settings: &TracesSettings) -> Result<Self, Problems> {
        let problem = |error: UnusableSecret| {
            Problems(vec![Problem { path: KEY.to_owned(), detail: error.to_string() }])
        };
        let source = settings.headers_file.clone().map(SecretSource::File);
        Ok(Self(source.map(|source| Watched::load(&source, &|_| None)).transpose().map_err(problem)?))
    }

    /// Reads the file again and returns what changed, if anything. This blocks on the file system.
    pub fn reload_once(&self) -> Option<Reload> {
        let outcome = self.0.as_ref()?.reload()?;
        Some(Reload { key: KEY.to_owned(), outcome })
    }

    /// Whether the file cannot be read now. The headers read before stay in use.
    pub fn is_failing(&self) -> bool {
        self.0.as_ref().is_some_and(Watched::is_failing)
    }

    /// Adds the headers to a request.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        let Some(own) = self.0.as_ref().map(Watched::current) else { return };
        for (name, value) in &own.0 {
            if let Ok(mut value) = HeaderValue::from_str(value.expose_secret()) {
                value.set_sensitive(true);
                headers.insert(name.clone(), value);
            }
        }
    }
}

/// Names and values, both valid.
#[derive(Debug)]
struct Headers(Vec<(HeaderName, SecretString)>);

impl FromSecretText for Headers {
    /// Reads one header per line, `name: value`. Empty lines are ignored.
    fn from_secret_text(text: &str) -> Result<Self, InvalidSecret> {
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

    fn is_same(&self, other: &Self) -> bool {
        let same = |(one, other): (&(HeaderName, SecretString), &(HeaderName, SecretString))| {
            let (value, others) = (one.1.expose_secret().as_bytes(), other.1.expose_secret().as_bytes());
            one.0 == other.0 && verify_slices_are_equal(value, others).is_ok()
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_header_and_values_are_never_printed() {
        let headers = Headers::from_secret_text("Api-Key: s3cr3t\r\n\n x-scope : a b:c \n").unwrap();
        let read: Vec<_> =
            headers.0.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        assert_eq!(read, [("api-key", "s3cr3t"), ("x-scope", "a b:c")]);
        assert!(!format!("{headers:?}").contains("s3cr3t"));
        assert!(headers.is_same(&Headers::from_secret_text("api-key:s3cr3t\nx-scope:a b:c").unwrap()));
        assert!(!headers.is_same(&Headers::from_secret_text("api-key:s3cr3t\nx-scope:a b:d").unwrap()));
    }

    #[test]
    fn lines_that_are_not_headers_are_refused() {
        for bad in ["s3cr3t", ": s3cr3t", "a b: c", "name: va\u{7}lue"] {
            assert_eq!(Headers::from_secret_text(bad).unwrap_err(), InvalidSecret::NotHeaders, "{bad}");
        }
        assert_eq!(Headers::from_secret_text("\n").unwrap_err(), InvalidSecret::Empty);
    }
}
