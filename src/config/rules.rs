//! What a value must be: one rule for each kind, each with the words that say so.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::{Table, Value};
use url::Url;

use super::log_filter::parse_log_filter;
use super::settings::StoreUrl;
use super::store_url::InvalidStoreUrl;
use super::units::{HumanDuration, HumanSize};

/// Why a value does not fit: what it must be, and whether to show what it is.
pub(super) struct Misfit {
    detail: String,
    shows_value: bool,
}

impl Misfit {
    /// "must be …; got …"
    pub(super) fn must_be(expected: impl std::fmt::Display) -> Self {
        Self { detail: format!("must be {expected}"), shows_value: true }
    }

    /// A reason of its own, without the value: for what may hold a secret.
    pub(super) fn because(reason: impl Into<String>) -> Self {
        Self { detail: reason.into(), shows_value: false }
    }

    /// The words for the problem.
    pub(super) fn describe(self, value: &Value) -> String {
        match shown(value).filter(|_| self.shows_value) {
            Some(shown) => format!("{}; got {shown}", self.detail),
            None => self.detail,
        }
    }
}

/// The value for a message; `None` if it looks as if it held a secret that strayed to the wrong key.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.contains("://") || text.contains('@') || text.contains("whsec_") => None,
        Value::String(text) if text.chars().count() > 80 => Some("a long text".to_owned()),
        Value::String(text) => Some(format!("{text:?}")),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(is) => Some(is.to_string()),
        Value::Datetime(_) => Some("a date or time".to_owned()),
        Value::Array(_) => Some("a list".to_owned()),
        Value::Table(_) => Some("a table".to_owned()),
    }
}

/// A value as it was given. That of a variable is a text whatever it stands for, so it may be read as a number and so on.
#[derive(Clone, Copy)]
pub(super) struct Given<'v> {
    /// The value.
    pub(super) value: &'v Value,
    /// Whether it comes from an environment variable.
    pub(super) is_variable: bool,
}

impl<'v> Given<'v> {
    fn text(self) -> Option<&'v str> {
        self.value.as_str()
    }

    fn read_text_as<T: FromStr>(self) -> Option<T> {
        self.text().filter(|_| self.is_variable)?.trim().parse().ok()
    }

    /// The list; a variable's text is a TOML array, or its parts between commas.
    pub(super) fn list(self) -> Option<Vec<Value>> {
        let Some(text) = self.text().filter(|_| self.is_variable).map(str::trim) else {
            return self.value.as_array().cloned();
        };
        if text.starts_with('[') {
            return format!("list = {text}").parse::<Table>().ok()?.get("list")?.as_array().cloned();
        }
        let parts = text.split(',').filter(|_| !text.is_empty());
        Some(parts.map(|part| Value::String(part.trim().to_owned())).collect())
    }

    /// The table.
    pub(super) fn table(self) -> Option<Table> {
        self.value.as_table().cloned()
    }
}

/// `true` or `false`.
pub(super) fn boolean(given: Given<'_>) -> Result<bool, Misfit> {
    given.value.as_bool().or_else(|| given.read_text_as()).ok_or_else(|| Misfit::must_be("true or false"))
}

/// A whole number within bounds.
pub(super) fn integer<T: TryFrom<i64>>(
    bounds: RangeInclusive<i64>,
) -> impl Fn(Given<'_>) -> Result<T, Misfit> {
    move |given| {
        let number = given.value.as_integer().or_else(|| given.read_text_as());
        number
            .filter(|number| bounds.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| {
                Misfit::must_be(format!("a whole number from {} to {}", bounds.start(), bounds.end()))
            })
    }
}

/// A number within bounds, which keep out infinity and "not a number".
pub(super) fn number(bounds: RangeInclusive<f64>) -> impl Fn(Given<'_>) -> Result<f64, Misfit> {
    move |given| {
        // `as f64`: TOML's integers here are small, and a huge one is out of bounds either way.
        let integer = given.value.as_integer().map(|number| number as f64);
        let number = given.value.as_float().or(integer).or_else(|| given.read_text_as());
        number
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| Misfit::must_be(format!("a number from {} to {}", bounds.start(), bounds.end())))
    }
}

/// A duration within bounds.
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> impl Fn(Given<'_>) -> Result<Duration, Misfit> {
    move |given| {
        let duration =
            given.text().and_then(|text| text.parse().ok()).map(|HumanDuration(duration)| duration);
        duration.filter(|duration| bounds.contains(duration)).ok_or_else(|| {
            let (least, most) = (HumanDuration(*bounds.start()), HumanDuration(*bounds.end()));
            Misfit::must_be(format!("a duration such as \"15s\", from \"{least}\" to \"{most}\""))
        })
    }
}

