//! Work that waits because the vendor refused the tenant's token.

use super::claims::Queue;
use super::rules::{Rule, Transaction};
use super::sql::Sql;
use super::values::values;
use super::{Change, StoreError};
use crate::domain::ids::TenantId;

/// Makes waiting work of one tenant due now, at most `limit` analyses of each of the two queues (submits and polls). Returns the
/// larger of the two counts of resumed analyses: if this count equals `limit`, more work of that queue may be waiting, and the
/// caller runs this transaction again.
pub(super) struct ResumeRefused {
    pub(super) tenant: TenantId,
    pub(super) limit: usize,
}

/// The statements for each queue. Parameters of each: the tenant, the present time, which becomes the due time, and the
/// maximum number of rows. A poll for late tags does not record its error, so any error of such a poll counts as a
/// refusal.
pub(super) static RESUME: [(Queue, Sql); 2] = [
    (
        Queue::Submits,
        Sql::new(&[
            "WITH refused AS MATERIALIZED (SELECT id FROM analyses WHERE stage = 'submit' AND tenant = ?1 \
             AND due_at > ?2 AND NOT leased AND last_error LIKE '{\"code\":\"token_refused\"%' LIMIT ?3 FOR UPDATE) \
             UPDATE analyses SET due_at = ?2 WHERE id IN (SELECT id FROM refused)",
        ]),
    ),
    (
        Queue::Polls,
        Sql::new(&[
            "WITH refused AS MATERIALIZED (SELECT id FROM analyses WHERE stage <> 'submit' AND tenant = ?1 \
             AND due_at > ?2 AND NOT leased AND (last_error LIKE '{\"code\":\"token_refused\"%' \
             OR stage = 'settle' AND errors > 0) LIMIT ?3 FOR UPDATE) \
             UPDATE analyses SET due_at = ?2 WHERE id IN (SELECT id FROM refused)",
        ]),
    ),
];

impl Rule for ResumeRefused {
    const NAME: &'static str = "resume_refused";
    type Output = usize;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<usize, StoreError> {
        let now = transaction.env().clock.now();
        let mut most = 0;
        for (queue, resume) in &RESUME {
            let resumed = transaction.execute(resume, values![&self.tenant, now, self.limit]).await?;
            if resumed > 0 {
                transaction.notify(Change::Work(*queue));
            }
            most = most.max(resumed);
        }
        Ok(most)
    }
}
