//! Type and bounds of a value: one description for error messages, the reference and the schema of the chart.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Value;

use super::units::{HumanDuration, HumanSize, SECOND};

/// Type and bounds of a value. Its text completes the sentence "must be …".
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Accepts {
    /// `true` or `false`.
    Boolean,
    /// A whole number within bounds.
    Integer(RangeInclusive<i64>),
    /// A number within bounds. Infinity and NaN are not allowed.
    Number(RangeInclusive<f64>),
    /// A duration within bounds.
    Duration(RangeInclusive<Duration>),
    /// A number of bytes within bounds.
    Size(RangeInclusive<u64>),
    /// One of a few words.
    Words(Vec<&'static str>),
    /// A string that is not empty.
    Text,
    /// A file's path; a relative path starts at the working directory.
    File,
    /// The name of an environment variable.
    Variable,
    /// An absolute `http` or `https` URL.
    Url,
    /// The URL of a forward proxy.
    ProxyUrl,
    /// A web origin as browsers write it (RFC 6454, section 6.2).
    Origin,
    /// A network in CIDR notation.
    Network,
    /// An IP address and a port.
    Address,
    /// The URL of a store.
    StoreUrl,
    /// The URL of a PostgreSQL database.
    PostgresUrl,
    /// A region of phone numbers.
    Region,
    /// A filter for logs.
    LogFilter,
    /// A list of values.
    List {
        /// Type and bounds of each element.
        of: Box<Accepts>,
        /// Minimum number of elements.
        least: usize,
        /// Maximum number of elements.
        most: Option<usize>,
        /// Whether a single element is accepted in place of a list.
        or_one: bool,
    },
}

impl fmt::Display for Accepts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("true or false"),
            Self::Integer(bounds) => write!(f, "a whole number from {} to {}", bounds.start(), bounds.end()),
            Self::Number(bounds) => write!(f, "a number from {} to {}", bounds.start(), bounds.end()),
            Self::Duration(bounds) => {
                let (least, most) = (HumanDuration(*bounds.start()), HumanDuration(*bounds.end()));
                write!(f, "a duration such as \"15s\", from \"{least}\" to \"{most}\"")
            }
            Self::Size(bounds) => {
                let (least, most) = (HumanSize(*bounds.start()), HumanSize(*bounds.end()));
                write!(f, "a size such as \"16MiB\", from \"{least}\" to \"{most}\"")
            }
            Self::Words(words) => {
                let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
                write!(f, "one of {}", quoted.join(", "))
            }
            Self::Text => f.write_str("a string that is not empty"),
            Self::File => f.write_str("the path of a file"),
            Self::Variable => f.write_str(
                "the name of an environment variable: letters, digits and underscores, not starting with a digit",
            ),
            Self::Url => f.write_str("an absolute URL with http:// or https://"),
            Self::ProxyUrl => f.write_str("the URL of a proxy such as \"http://proxy.example.uz:3128\""),
            Self::Origin => f.write_str("an origin such as \"https://crm.example.uz\""),
            Self::Network => f.write_str("a network such as \"10.0.0.0/8\" or \"fd00::/8\""),
            Self::Address => f.write_str("an IP address and a port such as \"0.0.0.0:8080\""),
            Self::Region => f.write_str("the ISO 3166-1 code of a region, such as \"UZ\""),
            Self::StoreUrl => f.write_str("\"sqlite://path\" or \"postgres://user@host:5432/database\""),
            Self::PostgresUrl => f.write_str("\"postgres://user@host:5432/database\""),
            Self::LogFilter => f.write_str("a log filter such as \"info\""),
            Self::List { .. } => f.write_str("a list"),
        }
    }
}

impl Accepts {
    /// Returns a valid value that differs from the given value; `None` if the type and the bounds do not suffice to
    /// find one.
    pub(super) fn other_than(&self, value: &Value) -> Option<Value> {
        match self {
            Self::Boolean => Some(Value::Boolean(!value.as_bool()?)),
            Self::Integer(bounds) => {
                let doubled = value.as_integer()?.saturating_mul(2);
                Some(Value::Integer(if bounds.contains(&doubled) { doubled } else { *bounds.start() }))
            }
            Self::Number(_) => Some(Value::Float(value.as_float()? / 2.0)),
            Self::Duration(bounds) => {
                let HumanDuration(duration) = value.as_str()?.parse().ok()?;
                let doubled = if duration.is_zero() { SECOND } else { duration * 2 };
                let other = if bounds.contains(&doubled) { doubled } else { *bounds.start() };
                Some(Value::String(HumanDuration(other).to_string()))
            }
            Self::Size(bounds) => {
                let HumanSize(size) = value.as_str()?.parse().ok()?;
                let other = if bounds.contains(&(size * 2)) { size * 2 } else { *bounds.start() };
                Some(Value::String(HumanSize(other).to_string()))
            }
            Self::Words(words) => {
                let other = words.iter().find(|word| Some(**word) != value.as_str())?;
                Some(Value::String((*other).to_owned()))
            }
            Self::List { .. } => {
                let (_, shorter) = value.as_array()?.split_last()?;
                Some(Value::Array(shorter.to_vec()))
            }
            _ => None,
        }
    }

    /// Returns the name of the type, for the reference.
    pub(super) fn type_name(&self) -> String {
        match self {
            Self::Boolean => "boolean".to_owned(),
            Self::Integer(_) => "integer".to_owned(),
            Self::Number(_) => "number".to_owned(),
            Self::Duration(_) => "duration".to_owned(),
            Self::Size(_) => "size".to_owned(),
            Self::Words(_) | Self::Text => "string".to_owned(),
            Self::File => "path".to_owned(),
            Self::Variable => "environment variable".to_owned(),
            Self::Url | Self::ProxyUrl | Self::StoreUrl | Self::PostgresUrl => "URL".to_owned(),
            Self::Origin => "origin".to_owned(),
            Self::Network => "network".to_owned(),
            Self::Region => "region".to_owned(),
            Self::Address => "address and port".to_owned(),
            Self::LogFilter => "log filter".to_owned(),
            Self::List { of, or_one, .. } => {
                let (one, list) =
                    (of.type_name(), format!("list of {}s", of.type_name().trim_end_matches('s')));
                if *or_one { format!("{one} or {list}") } else { list }
            }
        }
    }

    /// Returns the bounds in words, if the type has any.
    pub(super) fn bounds(&self) -> Option<String> {
        match self {
            Self::Integer(bounds) => Some(format!("{} to {}", bounds.start(), bounds.end())),
            Self::Number(bounds) => Some(format!("{} to {}", bounds.start(), bounds.end())),
            Self::Duration(bounds) => {
                Some(format!("{} to {}", HumanDuration(*bounds.start()), HumanDuration(*bounds.end())))
            }
            Self::Size(bounds) => {
                Some(format!("{} to {}", HumanSize(*bounds.start()), HumanSize(*bounds.end())))
            }
            Self::Words(words) => Some(words.join(", ")),
            Self::List { of, least, most, .. } => {
                let of = of.bounds().map(|bounds| format!("each {bounds}"));
                let least = (*least > 0).then(|| format!("at least {least}"));
                let most = most.map(|most| format!("at most {most}"));
                let all: Vec<_> = [least, most, of].into_iter().flatten().collect();
                (!all.is_empty()).then(|| all.join(", "))
            }
            _ => None,
        }
    }
}
