//! Rules for the values of settings, one for each kind of value, with their error messages.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use toml::{Table, Value};
use url::Url;

use super::accepts::Accepts;
use super::log_filter::parse_log_filter;
use super::units::{HumanDuration, HumanSize};

/// Reason why a value is refused.
pub(super) struct InvalidValue {
    detail: String,
    shows_value: bool,
}

impl InvalidValue {
    /// Creates the message "must be …; got …".
    pub(super) fn must_be(expected: impl std::fmt::Display) -> Self {
        Self { detail: format!("must be {expected}"), shows_value: true }
    }

    /// Creates a message without the value, for values that may be a secret.
    pub(super) fn because(reason: impl Into<String>) -> Self {
        Self { detail: reason.into(), shows_value: false }
    }

    /// Returns the message of the problem.
    pub(super) fn describe(self, value: &Value) -> String {
        match shown(value).filter(|_| self.shows_value) {
            Some(shown) => format!("{}; got {shown}", self.detail),
            None => self.detail,
        }
    }
}

/// Returns the value for a message. Returns `None` if the value looks like a secret under the wrong key.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.contains("://") || text.contains('@') || text.contains("whsec_") => None,
        Value::String(text) if text.chars().count() > 80 => Some("a long string".to_owned()),
        Value::String(text) => Some(format!("{text:?}")),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(is) => Some(is.to_string()),
        Value::Datetime(_) => Some("a date or time".to_owned()),
        Value::Array(_) => Some("a list".to_owned()),
        Value::Table(_) => Some("a table".to_owned()),
    }
}

/// A value before it is checked. The value of an environment variable is always a string, which is then parsed as a
/// number, a boolean or a list.
#[derive(Clone, Copy)]
pub(super) struct RawValue<'v> {
    /// The value. A value from the file has its TOML type. A value from an environment variable is a string.
    pub(super) value: &'v Value,
    /// Whether the value comes from an environment variable.
    pub(super) is_variable: bool,
}

impl<'v> RawValue<'v> {
    pub(super) fn text(self) -> Option<&'v str> {
        self.value.as_str()
    }

    fn read_text_as<T: FromStr>(self) -> Option<T> {
        self.text().filter(|_| self.is_variable)?.trim().parse().ok()
    }

    /// Returns the value as a list. An environment variable contains a TOML array, or elements separated by commas.
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

    /// Returns the value as a table.
    pub(super) fn table(self) -> Option<Table> {
        self.value.as_table().cloned()
    }
}

