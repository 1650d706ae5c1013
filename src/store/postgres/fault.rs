//! What can go wrong with a statement, and whether the same again may do better.

use std::fmt;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use super::super::StoreError;

/// Why a piece of work with the server was not done.
pub(super) enum Fault {
    /// The server, the way to it, or what it answered.
    Postgres(tokio_postgres::Error),
    /// No connection was to be had.
    Pool(PoolError),
    /// Not done in time: the server hangs, or the way to it does.
    TimedOut,
    /// Somebody else was at it at the same moment.
    Raced,
    /// Found out by us.
    Store(StoreError),
}

impl Fault {
    /// Whether the same again may do better: the connection was lost, the server stops or starts, or two
    /// transactions stood in each other's way.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Postgres(error) => {
                error.code().map_or_else(|| error.is_closed() || is_io(error), is_passing)
            }
            Self::Pool(PoolError::Backend(error)) => error.code().is_none_or(is_passing),
            Self::Raced => true,
            Self::Pool(_) | Self::TimedOut | Self::Store(_) => false,
        }
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

/// By the classes of PostgreSQL's documentation, appendix A.
fn is_passing(code: &SqlState) -> bool {
    // Connection exceptions, operator intervention (shutdown, start-up), too many connections, transaction rollback.
    let class = code.code().get(..2);
    matches!(class, Some("08" | "57" | "53"))
        && *code != SqlState::DISK_FULL
        && *code != SqlState::QUERY_CANCELED
        || matches!(
            *code,
            SqlState::T_R_SERIALIZATION_FAILURE
                | SqlState::T_R_DEADLOCK_DETECTED
                // A server that was just made a standby.
                | SqlState::READ_ONLY_SQL_TRANSACTION
                // What a new row refers to was just deleted.
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

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        Fault::from(error).into()
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Postgres(error) => Self::Unavailable(Box::new(Told(error))),
            Fault::Pool(PoolError::Backend(error)) => Self::Unavailable(Box::new(Told(error))),
            Fault::Pool(error) => Self::Unavailable(Box::new(error)),
            Fault::TimedOut => Self::Unavailable("the database did not answer in time".into()),
            Fault::Raced => Self::Unavailable("another change came in between".into()),
            Fault::Store(error) => error,
        }
    }
}

/// An error of the server's with what it said: its own `Display` keeps that for the source.
struct Told(tokio_postgres::Error);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tell(&self.0, f)
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tell(&self.0, f)
    }
}

impl std::error::Error for Told {}

/// For logs: without the server's details, which may be the content of a row.
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(error) | Self::Pool(PoolError::Backend(error)) => tell(error, f),
            Self::Pool(error) => write!(f, "{error}"),
            Self::TimedOut => f.write_str("not done in time"),
            Self::Raced => f.write_str("another change came in between"),
            Self::Store(error) => write!(f, "{error}"),
        }
    }
}

fn tell(error: &tokio_postgres::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(said) = error.as_db_error() {
        write!(f, "{} {}: {}", said.severity(), said.code().code(), said.message())?;
        return said.constraint().map_or(Ok(()), |constraint| write!(f, " (constraint {constraint})"));
    }
    write!(f, "{error}")?;
    std::error::Error::source(error).map_or(Ok(()), |source| write!(f, ": {source}"))
}
