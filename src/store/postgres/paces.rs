//! What was learned of each tenant's processing times.

use std::time::Duration;

use deadpool_postgres::GenericClient;

use super::fault::Fault;
use super::rows::{number, time};
use crate::domain::ids::TenantId;
use crate::domain::pace::Pace;

/// Found, not locked: two results at the same moment may teach the same.
pub(super) async fn find(client: &impl GenericClient, tenant: &TenantId) -> Result<Option<Pace>, Fault> {
    let find = client
        .prepare_cached("SELECT first_look_ms, samples, learned_at FROM paces WHERE tenant = $1")
        .await?;
    let Some(row) = client.query_opt(&find, &[&tenant.as_str()]).await? else { return Ok(None) };
    Ok(Some(Pace {
        first_look: Duration::from_millis(number(&row, "first_look_ms")?),
        samples: number(&row, "samples")?,
        learned_at: time(&row, "learned_at")?,
    }))
}

/// What another transaction is just writing is left to it: a result more or less is not worth waiting for its commit.
const KEEP: &str = "WITH free AS MATERIALIZED (SELECT tenant FROM paces WHERE tenant = $1 FOR UPDATE SKIP LOCKED) \
     UPDATE paces SET first_look_ms = $2, samples = $3, learned_at = $4 WHERE tenant IN (SELECT tenant FROM free)";

const BEGIN: &str = "INSERT INTO paces (tenant, first_look_ms, samples, learned_at) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (tenant) DO NOTHING";

pub(super) async fn keep(
    client: &impl GenericClient,
    tenant: &TenantId,
    pace: Pace,
    is_first: bool,
) -> Result<(), Fault> {
    let keep = client.prepare_cached(if is_first { BEGIN } else { KEEP }).await?;
    let first_look = i64::try_from(pace.first_look.as_millis()).unwrap_or(i64::MAX);
    let samples = i64::from(pace.samples);
    client.execute(&keep, &[&tenant.as_str(), &first_look, &samples, &pace.learned_at.as_millis()]).await?;
    Ok(())
}
