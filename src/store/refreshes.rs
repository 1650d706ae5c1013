//! Refreshes. A refresh is one more poll of a finished analysis, at the request of a caller.

use super::analysis_rows::{COLUMNS, read};
use super::rules::{Rule, Transaction};
use super::sql::{Sql, sql};
use super::values::values;
use super::{Change, Queue, StoreError, StoredAnalysis, transitions};
use crate::domain::ids::{CallId, TenantId};

/// Maximum number of refreshes of one tenant in progress, on all replicas. Simultaneous requests may start slightly more
/// refreshes.
const MAX_REFRESHES: usize = 100;

/// The outcome of a request to refresh an analysis.
#[derive(Debug, Clone, PartialEq)]
pub enum Refreshing {
    /// A poll is planned, because of this request or an earlier one.
    UnderWay(Box<StoredAnalysis>),
    /// The tenant has no analysis of the call.
    NotFound,
    /// The tenant has too many refreshes in progress.
    TooMany,
}

/// Plans a poll for changes of a finished analysis.
pub(super) struct RefreshAnalysis {
    pub(super) tenant: TenantId,
    pub(super) call_id: CallId,
}

/// Counts the refreshes in progress. Parameters: the tenant and the maximum number of refreshes to count.
pub(super) static IN_PROGRESS: Sql =
    Sql::new(&["SELECT count(*) AS refreshes FROM (SELECT 1 FROM analyses \
     WHERE stage = 'refresh' AND tenant = ?1 LIMIT ?2) AS refreshing"]);

impl Rule for RefreshAnalysis {
    const NAME: &'static str = "refresh";
    type Output = Refreshing;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Refreshing, StoreError> {
        let Self { tenant, call_id } = self;
        let select = sql!("SELECT ", COLUMNS, " FROM analyses WHERE tenant = ?1 AND call_id = ?2 FOR UPDATE");
        let call = values![tenant, call_id];
        let found = transaction.find(select, call, |row| Ok((row.get::<i64>("id")?, read(row)?))).await?;
        let Some((row, mut analysis)) = found else { return Ok(Refreshing::NotFound) };
        if analysis.refresh(transaction.policy(), transaction.env().clock.now()) {
            let count = values![tenant, MAX_REFRESHES];
            let refreshes: Option<usize> =
                transaction.find(&IN_PROGRESS, count, |row| row.get("refreshes")).await?;
            if refreshes.unwrap_or(0) >= MAX_REFRESHES {
                return Ok(Refreshing::TooMany);
            }
            transitions::update(transaction, row, &analysis, true).await?;
            transitions::notify(transaction, &analysis, true);
            transaction.notify(Change::Work(Queue::Polls));
        }
        let result = if analysis.revision > 0 { transitions::result(transaction, row).await? } else { None };
        Ok(Refreshing::UnderWay(Box::new(StoredAnalysis { analysis, result })))
    }
}
