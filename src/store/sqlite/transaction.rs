//! Runs the transaction rules of the store ([`Rule`]) on `SQLite`. A rule runs to its end on the thread that has the connection.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use super::super::analysis_rows::NewAnalysis;
use super::super::changes::Changes;
use super::super::claims::Leased;
use super::super::observations::{Observation, Observed};
use super::super::rules::{Rule, Transaction};
use super::super::sql::Sql;
use super::super::values::{Row, Value};
use super::super::{Change, Lease, StoreContext, StoreError, submissions};
use super::writer::{Done, lock};
use super::{listings, usage};
use crate::domain::analysis::AnalysisResult;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Day, Usage, UsageFact};

/// An open transaction. The connection is locked for each statement only, so that the future of a [`Rule`] is `Send`. No other
/// thread waits for the lock.
pub(super) struct SqliteTransaction<'a> {
    connection: &'a Mutex<Connection>,
    context: &'a StoreContext,
    effects: Mutex<Effects>,
}

/// Effects of the commit: changes to announce, usage to count, and observations to report.
#[derive(Default)]
struct Effects {
    changes: Changes,
    usage: Vec<(TenantId, Day, Usage)>,
    observations: Vec<Observation>,
}

/// Runs a [`Rule`] in the transaction that is open on the connection. Returns the rule's result and observations.
pub(super) fn run<R: Rule>(
    connection: &Mutex<Connection>,
    context: &StoreContext,
    rule: &R,
) -> Result<Done<Observed<R::Output>>, StoreError> {
    let transaction = SqliteTransaction { connection, context, effects: Mutex::default() };
    let waits = || {
        StoreError::Unavailable(format!("rule {} awaits something besides its transaction", R::NAME).into())
    };
    let value = rule.run(&transaction).now_or_never().ok_or_else(waits)??;
    let effects = transaction.effects.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (mut changes, waking) = effects.changes.into_parts();
    changes.extend(waking);
    Ok(Done { value: (value, effects.observations), changes, usage: effects.usage })
}

impl SqliteTransaction<'_> {
    fn effects(&self) -> MutexGuard<'_, Effects> {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transaction for SqliteTransaction<'_> {
    fn context(&self) -> &StoreContext {
        self.context
    }

    /// Always `false`: the file belongs to this process, and an error rolls the transaction back.
    fn is_repeated(&self) -> bool {
        false
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
        if sql.sqlite().is_empty() {
            return Ok(());
        }
        let connection = lock(self.connection);
        let mut statement = connection.prepare_cached(sql.sqlite())?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            if read(&SqliteRow::new(row))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn execute(&self, sql: &'static Sql, values: &[Value<'_>]) -> Result<usize, StoreError> {
        if sql.sqlite().is_empty() {
            return Ok(0);
        }
        Ok(lock(self.connection).prepare_cached(sql.sqlite())?.execute(params_from_iter(values))?)
    }

    async fn execute_each<const N: usize>(
        &self,
        sql: &'static Sql,
        rows: &[[Value<'_>; N]],
    ) -> Result<(), StoreError> {
        let connection = lock(self.connection);
        let mut statement = connection.prepare_cached(sql.sqlite())?;
        for values in rows {
            statement.execute(params_from_iter(values))?;
        }
        Ok(())
    }

    async fn insert(&self, sql: &'static Sql, values: &[Value<'_>]) -> Result<Option<i64>, StoreError> {
        let connection = lock(self.connection);
        let inserted = connection.prepare_cached(sql.sqlite())?.execute(params_from_iter(values))?;
        Ok((inserted > 0).then(|| connection.last_insert_rowid()))
    }

    async fn insert_new(&self, new: &[NewAnalysis]) -> Result<Vec<bool>, StoreError> {
        let mut inserted = Vec::with_capacity(new.len());
        for new in new {
            inserted.push(submissions::insert_new(self, new).await?);
        }
        Ok(inserted)
    }

    async fn count_usage(&self, tenant: &TenantId, usage: Usage) -> Result<(), StoreError> {
        self.effects().usage.push((tenant.clone(), Day::of(self.context.env.clock.now()), usage));
        Ok(())
    }

    async fn count_fact_usage(
        &self,
        tenant: &TenantId,
        fact: (UsageFact, &str),
        usage: Usage,
    ) -> Result<(), StoreError> {
        let day = Day::of(self.context.env.clock.now());
        Ok(usage::count_fact(&lock(self.connection), tenant, day, fact, usage)?)
    }

    async fn index(&self, row: i64, tenant: &TenantId, result: &AnalysisResult) -> Result<(), StoreError> {
        listings::index(&lock(self.connection), row, tenant, result)
    }

    fn observe(&self, observation: Observation) {
        self.effects().observations.push(observation);
    }

    /// Does nothing, because opening the file releases all leases.
    fn end_lease(&self, _: Leased, _: Lease) {}

    fn notify(&self, change: Change) {
        self.effects().changes.notify(change);
    }

    fn invalidate(&self, change: Change) {
        self.effects().changes.invalidate(change);
    }
}

/// A row of a result. Readers ask for columns in the order of the statement, so the search for a column begins at the position
/// where the previous search ended. `rusqlite` would compare names from the first column each time, which takes longer than
/// reading the value.
pub(super) struct SqliteRow<'a> {
    row: &'a rusqlite::Row<'a>,
    previous: Cell<usize>,
}

impl<'a> SqliteRow<'a> {
    pub(super) fn new(row: &'a rusqlite::Row<'a>) -> Self {
        Self { row, previous: Cell::new(0) }
    }

    fn index(&self, column: &str) -> Result<usize, rusqlite::Error> {
        let statement = self.row.as_ref();
        let begin = self.previous.get();
        let is_named = |index: &usize| statement.column_name(*index).is_ok_and(|name| name == column);
        let index = (begin..statement.column_count()).chain(0..begin).find(is_named);
        let index = index.ok_or_else(|| rusqlite::Error::InvalidColumnName(column.to_owned()))?;
        self.previous.set(index);
        Ok(index)
    }
}

impl Row for SqliteRow<'_> {
    fn value(&self, column: &str) -> Result<Value<'_>, StoreError> {
        Ok(match self.row.get_ref(self.index(column)?)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Text(text) => {
                Value::from(str::from_utf8(text).map_err(|error| StoreError::Corrupt(error.to_string()))?)
            }
            ValueRef::Blob(bytes) => Value::Bytes(bytes),
            ValueRef::Real(_) => {
                return Err(StoreError::Corrupt(format!("column {column} holds an unexpected fraction")));
            }
        })
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Boolean(boolean) => ValueRef::Integer((*boolean).into()),
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
