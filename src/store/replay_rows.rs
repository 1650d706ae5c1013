//! Rows of the table `replays`.

use super::StoreError;
use super::values::Row;
use crate::domain::events::EventKind;
use crate::domain::ids::TenantId;
use crate::domain::replays::{Replay, ReplaySpan};
use crate::domain::webhooks::EventFilter;

/// A replay with its cursor: the time and the number of the last event that the replay has read.
pub(super) struct Progress {
    pub(super) replay: Replay,
    pub(super) tenant: TenantId,
    pub(super) at: i64,
    pub(super) seq: i64,
}

/// The columns that [`read`] reads. The outcomes are in another table.
pub(super) const COLUMNS: &str =
    "id, webhook, tenant, since, until, events, at, seq, sent, created_at, finished_at, trace";

pub(super) fn read(row: &dyn Row) -> Result<Progress, StoreError> {
    let events = row.parse("events", |text| EventFilter::from_text(text).ok_or(()))?;
    Ok(Progress {
        replay: Replay {
            id: row.get("id")?,
            webhook: row.get("webhook")?,
            span: ReplaySpan { since: row.get("since")?, until: row.get("until")?, events },
            created_at: row.get("created_at")?,
            finished_at: row.get("finished_at")?,
            sent: row.get("sent")?,
            delivered: 0,
            failed: 0,
            trace: row.json("trace")?,
        },
        tenant: row.get("tenant")?,
        at: row.get("at")?,
        seq: row.get("seq")?,
    })
}

/// Parses the type of an event. Returns `None` if a replay does not send events of this type.
pub(super) fn wanted_kind(kind: &str, span: &ReplaySpan) -> Option<EventKind> {
    EventKind::from_word(kind).filter(|kind| span.events.wants(*kind))
}
