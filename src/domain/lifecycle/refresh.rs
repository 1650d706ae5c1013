//! Refreshes: a caller asks for one more poll of a finished analysis. A refresh never submits the call.

use super::polls::{missing, revises};
use super::{Context, Effect, PollOutcome, delay};
use crate::domain::analysis::{Analysis, FaultCode, LastError, Stage, Status, Work};
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::polling::PollingPolicy;

/// Maximum number of polls of one refresh.
const MAX_POLLS: u32 = 3;

impl Analysis {
    /// Plans a poll for changes of the outcome. The time between two refreshes is at least the minimum interval of polls. Changes
    /// nothing and returns `false` if an analysis or a refresh is in progress, or if a poll for late tags is in flight.
    pub fn refresh(&mut self, policy: &PollingPolicy, now: Timestamp) -> bool {
        let is_polled = self.work.as_ref().is_some_and(|work| work.stage != Stage::Settle || work.leased);
        if is_polled {
            return false;
        }
        // A wrong clock may have caused a time in the future.
        let due_at = self.refreshed_at.map_or(now, |last| now.max(last.min(now) + policy.min_interval));
        self.refreshed_at = Some(due_at);
        let etag = self.work.take().and_then(|work| work.etag);
        self.work = Some(Work { stage: Stage::Refresh, due_at, etag, ..Work::begin(now) });
        true
    }

    /// Whether a refresh is in progress, or whether a poll for late tags is in flight and replaces a refresh.
    pub fn is_refreshing(&self) -> bool {
        let is_polled =
            |work: &Work| work.stage == Stage::Refresh || work.stage == Stage::Settle && work.leased;
        self.work.as_ref().is_some_and(is_polled)
    }

    /// Applies the outcome of a poll of a refresh.
    pub(super) fn refreshed(
        &mut self,
        mut work: Work,
        outcome: PollOutcome,
        context: &Context<'_>,
    ) -> Effect {
        self.last_error = None;
        let missing = missing(&outcome, |result| result.lacks_most_of(context.current?));
        let effect = Effect { discarded: missing, ..Effect::none() };
        let errors = work.errors.saturating_add(1);
        let (code, detail, pause) = match (outcome, missing) {
            (PollOutcome::Ready(_), Some(missing)) => {
                let pause = context.policy.backoff(errors, context.jitter);
                (FaultCode::AnswerUnreadable, missing.to_string(), pause)
            }
            // The vendor finished the call after the analysis had failed.
            (PollOutcome::Ready(obtained), _) if self.status == Status::Failed => {
                return self.complete(work, obtained, context);
            }
            (PollOutcome::Ready(obtained) | PollOutcome::Empty(obtained), None)
                if self.status == Status::Completed && revises(context.current, &obtained.result) =>
            {
                self.revision = self.revision.saturating_add(1);
                work.keep_etag_of(&obtained);
                self.rest(work, context);
                return Effect {
                    event: Some(EventKind::AnalysisUpdated),
                    obtained: Some(obtained),
                    ..Effect::none()
                };
            }
            (PollOutcome::Fault(fault), _) => {
                let pause = delay(&fault, errors, context);
                (fault.code, fault.detail, pause)
            }
            // A finished analysis keeps its outcome, even if the vendor reports a failure now.
            _ => {
                self.rest(work, context);
                return effect;
            }
        };
        self.last_error = Some(LastError { code, detail, at: context.now });
        (work.errors, work.due_at) = (errors, context.now + pause);
        if errors < MAX_POLLS {
            self.work = Some(work);
        } else {
            self.rest(work, context);
        }
        effect
    }

    /// Ends a refresh. If the time of the poll for late tags is still in the future, this poll is planned again.
    pub(super) fn rest(&mut self, work: Work, context: &Context<'_>) {
        let finished_at = self.finished_at.filter(|_| self.status == Status::Completed);
        let settle_at = finished_at.map(|at| at + context.policy.settle_after);
        self.work = settle_at.filter(|at| *at > context.now).map(|at| Work {
            stage: Stage::Settle,
            due_at: at.max(context.now + context.policy.min_interval),
            errors: 0,
            ..work
        });
    }
}