type Parse<T> = Box<dyn Fn(RawValue<'_>) -> Result<T, InvalidValue>>;

/// Rule that checks a value and converts it.
pub(super) struct ValueRule<T> {
    accepts: Accepts,
    parse: Parse<T>,
}

impl<T> ValueRule<T> {
    /// Creates a rule with its own error messages.
    pub(super) fn new(
        accepts: Accepts,
        parse: impl Fn(RawValue<'_>) -> Result<T, InvalidValue> + 'static,
    ) -> Self {
        Self { accepts, parse: Box::new(parse) }
    }

    /// Creates a rule whose error message is derived from `accepts`.
    fn plain(accepts: Accepts, parse: impl Fn(RawValue<'_>) -> Option<T> + 'static) -> Self {
        let message = accepts.to_string();
        Self::new(accepts, move |given| parse(given).ok_or_else(|| InvalidValue::must_be(&message)))
    }

    /// Adds a check to the rule. The check can also convert the value.
    pub(super) fn and<U>(self, check: impl Fn(T) -> Result<U, InvalidValue> + 'static) -> ValueRule<U>
    where
        T: 'static,
    {
        let parse = self.parse;
        ValueRule { accepts: self.accepts, parse: Box::new(move |given| parse(given).and_then(&check)) }
    }

    /// Adds a check of the raw value. If the check fails, its error message replaces the message of the rule.
    pub(super) fn refuse(self, check: impl Fn(RawValue<'_>) -> Option<InvalidValue> + 'static) -> Self
    where
        T: 'static,
    {
        let parse = self.parse;
        Self {
            accepts: self.accepts,
            parse: Box::new(move |given| check(given).map_or_else(|| parse(given), Err)),
        }
    }

    /// Checks a value by the rule and converts it.
    pub(super) fn apply(&self, given: RawValue<'_>) -> Result<T, InvalidValue> {
        (self.parse)(given)
    }

    /// Returns the type and the bounds of valid values.
    pub(super) fn accepts(&self) -> &Accepts {
        &self.accepts
    }
}

/// Creates the rule for `true` or `false`.
pub(super) fn boolean() -> ValueRule<bool> {
    ValueRule::plain(Accepts::Boolean, |given| given.value.as_bool().or_else(|| given.read_text_as()))
}

/// Creates the rule for a whole number within bounds.
pub(super) fn integer<T: TryFrom<i64>>(bounds: RangeInclusive<i64>) -> ValueRule<T> {
    ValueRule::plain(Accepts::Integer(bounds.clone()), move |given| {
        let number = given.value.as_integer().or_else(|| given.read_text_as());
        T::try_from(number.filter(|number| bounds.contains(number))?).ok()
    })
}

/// Creates the rule for a number within bounds.
pub(super) fn number(bounds: RangeInclusive<f64>) -> ValueRule<f64> {
    ValueRule::plain(Accepts::Number(bounds.clone()), move |given| {
        // `as f64` is exact for every integer within the bounds.
        let integer = given.value.as_integer().map(|number| number as f64);
        let number = given.value.as_float().or(integer).or_else(|| given.read_text_as());
        number.filter(|number| bounds.contains(number))
    })
}

/// Creates the rule for a duration within bounds.
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> ValueRule<Duration> {
    ValueRule::plain(Accepts::Duration(bounds.clone()), move |given| {
        let HumanDuration(duration) = given.text()?.parse().ok()?;
        Some(duration).filter(|duration| bounds.contains(duration))
    })
}

/// Creates the rule for a number of bytes within bounds.
pub(super) fn size<T: TryFrom<u64>>(bounds: RangeInclusive<u64>) -> ValueRule<T> {
    ValueRule::plain(Accepts::Size(bounds.clone()), move |given| {
        let zero = given.value.as_integer().filter(|number| *number == 0).map(|_| 0);
        let size = given.text().and_then(|text| text.parse().ok()).map(|HumanSize(bytes)| bytes).or(zero);
        T::try_from(size.filter(|size| bounds.contains(size))?).ok()
    })
}

/// Creates the rule for one of a few words. The rule converts each word to the value beside the word.
pub(super) fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> ValueRule<T> {
    let names = words.iter().map(|(word, _)| *word).collect();
    ValueRule::plain(Accepts::Words(names), move |given| {
        words.iter().find(|(word, _)| Some(*word) == given.text()).map(|(_, meaning)| *meaning)
    })
}

/// Creates the rule for a string that is not empty.
pub(super) fn text() -> ValueRule<String> {
    ValueRule::plain(Accepts::Text, |given| non_empty(given).map(str::to_owned))
}

fn non_empty(given: RawValue<'_>) -> Option<&str> {
    given.text().filter(|text| !text.trim().is_empty() && !text.contains(char::is_control))
}

/// Creates the rule for a file's path.
pub(super) fn file() -> ValueRule<PathBuf> {
    ValueRule::plain(Accepts::File, |given| non_empty(given).map(PathBuf::from))
}

/// Creates the rule for the name of an environment variable. An error does not show the value, because it may be the
/// secret itself.
pub(super) fn variable() -> ValueRule<String> {
    let is_name = |name: &&str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    ValueRule::new(Accepts::Variable, move |given| {
        let name = given.text().filter(is_name).map(str::to_owned);
        name.ok_or_else(|| InvalidValue::because(format!("must be {}", Accepts::Variable)))
    })
}

/// Creates the rule for an absolute `http` or `https` URL without user name, password and fragment. An error does not
/// show the URL, because it may contain a secret.
pub(super) fn http_url() -> ValueRule<Url> {
    ValueRule::new(Accepts::Url, parse_http_url)
}

fn parse_http_url(given: RawValue<'_>) -> Result<Url, InvalidValue> {
    let url = given.text().and_then(|text| Url::parse(text).ok());
    let url = url
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| InvalidValue::because(format!("must be {}", Accepts::Url)))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidValue::because("must be a URL without a user name or password"));
    }
    if url.fragment().is_some() {
        return Err(InvalidValue::because("must be a URL without a fragment"));
    }
    Ok(url)
}

/// Creates the rule for an [`http_url`] without a query, so that a path can be appended.
pub(super) fn base_url() -> ValueRule<Url> {
    http_url().and(|url| match url.query() {
        None => Ok(url),
        Some(_) => Err(InvalidValue::because("must be a URL without a query")),
    })
}

/// Creates the rule for an origin. The origin must have the form that browsers send (RFC 6454, section 6.2), because
/// the gateway compares origins as strings.
pub(super) fn origin() -> ValueRule<String> {
    ValueRule::new(Accepts::Origin, |given| {
        let origin = parse_http_url(given)?.origin().ascii_serialization();
        if given.text() == Some(origin.as_str()) {
            return Ok(origin);
        }
        Err(InvalidValue::because(format!(
            "must be an origin as browsers write it, without a path: \"{origin}\""
        )))
    })
}

/// Creates the rule for a network in CIDR notation.
pub(super) fn network() -> ValueRule<IpNet> {
    ValueRule::plain(Accepts::Network, |given| given.text()?.parse().ok())
}

/// Creates the rule for an IP address and a port.
pub(super) fn address() -> ValueRule<SocketAddr> {
    ValueRule::plain(Accepts::Address, |given| given.text()?.parse().ok())
}

/// Creates the rule for text that may hold a secret, so that no message shows it.
pub(super) fn secret_text<T: FromStr<Err: Display> + 'static>(accepts: Accepts) -> ValueRule<T> {
    ValueRule::new(accepts, |given| {
        let parsed = given.text().unwrap_or_default().parse::<T>();
        parsed.map_err(|error| InvalidValue::because(error.to_string()))
    })
}

/// Creates the rule for a filter of logs.
pub(super) fn log_filter() -> ValueRule<String> {
    ValueRule::new(Accepts::LogFilter, |given| {
        let filter = non_empty(given).ok_or_else(|| InvalidValue::must_be(Accepts::Text))?;
        match parse_log_filter(filter) {
            Ok(_) => Ok(filter.to_owned()),
            Err(error) => Err(InvalidValue::because(error.to_string())),
        }
    })
}
