//! Conversions between values of `rusqlite` and of the domain.

use rusqlite::ErrorCode;
use rusqlite::types::Value;

use super::super::StoreError;

pub(super) fn text(text: &str) -> Value {
    Value::from(text.to_owned())
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, source) => Self::Corrupt(source.to_string()),
            rusqlite::Error::IntegralValueOutOfRange(..) | rusqlite::Error::InvalidColumnType(..) => {
                Self::Corrupt(error.to_string())
            }
            other if other.sqlite_error_code() == Some(ErrorCode::TooBig) => Self::Rejected(Box::new(other)),
            other => Self::Unavailable(Box::new(other)),
        }
    }
}
