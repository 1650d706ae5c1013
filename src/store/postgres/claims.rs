//! Who works on which analysis: claims by lease and fence.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::Row;

use super::super::{
    Applied, ClaimBatch, ClaimedWork, Lease, OverdueFailures, Queue, StoreError, WorkSlots, WorkStore,
};
use super::connect::Session;
use super::fault::Fault;
use super::{PostgresStore, analyses, deadlines, rows};
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::lifecycle::Step;
use crate::domain::usage::Usage;

/// The condition of each queue's partial index, word for word.
pub(super) const fn condition(queue: Queue) -> &'static str {
    match queue {
        Queue::Submits => "stage = 'submit'",
        Queue::Polls => "stage <> 'submit'",
    }
}

#[async_trait]
impl WorkStore for PostgresStore {
    async fn claim_work_across_tenants(
        &self,
        queue: Queue,
        slots: Vec<WorkSlots>,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedWork>, StoreError> {
        let slots = &slots;
        let claims = self.run(|session| work(session, queue, slots, self.now(), lease)).await?;
        let now = self.now();
        self.work.add(claims.claimed.iter().map(|claimed| claimed.lease), now, now + lease);
        Ok(claims)
    }

    async fn apply(&self, lease: Lease, step: Step) -> Result<Applied, StoreError> {
        let (around, step) = (&self.surroundings, &step);
        let applied =
            self.change(|session| analyses::apply(session, around, &self.address, lease, step.clone())).await;
        if !matches!(applied, Err(StoreError::Unavailable(_))) {
            self.work.remove(lease);
        }
        if let Ok(applied) = &applied {
            let polls = u64::from(matches!(step, Step::Polled(_)));
            let usage = Usage::step(polls, applied.event);
            self.tally.count(&applied.analysis.tenant, self.now(), usage);
        }
        applied
    }

    async fn fail_overdue_across_tenants(
        &self,
        tenants: Vec<TenantId>,
        limit: usize,
    ) -> Result<OverdueFailures, StoreError> {
        let (around, tenants) = (&self.surroundings, &tenants);
        let ended = self
            .change(|session| deadlines::fail_overdue(session, around, &self.address, tenants, limit))
            .await?;
        for applied in &ended.applied {
            self.tally.count(&applied.analysis.tenant, self.now(), Usage::step(0, applied.event));
        }
        Ok(ended)
    }
}

/// Takes tenants, the most to claim of each now, the present, the lease's end, and the most of each in all. Every tenant's oldest are found by
/// themselves, so that one with much due hides nobody's. What another replica is claiming is passed over. A claimed
/// submit stands as unconfirmed from this commit on: after a crash its outcome is unknown. The array keeps the planner,
/// which cannot know how few there will be, from joining with the whole table.
pub(super) fn claim_sql(queue: Queue) -> String {
    format!(
        "WITH due AS MATERIALIZED (SELECT oldest.id FROM unnest($1::text[], $2::bigint[], $5::bigint[]) \
         AS slot (tenant, free, most) CROSS JOIN LATERAL (SELECT count(*) AS busy FROM analyses WHERE leased \
         AND tenant = slot.tenant AND due_at + 0 > $3) AS under_way \
         CROSS JOIN LATERAL (SELECT id FROM analyses WHERE {} AND analyses.tenant = slot.tenant AND due_at <= $3 \
         ORDER BY due_at LIMIT greatest(0, least(slot.free, slot.most - under_way.busy)) FOR UPDATE SKIP LOCKED) AS oldest) \
         UPDATE analyses SET stage = CASE stage WHEN 'submit' THEN 'confirm' ELSE stage END, \
         denied_since = CASE stage WHEN 'submit' THEN NULL ELSE denied_since END, \
         fence = fence + 1, leased = true, due_at = $4 WHERE id = ANY (ARRAY(SELECT id FROM due)) RETURNING {}",
        condition(queue),
        rows::COLUMNS
    )
}

/// Takes tenants and the present.
pub(super) fn next_work_sql(queue: Queue) -> String {
    format!(
        "SELECT min(next.due_at) FROM unnest($1::text[]) AS slot (tenant) CROSS JOIN LATERAL \
         (SELECT due_at FROM analyses WHERE {} AND analyses.tenant = slot.tenant AND due_at > $2 \
         ORDER BY due_at LIMIT 1) AS next",
        condition(queue)
    )
}

pub(super) async fn work(
    mut session: Session,
    queue: Queue,
    slots: &[WorkSlots],
    now: Timestamp,
    lease: Duration,
) -> Result<ClaimBatch<ClaimedWork>, Fault> {
    let client = session.client()?;
    let tenants: Vec<&str> = slots.iter().map(|slot| slot.tenant.as_str()).collect();
    let (free, most): (Vec<i64>, Vec<i64>) =
        slots.iter().map(|slot| (whole(slot.free), whole(slot.most))).unzip();
    let claim = client.prepare_cached(&claim_sql(queue)).await?;
    let next = client.prepare_cached(&next_work_sql(queue)).await?;
    let (now, end) = (now.as_millis(), (now + lease).as_millis());
    let rows = client.query(&claim, &[&tenants, &free, &now, &end, &most]).await?;
    let next_due: Option<i64> = client.query_one(&next, &[&tenants, &now]).await?.try_get(0)?;
    let claimed = rows.iter().filter_map(claimed_work).collect();
    Ok(ClaimBatch { claimed, next_due: next_due.map(Timestamp::from_millis) })
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// One that cannot be read keeps nobody from the others; its lease runs out, and it is tried again.
fn claimed_work(row: &Row) -> Option<ClaimedWork> {
    let read = || {
        let lease = Lease { row: row.try_get("id")?, fence: row.try_get("fence")? };
        Ok::<_, Fault>(ClaimedWork { lease, analysis: rows::read(row)? })
    };
    read().inspect_err(|fault| tracing::error!(?fault, "an analysis cannot be read")).ok()
}
