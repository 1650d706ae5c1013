//! Runs the transaction rules of the store ([`Rule`]) on PostgreSQL: prepared statements on a pooled connection.

use std::error::Error;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use deadpool_postgres::Object;
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{RowStream, Statement};

use super::super::analysis_rows::NewAnalysis;
use super::super::changes::Changes;
use super::super::claims::Leased;
use super::super::observations::Observation;
use super::super::rules::{Rule, Transaction};
use super::super::sql::Sql;
use super::super::values::{Row, Value};
use super::super::{Change, Lease, StoreContext, StoreError};
use super::connect::{Session, time_limits};
use super::fault::Fault;
use super::notices::NoticeChannel;
use super::{batches, listings};
use crate::domain::analysis::AnalysisResult;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Usage, UsageFact};

/// A connection on which a [`Rule`] runs.
enum Connection<'a> {
    /// Each statement is a separate transaction.
    Autocommit(&'a Object),
    /// All statements belong to one transaction.
    Open(deadpool_postgres::Transaction<'a>),
}

/// The run of a [`Rule`] on a connection: in one transaction, or with a transaction for each statement.
pub(super) struct PostgresTransaction<'a> {
    connection: Connection<'a>,
    context: &'a StoreContext,
    is_repeated: bool,
    effects: Mutex<Effects>,
}

/// Effects of the commit: changes to announce, usage to count, observations to report, and leases that have ended.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) changes: Changes,
    pub(super) usage: Vec<(TenantId, Usage)>,
    pub(super) fact_usage: Vec<(TenantId, (UsageFact, String), Usage)>,
    pub(super) observations: Vec<Observation>,
    pub(super) ended: Vec<(Leased, Lease)>,
}

/// Runs a [`Rule`] in a transaction, and commits the transaction.
pub(super) async fn write<R: Rule>(
    mut session: Session,
    (context, channel): (&StoreContext, &NoticeChannel),
    rule: &R,
    is_repeated: bool,
) -> Result<(R::Output, Effects), Fault> {
    let client = session.client()?;
    let single = PostgresTransaction::new(Connection::Autocommit(client), context, is_repeated);
    if let Some(output) = rule.shortcut(&single).await? {
        return Ok((output, single.into_parts().1));
    }
    drop(single);
    let open = client.transaction().await?;
    if let Some(limit) = R::TIME_LIMIT {
        open.batch_execute(&time_limits("SET LOCAL", limit)).await?;
    }
    let transaction = PostgresTransaction::new(Connection::Open(open), context, is_repeated);
    let output = rule.run(&transaction).await?;
    let (connection, effects) = transaction.into_parts();
    if let Connection::Open(open) = connection {
        channel.announce_within(&open, &effects.changes).await?;
        open.commit().await?;
    }
    Ok((output, effects))
}

/// Runs a [`Rule`] that only reads. The statements of the rule need not see the same snapshot.
pub(super) async fn read<R: Rule>(
    mut session: Session,
    context: &StoreContext,
    rule: &R,
) -> Result<(R::Output, Effects), Fault> {
    let connection = Connection::Autocommit(session.client()?);
    let transaction = PostgresTransaction::new(connection, context, false);
    let output = rule.run(&transaction).await?;
    Ok((output, transaction.into_parts().1))
}

impl<'a> PostgresTransaction<'a> {
    fn new(connection: Connection<'a>, context: &'a StoreContext, is_repeated: bool) -> Self {
        Self { connection, context, is_repeated, effects: Mutex::default() }
    }

    fn into_parts(self) -> (Connection<'a>, Effects) {
        (self.connection, self.effects.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn effects(&self) -> MutexGuard<'_, Effects> {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
}

impl Transaction for PostgresTransaction<'_> {
    fn context(&self) -> &StoreContext {
        self.context
    }

    fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    async fn for_each<F>(
        &self,
        sql: &'static Sql,
        values: &[Value<'_>],
        mut read: F,
    ) -> Result<(), StoreError>
    where
        F: FnMut(&dyn Row) -> Result<ControlFlow<()>, StoreError> + Send,
    {
        if sql.postgres().is_empty() {
            return Ok(());
        }
        let mut rows = pin!(self.rows(&self.prepare(sql).await?, values).await?);
        while let Some(row) = rows.try_next().await.map_err(Fault::from)? {
            if read(&row)?.is_break() {
                break;
            }
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

    async fn insert_new(&self, new: &[NewAnalysis]) -> Result<Vec<bool>, StoreError> {
        Ok(match &self.connection {
            Connection::Autocommit(client) => batches::insert(*client, new).await?,
            Connection::Open(open) => batches::insert(open, new).await?,
        })
    }

    /// Adds the usage to a buffer after the commit. The process writes the buffer to the database every few seconds. If each
    /// commit updated a row per tenant and day, the commits would wait for each other.
    async fn count_usage(&self, tenant: &TenantId, usage: Usage) -> Result<(), StoreError> {
        self.effects().usage.push((tenant.clone(), usage));
        Ok(())
    }

    /// Adds the usage to the same buffer as [`Transaction::count_usage`]. The buffer has a separate count for each value of a
    /// fact. A fact of a call is its agent or its queue.
    async fn count_fact_usage(
        &self,
        tenant: &TenantId,
        (fact, value): (UsageFact, &str),
        usage: Usage,
    ) -> Result<(), StoreError> {
        self.effects().fact_usage.push((tenant.clone(), (fact, value.to_owned()), usage));
        Ok(())
    }

    async fn index(&self, row: i64, tenant: &TenantId, result: &AnalysisResult) -> Result<(), StoreError> {
        match &self.connection {
            Connection::Autocommit(client) => listings::index(*client, row, tenant, result).await?,
            Connection::Open(open) => listings::index(open, row, tenant, result).await?,
        }
        Ok(())
    }

    fn observe(&self, observation: Observation) {
        self.effects().observations.push(observation);
    }

    fn end_lease(&self, leased: Leased, lease: Lease) {
        self.effects().ended.push((leased, lease));
    }

    fn notify(&self, change: Change) {
        self.effects().changes.notify(change);
    }

    fn invalidate(&self, change: Change) {
        self.effects().changes.invalidate(change);
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
            // PostgreSQL cannot store NUL in a text column.
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
