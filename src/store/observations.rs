//! Observations of a transaction rule ([`Rule`](super::rules::Rule)), for metrics and logs.
//!
//! A rule may run more than once, so it records its observations with
//! [`Transaction::observe`](super::rules::Transaction::observe). The engine reports them once, after the rule has succeeded.

use std::fmt::Display;

use crate::domain::ids::TenantId;
use crate::telemetry::metrics::Metrics;

/// The result of a transaction rule, with the observations of the rule.
pub(super) type Observed<T> = (T, Vec<Observation>);

/// An observation of a transaction rule.
#[derive(Debug)]
pub(super) enum Observation {
    /// The filter of a webhook of this tenant did not pass an event.
    FilteredEvent(TenantId),
    /// A transaction rule skipped a row that this version of the program cannot read.
    UnreadableRow {
        /// The row's table.
        table: &'static str,
        /// The row's key.
        id: String,
    },
}

impl Observation {
    /// Returns the observation of an unreadable row.
    pub(super) fn unreadable(table: &'static str, id: impl Display) -> Self {
        Self::UnreadableRow { table, id: id.to_string() }
    }

    /// Counts the observation, and logs it if it is a fault.
    pub(super) fn report(&self, metrics: &Metrics) {
        match self {
            Self::FilteredEvent(tenant) => {
                metrics.webhook_events_filtered.with_label_values(&[tenant.as_str()]).inc();
            }
            Self::UnreadableRow { table, id } => {
                metrics.store_unreadable_rows.with_label_values(&[table]).inc();
                tracing::error!(table, %id, "row skipped: this version cannot read it");
            }
        }
    }
}