/// A number of bytes within bounds.
pub(super) fn size<T: TryFrom<u64>>(bounds: RangeInclusive<u64>) -> impl Fn(Given<'_>) -> Result<T, Misfit> {
    move |given| {
        let zero = given.value.as_integer().filter(|number| *number == 0).map(|_| 0);
        let size = given.text().and_then(|text| text.parse().ok()).map(|HumanSize(bytes)| bytes).or(zero);
        size.filter(|size| bounds.contains(size)).and_then(|size| T::try_from(size).ok()).ok_or_else(|| {
            let (least, most) = (HumanSize(*bounds.start()), HumanSize(*bounds.end()));
            Misfit::must_be(format!("a size such as \"16MiB\", from \"{least}\" to \"{most}\""))
        })
    }
}

/// A text that has a form of its own.
pub(super) fn parsed<T: FromStr>(expected: &str) -> impl Fn(Given<'_>) -> Result<T, Misfit> {
    move |given| given.text().and_then(|text| text.parse().ok()).ok_or_else(|| Misfit::must_be(expected))
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(words: &[(&str, T)]) -> impl Fn(Given<'_>) -> Result<T, Misfit> {
    move |given| {
        let found = words.iter().find(|(word, _)| Some(*word) == given.text());
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let names: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            Misfit::must_be(format!("one of {}", names.join(", ")))
        })
    }
}

/// A text with something in it.
pub(super) fn text(given: Given<'_>) -> Result<String, Misfit> {
    let text = given.text().filter(|text| !text.trim().is_empty() && !text.contains(char::is_control));
    text.map(str::to_owned).ok_or_else(|| Misfit::must_be("a text that is not empty"))
}

/// A file's path; a relative one starts at the working directory.
pub(super) fn file(given: Given<'_>) -> Result<PathBuf, Misfit> {
    text(given).map(PathBuf::from).map_err(|_| Misfit::must_be("the path of a file"))
}

/// A variable's name. Not shown if wrong: it may be the secret itself, put where its variable's name belongs.
pub(super) fn variable(given: Given<'_>) -> Result<String, Misfit> {
    let is_name = |name: &&str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    given.text().filter(is_name).map(str::to_owned).ok_or_else(|| {
        Misfit::because("must be the name of an environment variable: letters, digits and _, no digit first")
    })
}

/// An address to be called or shown: `http` or `https`, and nothing that would get in the way of a path.
pub(super) fn base_url(given: Given<'_>) -> Result<Url, Misfit> {
    let url = http_url(given)?;
    if url.query().is_some() {
        return Err(Misfit::because("must be a URL without a query"));
    }
    Ok(url)
}

/// An absolute `http` or `https` URL without a user name, password and fragment. No wrong one is shown: it may hold a secret.
pub(super) fn http_url(given: Given<'_>) -> Result<Url, Misfit> {
    let url = given.text().and_then(|text| Url::parse(text).ok());
    let url = url
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| Misfit::because("must be an absolute URL with http:// or https://"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Misfit::because("must be a URL without a user name or password"));
    }
    if url.fragment().is_some() {
        return Err(Misfit::because("must be a URL without a fragment"));
    }
    Ok(url)
}

/// An origin as browsers write it (RFC 6454, 6.2), so that the two can be compared as they are.
pub(super) fn origin(given: Given<'_>) -> Result<String, Misfit> {
    let origin = http_url(given)?.origin().ascii_serialization();
    if given.text() == Some(origin.as_str()) {
        return Ok(origin);
    }
    Err(Misfit::because(format!(
        "must be an origin as browsers write it, with no more behind it: \"{origin}\""
    )))
}

/// Where the store is. A wrong one is not shown: it may hold a password.
pub(super) fn store_url(given: Given<'_>) -> Result<StoreUrl, Misfit> {
    let url = given.text().unwrap_or_default();
    url.parse().map_err(|error: InvalidStoreUrl| Misfit::because(error.to_string()))
}

/// What is logged.
pub(super) fn log_filter(given: Given<'_>) -> Result<String, Misfit> {
    let filter = text(given)?;
    match parse_log_filter(&filter) {
        Ok(_) => Ok(filter),
        Err(error) => Err(Misfit::because(error.to_string())),
    }
}
