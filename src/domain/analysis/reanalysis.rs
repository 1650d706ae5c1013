//! Repeated analyses: a new analysis of a call that already has an outcome.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Analysis, Stage, Status};
use crate::domain::clock::Timestamp;

/// A reanalysis in progress, for a call that already had an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reanalysis {
    /// The status of the reanalysis.
    pub status: ReanalysisStatus,
    /// Time of the submission that requested the reanalysis.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// The status of a reanalysis: `queued` (not yet accepted by AloVoice) or `processing` (AloVoice analyzes the call).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReanalysisStatus {
    /// The vendor has not accepted the call again yet.
    Queued,
    /// The vendor analyzes the call again.
    Processing,
}

/// The latest reanalysis that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastReanalysis {
    /// The outcome of the reanalysis.
    pub outcome: ReanalysisOutcome,
    /// Time of the submission that requested the reanalysis.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Time when the reanalysis ended. The event that reports the outcome has the same `timestamp`.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
}

/// The outcome of a reanalysis: `new_result` (the result differs from the previous one), `same_result` (AloVoice returned the
/// previous result) or `failed` (there is no new result). After `failed`, a call with a previous result keeps this result, and
/// `last_error` has the reason. For a call without a result, `error` has the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReanalysisOutcome {
    /// The result differs from the previous one.
    NewResult,
    /// The vendor returned the previous result.
    SameResult,
    /// There is no new result.
    Failed,
}

impl Analysis {
    /// Returns the reanalysis in progress. Returns `None` if no analysis is in progress, or if the first analysis of the
    /// call is in progress.
    pub fn reanalysis(&self) -> Option<Reanalysis> {
        let work = self.work.as_ref().filter(|_| self.is_under_way())?;
        // A failed call starts again as queued, so only the start time distinguishes a reanalysis from the first analysis.
        let is_first = self.status != Status::Completed && work.started_at == self.submitted_at;
        let is_accepted = work.stage == Stage::Poll;
        let status = if is_accepted { ReanalysisStatus::Processing } else { ReanalysisStatus::Queued };
        (!is_first).then_some(Reanalysis { status, since: work.started_at })
    }
}
