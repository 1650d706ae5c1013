//! Values of parameters and columns, converted from and to domain types.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::domain::clock::Timestamp;
use crate::domain::event_payload::EventPayload;
use crate::domain::ids::{CallId, DeliveryId, EventId, ReplayId, TenantId, WebhookId};

/// Creates the list of parameters of a statement, each converted by [`Value::from`].
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        &[$($crate::store::values::Value::from($value)),*]
    };
}
pub(super) use values;

/// A value of a parameter or of a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
}

/// A row of a result.
pub(super) trait Row {
    /// Returns the value of a column.
    fn value(&self, column: &str) -> Result<Value<'_>, StoreError>;
}

impl dyn Row + '_ {
    /// Returns the value of a column in a type of the domain.
    pub(super) fn get<'a, T: FromColumn<'a>>(&'a self, column: &str) -> Result<T, StoreError> {
        let value = self.value(column)?;
        T::read(&value).ok_or_else(|| unreadable(column, &value))
    }

    /// Returns the value of a text column, parsed.
    pub(super) fn parse<T, E>(
        &self,
        column: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, StoreError> {
        let text: Cow<'_, str> = self.get(column)?;
        parse(&text).map_err(|_| unreadable(column, &Value::Text(text)))
    }

    /// Returns the value of a column that holds JSON; NULL is read as `null`.
    pub(super) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        let text: Option<Cow<'_, str>> = self.get(column)?;
        // The message of serde_json may contain a part of the text, which may be a transcript.
        serde_json::from_str(text.as_deref().unwrap_or("null")).map_err(|error| {
            let (kind, line, place) = (error.classify(), error.line(), error.column());
            StoreError::Corrupt(format!(
                "column {column} holds unknown JSON ({kind:?} error in line {line}, column {place})"
            ))
        })
    }
}

/// Returns an error that names the column, and the kind and size of its value. The value may be the content of a call.
fn unreadable(column: &str, value: &Value<'_>) -> StoreError {
    StoreError::Corrupt(match value {
        Value::Null => format!("column {column} is NULL"),
        Value::Boolean(_) => format!("column {column} holds an unexpected boolean"),
        Value::Integer(_) => format!("column {column} holds an unexpected number"),
        Value::Text(text) => format!("column {column} holds an unknown text of {} bytes", text.len()),
        Value::Bytes(bytes) => format!("column {column} holds unexpected {} bytes", bytes.len()),
    })
}

/// Returns a value as JSON text.
pub(super) fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A type that a column value can be converted to; `None` if the value does not fit.
pub(super) trait FromColumn<'a>: Sized {
    fn read(value: &Value<'a>) -> Option<Self>;
}

impl<'a, T: FromColumn<'a>> FromColumn<'a> for Option<T> {
    fn read(value: &Value<'a>) -> Option<Self> {
        if *value == Value::Null { Some(None) } else { T::read(value).map(Some) }
    }
}

impl FromColumn<'_> for bool {
    fn read(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Boolean(boolean) => Some(*boolean),
            // SQLite has no type for booleans.
            Value::Integer(0) => Some(false),
            Value::Integer(1) => Some(true),
            _ => None,
        }
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl FromColumn<'_> for $integer {
            fn read(value: &Value<'_>) -> Option<Self> {
                match value {
                    Value::Integer(number) => Self::try_from(*number).ok(),
                    _ => None,
                }
            }
        }

        impl From<$integer> for Value<'_> {
            /// Converts a number. The result saturates at `i64::MAX`.
            fn from(number: $integer) -> Self {
                Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
            }
        }
    )*};
}
integers!(u16, u32, u64, usize);

impl FromColumn<'_> for i64 {
    fn read(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl<'a> FromColumn<'a> for Cow<'a, str> {
    fn read(value: &Value<'a>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl FromColumn<'_> for String {
    fn read(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.as_ref().to_owned()),
            _ => None,
        }
    }
}

impl FromColumn<'_> for Vec<u8> {
    fn read(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    }
}

impl FromColumn<'_> for Timestamp {
    fn read(value: &Value<'_>) -> Option<Self> {
        i64::read(value).map(Self::from_millis)
    }
}

impl FromColumn<'_> for Duration {
    fn read(value: &Value<'_>) -> Option<Self> {
        u64::read(value).map(Self::from_millis)
    }
}

macro_rules! named_ids {
    ($($id:ty),*) => {$(
        impl FromColumn<'_> for $id {
            fn read(value: &Value<'_>) -> Option<Self> {
                match value {
                    Value::Text(text) => Self::parse(text).ok(),
                    _ => None,
                }
            }
        }

        impl<'a> From<&'a $id> for Value<'a> {
            fn from(id: &'a $id) -> Self {
                Self::Text(Cow::Borrowed(id.as_str()))
            }
        }
    )*};
}
named_ids!(TenantId, CallId);

impl FromColumn<'_> for EventPayload {
    fn read(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Text(word) => Self::from_word(word),
            _ => None,
        }
    }
}

macro_rules! generated_ids {
    ($($id:ty),*) => {$(
        impl FromColumn<'_> for $id {
            fn read(value: &Value<'_>) -> Option<Self> {
                match value {
                    Value::Text(text) => Self::parse(text),
                    _ => None,
                }
            }
        }

        impl From<$id> for Value<'_> {
            fn from(id: $id) -> Self {
                Self::Text(Cow::Owned(id.to_string()))
            }
        }
    )*};
}
generated_ids!(DeliveryId, EventId, ReplayId, WebhookId);

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<bool> for Value<'_> {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Value<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a [u8; 32]> for Value<'a> {
    fn from(bytes: &'a [u8; 32]) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(time: Timestamp) -> Self {
        Self::Integer(time.as_millis())
    }
}

impl From<Duration> for Value<'_> {
    /// Converts a duration to milliseconds.
    fn from(duration: Duration) -> Self {
        Self::Integer(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }
}
