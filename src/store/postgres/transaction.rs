//! Rules on PostgreSQL: prepared statements on a pooled connection.

use std::error::Error;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;
use deadpool_postgres::Object;
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{RowStream, Statement};

use super::super::changes::Changes;
use super::super::rules::{Rule, Transaction};
use super::super::sql::Sql;
use super::super::values::{Row, Value};
use super::super::{Change, StoreError, Surroundings};
use super::connect::Session;
use super::fault::Fault;
use super::notices::Address;

/// A connection on which a rule runs.
enum Connection<'a> {
    /// Each statement is a transaction of its own.
    Autocommit(&'a Object),
    /// The statements are one transaction.
    Open(deadpool_postgres::Transaction<'a>),
}

/// An open transaction.
pub(super) struct PostgresTransaction<'a> {
    connection: Connection<'a>,
    env: &'a Surroundings,
    changes: Mutex<Changes>,
}

/// Runs a rule in a transaction and commits it.
pub(super) async fn write<R: Rule>(
    mut session: Session,
    env: &Surroundings,
    address: &Address,
    rule: &R,
) -> Result<(R::Output, Changes), Fault> {
    let open = session.client()?.transaction().await?;
    let transaction =
        PostgresTransaction { connection: Connection::Open(open), env, changes: Mutex::default() };
    let output = rule.run(&transaction).await?;
    let changes = transaction.changes.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Connection::Open(open) = transaction.connection {
        changes.tell_within(&open, address).await?;
        open.commit().await?;
    }
    Ok((output, changes))
}

/// Runs a rule that only reads. Its statements need not see the same snapshot.
pub(super) async fn read<R: Rule>(
    mut session: Session,
    env: &Surroundings,
    rule: &R,
) -> Result<R::Output, Fault> {
    let connection = Connection::Autocommit(session.client()?);
    Ok(rule.run(&PostgresTransaction { connection, env, changes: Mutex::default() }).await?)
}

impl PostgresTransaction<'_> {
    async fn prepare(&self, sql: &Sql) -> Result<Statement, Fault> {
        Ok(match &self.connection {
            Connection::Autocommit(client) => client.prepare_cached(sql.postgres()).await?,
            Connection::Open(open) => open.prepare_cached(sql.postgres()).await?,
        })
    }

    async fn rows(&self, statement: &Statement, values: &[Value<'_>]) -> Result<RowStream, Fault> {
        Ok(match &self.connection {
            Connection::Autocommit(client) => client.query_raw(statement, values).await?,
            Connection::Open(open) => open.query_raw(statement, values).await?,
        })
    }

    async fn count(&self, statement: &Statement, values: &[Value<'_>]) -> Result<u64, Fault> {
        Ok(match &self.connection {
            Connection::Autocommit(client) => client.execute_raw(statement, values).await?,
            Connection::Open(open) => open.execute_raw(statement, values).await?,
        })
    }

    fn changes(&self) -> std::sync::MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transaction for PostgresTransaction<'_> {
    fn env(&self) -> &Surroundings {
        self.env
    }

    async fn for_each<F>(
        &self,
        sql: &'static Sql,
        values: &[Value<'_>],
        mut read: F,
    ) -> Result<(), StoreError>
    where
        F: FnMut(&dyn Row) -> Result<(), StoreError> + Send,
    {
        let mut rows = pin!(self.rows(&self.prepare(sql).await?, values).await?);
        while let Some(row) = rows.try_next().await.map_err(Fault::from)? {
            read(&row)?;
        }
        Ok(())
    }

    async fn execute(&self, sql: &'static Sql, values: &[Value<'_>]) -> Result<usize, StoreError> {
        if sql.postgres().is_empty() {
            return Ok(0);
        }
        let changed = self.count(&self.prepare(sql).await?, values).await?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    async fn execute_each<const N: usize>(
        &self,
        sql: &'static Sql,
        rows: &[[Value<'_>; N]],
    ) -> Result<(), StoreError> {
        let statement = self.prepare(sql).await?;
        try_join_all(rows.iter().map(|values| self.count(&statement, values))).await?;
        Ok(())
    }

    async fn insert(&self, sql: &'static Sql, values: &[Value<'_>]) -> Result<Option<i64>, StoreError> {
        let mut rows = pin!(self.rows(&self.prepare(sql).await?, values).await?);
        let mut key = None;
        while let Some(row) = rows.try_next().await.map_err(Fault::from)? {
            key = Some(row.try_get(0).map_err(Fault::from)?);
        }
        Ok(key)
    }

    fn notify(&self, change: Change) {
        self.changes().notify(change);
    }

    fn invalidate(&self, change: Change) {
        self.changes().invalidate(change);
    }
}

impl Row for tokio_postgres::Row {
    fn value(&self, column: &str) -> Result<Value<'_>, StoreError> {
        Ok(self.try_get(column).map_err(Fault::from)?)
    }
}

impl<'a> FromSql<'a> for Value<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *ty {
            Type::BOOL => Self::Boolean(FromSql::from_sql(ty, raw)?),
            Type::INT8 => Self::Integer(FromSql::from_sql(ty, raw)?),
            Type::TEXT => Self::from(<&str>::from_sql(ty, raw)?),
            Type::BYTEA => Self::from(<&[u8]>::from_sql(ty, raw)?),
            _ => return Err(format!("a column of type {ty}").into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Boolean(boolean) => boolean.to_sql_checked(ty, out),
            Self::Integer(number) => number.to_sql_checked(ty, out),
            // PostgreSQL's texts cannot hold NUL.
            Self::Text(text) if text.contains('\0') => text.replace('\0', "\u{fffd}").to_sql_checked(ty, out),
            Self::Text(text) => text.to_sql_checked(ty, out),
            Self::Bytes(bytes) => bytes.to_sql_checked(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
