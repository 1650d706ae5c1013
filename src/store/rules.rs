//! Rules: transactions that are written once and run on either engine.
//!
//! A rule is a struct with the arguments, an implementation of [`Rule`] with the SQL, and one line in the subject's store
//! trait that runs it:
//!
//! ```ignore
//! #[async_trait]
//! impl<E: Engine> ReplayStore for E {
//!     async fn find_replay(&self, tenant: &TenantId, id: ReplayId) -> Result<Option<Replay>, StoreError> {
//!         self.query(FindReplay { tenant: tenant.clone(), id }).await
//!     }
//! }
//!
//! struct FindReplay {
//!     tenant: TenantId,
//!     id: ReplayId,
//! }
//!
//! impl Rule for FindReplay {
//!     const NAME: &'static str = "find_replay";
//!     type Output = Option<Replay>;
//!
//!     async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<Replay>, StoreError> {
//!         let select = sql!("SELECT ", COLUMNS, " FROM replays WHERE id = ?1 AND tenant = ?2");
//!         transaction.find(select, values![self.id, self.tenant], |row| replay(row)).await
//!     }
//! }
//! ```
//!
//! - [`Engine`](super::engine::Engine) runs rules: `transact` runs a rule in a transaction that commits if the rule returns `Ok`,
//!   `query` runs a rule that only reads, and `scan` runs a rule that reads many rows. Each of these methods measures the rule
//!   under the name of the rule.
//! - A rule may run more than once: on PostgreSQL, the engine repeats the rule after a lost connection or a deadlock, even if the
//!   commit of the first attempt succeeded unnoticed. So a rule takes `&self`, and inserts tolerate their own earlier row
//!   (`ON CONFLICT DO NOTHING`).
//! - SQL has one dialect, see [`sql!`](super::sql). Both engines know `RETURNING`, `ON CONFLICT`, row values, `CAST`,
//!   `IS [NOT] DISTINCT FROM`, `TRUE` and `FALSE`. The engines differ in scalar `min` and `max` (use `CASE`) and in arrays.
//! - On `SQLite` a rule runs on the writer's thread, which polls the rule's future once. So a rule may await only its
//!   transaction. Statements that do not depend on each other may be joined (`futures_util::future::try_join`): PostgreSQL then
//!   pipelines them.
//! - [`Transaction::notify`] announces a change after the commit.

use std::hash::Hash;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::analysis_rows::NewAnalysis;
use super::claims::{Lease, Leased};
use super::observations::Observation;
use super::sql::Sql;
use super::values::{Row, Value};
use super::{Change, StoreContext, StoreError};
use crate::domain::analysis::AnalysisResult;
use crate::domain::ids::TenantId;
use crate::domain::polling::PollingPolicy;
use crate::domain::usage::{Usage, UsageFact};
use crate::env::Env;

/// Maximum number of futures that a rule joins at once. `try_join_all` polls up to 30 futures in order and in one poll.
/// `SQLite` needs the single poll, and the fixed order means that rows are always locked in the same order.
pub(super) const PIPELINED: usize = 25;

/// Another transaction changed or deleted the same rows between two statements. The rule then runs again. This can
/// happen only on PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[error("another transaction changed the same rows")]
pub(super) struct Raced;

impl From<Raced> for StoreError {
    fn from(raced: Raced) -> Self {
        Self::Unavailable(Box::new(raced))
    }
}

/// An open transaction of either engine.
pub(super) trait Transaction: Send + Sync {
    /// Returns the context of the store.
    fn context(&self) -> &StoreContext;

    /// Returns the environment of the process.
    fn env(&self) -> &Env {
        &self.context().env
    }

    /// Returns the polling policy.
    fn policy(&self) -> &PollingPolicy {
        &self.context().policy
    }

    /// Returns whether an earlier attempt to run the [`Rule`] has begun. That attempt may have been committed.
    fn is_repeated(&self) -> bool;

