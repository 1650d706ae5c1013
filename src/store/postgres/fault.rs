//! Failures of statements, and whether a retry can succeed.

use std::fmt;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use super::super::StoreError;
use super::super::rules::Raced;
use super::unsuitable::UnsuitableDatabase;

/// Reason why an operation failed.
pub(super) enum Fault {
    /// The server or the connection failed, or the answer cannot be read.
    Postgres(tokio_postgres::Error),
    /// The pool has no connection.
    Pool(PoolError),
    /// No server accepts a connection.
    Connect(ConnectError),
    /// The gateway cannot use the database.
    Unsuitable(Box<UnsuitableDatabase>),
    /// The operation exceeded its time limit.
    TimedOut,
    /// Notifications that this replica sent to itself did not arrive.
    Undelivered,
    /// Another transaction changed the same rows.
    Raced,
    /// A transaction rule failed with an error of the store.
    Store(StoreError),
}

impl Fault {
    /// Whether a retry may succeed: the connection was lost, the server stops or starts, or two transactions conflicted.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Postgres(error) => {
                error.code().map_or_else(|| error.is_closed() || is_io(error), is_transient)
            }
            Self::Pool(PoolError::Backend(error)) => error.code().is_none_or(is_transient),
            Self::Connect(error) => error.is_transient(),
            Self::Raced => true,
            Self::Pool(_) | Self::Unsuitable(_) | Self::TimedOut | Self::Undelivered | Self::Store(_) => {
                false
            }
        }
    }

    /// Whether every retry must fail, because the data is invalid for the server (class 22) or exceeds a limit of PostgreSQL
    /// (class 54).
    fn is_permanent(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        matches!(error.code().and_then(|code| code.code().get(..2)), Some("22" | "54"))
    }

    /// Whether a statement gave up because another transaction holds a lock that it needs.
    pub(super) fn is_blocked(&self) -> bool {
        let blocked = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
        matches!(self, Self::Postgres(error) if error.code().is_some_and(|code| blocked.contains(code)))
    }

    /// Whether the server answered a statement with an error. If not, the connection failed.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.as_db_error().is_some())
    }

    /// Whether one of the rules of a group may be the reason of the failure, and no retry of the whole group can succeed.
    pub(super) fn stops_group(&self) -> bool {
        (self.is_answer() && !self.is_transient()) || matches!(self, Self::Store(_))
    }

    /// Whether the server has become a standby.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Self::Postgres(error) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION))
    }
}

/// No server accepted a connection. Lists the servers with their errors. A server without an error exceeded the time limit.
pub(super) struct ConnectError(pub(super) Vec<(String, Option<tokio_postgres::Error>)>);

impl ConnectError {
    /// Whether no server answered in time.
    pub(super) fn is_time_limit(&self) -> bool {
        self.0.iter().all(|(_, error)| error.is_none())
    }

    /// Whether a later attempt may succeed.
    pub(super) fn is_transient(&self) -> bool {
        self.0
            .iter()
            .any(|(_, error)| error.as_ref().is_none_or(|error| error.code().is_none_or(is_transient)))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (server, error)) in self.0.iter().enumerate() {
            let separator = if number > 0 { "; " } else { "" };
            write!(f, "{separator}{server}: ")?;
            match error {
                Some(error) => describe(error, f)?,
                None => f.write_str("the server did not answer in time")?,
            }
        }
        Ok(())
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

/// Whether an error with this code is transient. The PostgreSQL documentation, appendix A, lists the classes of codes.
fn is_transient(code: &SqlState) -> bool {
    // Connection exceptions, operator intervention (shutdown, start-up), too many connections, transaction rollback.
    let class = code.code().get(..2);
    matches!(class, Some("08" | "57" | "53"))
        && *code != SqlState::DISK_FULL
        && *code != SqlState::QUERY_CANCELED
        || matches!(
            *code,
            SqlState::T_R_SERIALIZATION_FAILURE
                | SqlState::T_R_DEADLOCK_DETECTED
                // The server has become a standby.
                | SqlState::READ_ONLY_SQL_TRANSACTION
                // Another transaction has just deleted the row that a new row refers to.
                | SqlState::FOREIGN_KEY_VIOLATION
        )
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        Self::Pool(error)
    }
}

impl From<ConnectError> for Fault {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<UnsuitableDatabase> for Fault {
    fn from(unsuitable: UnsuitableDatabase) -> Self {
        Self::Unsuitable(Box::new(unsuitable))
    }
}

impl From<StoreError> for Fault {
    /// Unwraps the fault inside the error of a transaction rule.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(source) if source.is::<Raced>() => Self::Raced,
            StoreError::Unavailable(source) => match source.downcast::<Self>() {
                Ok(fault) => *fault,
                Err(source) => Self::Store(StoreError::Unavailable(source)),
            },
            error => Self::Store(error),
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) => error,
            fault if fault.is_permanent() => Self::Rejected(Box::new(fault)),
            fault => Self::Unavailable(Box::new(fault)),
        }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        Fault::from(error).into()
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(error) | Self::Pool(PoolError::Backend(error)) => describe(error, f),
            Self::Pool(error) => write!(f, "{error}"),
            Self::Connect(error) => write!(f, "{error}"),
            Self::Unsuitable(unsuitable) => write!(f, "{unsuitable}"),
            Self::TimedOut => f.write_str("the database did not answer in time"),
            Self::Undelivered => f.write_str(
                "notifications do not arrive: the server or a pooler accepts LISTEN and delivers nothing",
            ),
            Self::Raced => write!(f, "{Raced}"),
            Self::Store(error) => write!(f, "{error}"),
        }
    }
}

/// Writes the same text as [`fmt::Display`], for logs.
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes the server's message, which the `Display` of the error omits. The details of the server are left out, because they may
/// contain the content of a row.
fn describe(error: &tokio_postgres::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(answer) = error.as_db_error() {
        write!(f, "{} {}: {}", answer.severity(), answer.code().code(), answer.message())?;
        return answer.constraint().map_or(Ok(()), |constraint| write!(f, " (constraint {constraint})"));
    }
    let source = std::error::Error::source(error);
    if source.is_some_and(|source| source.to_string() == "database does not allow writes") {
        return f
            .write_str("the server is read-only: it is a standby, or default_transaction_read_only is on");
    }
    write!(f, "{error}")?;
    source.map_or(Ok(()), |source| write!(f, ": {source}"))
}