    /// Calls `read` with each row of the result, until `read` breaks.
    fn for_each<F>(
        &self,
        sql: &'static Sql,
        values: &[Value<'_>],
        read: F,
    ) -> impl Future<Output = Result<(), StoreError>> + Send
    where
        F: FnMut(&dyn Row) -> Result<ControlFlow<()>, StoreError> + Send;

    /// Runs a statement and returns the number of rows that it changed.
    fn execute(
        &self,
        sql: &'static Sql,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Runs a statement once for each row of parameters. PostgreSQL pipelines the runs.
    fn execute_each<const N: usize>(
        &self,
        sql: &'static Sql,
        rows: &[[Value<'_>; N]],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Runs an [`Sql::insert`] and returns the number of the new row, or `None` if a conflict prevented the insert.
    fn insert(
        &self,
        sql: &'static Sql,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Option<i64>, StoreError>> + Send;

    /// Announces a change after the commit, to wake waiting tasks. Delivery to other replicas is fast but not
    /// reliable.
    fn notify(&self, change: Change);

    /// Announces a change that may make a cached value stale. The announcement reaches other replicas with the commit.
    fn invalidate(&self, change: Change);

    /// Inserts new analyses with their callbacks and attributes. The analyses began at the same time, and each call is in the list
    /// only once. Returns for each analysis whether it was inserted: `false` means that the tenant already has the call.
    fn insert_new(&self, new: &[NewAnalysis]) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Adds to today's usage of a tenant.
    fn count_usage(
        &self,
        tenant: &TenantId,
        usage: Usage,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Adds to today's usage of those calls of a tenant that have this value of a fact.
    fn count_fact_usage(
        &self,
        tenant: &TenantId,
        fact: (UsageFact, &str),
        usage: Usage,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Replaces the list and search entries of an analysis by the entries of its new result.
    fn index(
        &self,
        row: i64,
        tenant: &TenantId,
        result: &AnalysisResult,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Records an observation, which the engine reports after the commit.
    fn observe(&self, observation: Observation);

    /// Records that a lease has ended, so that the process does not release this lease again when it stops.
    fn end_lease(&self, leased: Leased, lease: Lease);

    /// Reads every row of the result.
    fn query<T, F>(
        &self,
        sql: &'static Sql,
        values: &[Value<'_>],
        mut read: F,
    ) -> impl Future<Output = Result<Vec<T>, StoreError>> + Send
    where
        T: Send,
        F: FnMut(&dyn Row) -> Result<T, StoreError> + Send,
    {
        async move {
            let mut rows = Vec::new();
            self.for_each(sql, values, |row| {
                rows.push(read(row)?);
                Ok(ControlFlow::Continue(()))
            })
            .await?;
            Ok(rows)
        }
    }

    /// Reads the only row of the result, if there is one.
    fn find<T, F>(
        &self,
        sql: &'static Sql,
        values: &[Value<'_>],
        mut read: F,
    ) -> impl Future<Output = Result<Option<T>, StoreError>> + Send
    where
        T: Send,
        F: FnMut(&dyn Row) -> Result<T, StoreError> + Send,
    {
        async move {
            let mut found = None;
            self.for_each(sql, values, |row| {
                found = Some(read(row)?);
                Ok(ControlFlow::Continue(()))
            })
            .await?;
            Ok(found)
        }
    }
}

/// A transaction of the domain, independent of the engine. See the [module](self).
pub(super) trait Rule: Send + Sync + 'static {
    /// The rule's name in metrics.
    const NAME: &'static str;
    /// Whether the rule may announce changes. If so, an attempt with an unknown outcome announces
    /// [`Change::Everything`].
    const NOTIFIES: bool = true;
    /// Whether the rule runs a group ([`Grouped`]). A group that the server stops is not a failure of the store, because the rules of
    /// the group then run alone.
    const IS_GROUP: bool = false;
    /// Time limit of the rule's transaction on PostgreSQL, if the transaction may need more time than
    /// [`operation_timeout`](StoreContext::operation_timeout). The time limits of statements and of waits for locks grow in
    /// proportion. `SQLite` has no time limits.
    const TIME_LIMIT: Option<Duration> = None;
    /// The rule's result.
    type Output: Send + 'static;

    /// Does the work of the rule without a transaction, if single statements suffice. This saves round trips to a server. Returns
    /// `None` if the statements changed nothing. In this case the rule must run. Only PostgreSQL calls this method.
    fn shortcut<T: Transaction>(
        &self,
        _transaction: &T,
    ) -> impl Future<Output = Result<Option<Self::Output>, StoreError>> + Send {
        async { Ok(None) }
    }

    /// Runs the rule.
    fn run<T: Transaction>(
        &self,
        transaction: &T,
    ) -> impl Future<Output = Result<Self::Output, StoreError>> + Send;
}

/// A rule that can share a transaction with others of its kind.
pub(super) trait Grouped: Rule + Clone {
    /// Runs all rules of a group. `None` means that a rule must run alone; such a rule has written nothing and has no effects.
    type Group: Rule<Output = Vec<Option<Self::Output>>>;
    /// Identifies the rows that a rule writes. A group has at most one rule with a key.
    type Key: Eq + Hash;

    /// Returns the key of the rule.
    fn key(&self) -> Self::Key;

    /// Returns the approximate number of bytes that the rule writes.
    fn size(&self) -> usize;

    /// Makes a group of rules with different keys.
    fn group(rules: Vec<Arc<Self>>) -> Self::Group;
}

/// Limits the time that a group waits for a lock. The holder of the lock may be slow, and the other rules of the group do not need
/// this lock. After the limit, each rule runs alone.
pub(super) async fn limit_lock_waits(transaction: &impl Transaction, rules: usize) -> Result<(), StoreError> {
    static LIMIT: Sql = Sql::per_engine(&[], &["SET LOCAL lock_timeout = '200ms'"]);
    if rules > 1 {
        transaction.execute(&LIMIT, &[]).await?;
    }
    Ok(())
}
