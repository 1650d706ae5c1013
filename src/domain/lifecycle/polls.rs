//! Transitions after a poll for a result.

use super::{Context, Effect, PollOutcome, delay, is_missing, not_found_detail, processed};
use crate::domain::analysis::{Analysis, FailureCode, FaultCode, LastError, Stage, Work};
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::pace::Pace;
use crate::domain::polling::PollingPolicy;

impl Analysis {
    /// Applies the outcome of a poll before completion.
    pub(super) fn polled(&mut self, mut work: Work, outcome: PollOutcome, context: &Context<'_>) -> Effect {
        let now = context.now;
        let confirming = work.stage == Stage::Confirm;
        work.polls = work.polls.saturating_add(1);
        match outcome {
            PollOutcome::Ready(obtained) => {
                let as_before =
                    context.current.is_some_and(|current| current.has_same_content(&obtained.result));
                let since = work.accepted_at.unwrap_or(now);
                if as_before && now.since(since) < context.policy.empty_grace {
                    // During a reanalysis, the vendor still shows the old result.
                    return self.wait(work, None, None, context);
                }
                let pace = processed(&work, now)
                    .and_then(|processed| Pace::learn(context.pace, processed, context.policy, now));
                return Effect { pace, ..self.complete(work, obtained, context) };
            }
            PollOutcome::Empty(_) if context.current.is_some_and(|held| !held.transcript.is_empty()) => {
                // The vendor cleared the old result for the reanalysis. An empty result never replaces a transcript.
                return self.wait(work, None, None, context);
            }
            PollOutcome::Empty(obtained) => {
                work.missing_since = None;
                let since = *work.empty_since.get_or_insert(now);
                if now.since(since) >= context.policy.empty_grace {
                    return self.complete(work, obtained, context);
                }
                // The request has no ETag: the poll that ends the grace period needs the answer, not a 304.
                return self.wait(work, None, None, context);
            }
            PollOutcome::NotReady { etag, retry_after, detail } => {
                (work.empty_since, work.missing_since) = (None, None);
                let reason = reason(FaultCode::NoResult, detail, now);
                let effect = self.wait(work, etag, reason, context);
                if let (Some(work), Some(floor)) = (&mut self.work, retry_after) {
                    work.due_at = work.due_at.max(context.now + floor.min(PollingPolicy::MAX_RETRY_AFTER));
                }
                return effect;
            }
            PollOutcome::Unchanged => {
                work.missing_since = None;
                let etag = work.etag.take();
                let reason = self.last_error.take().filter(|last| last.code == FaultCode::NoResult);
                return self.wait(work, etag, reason, context);
            }
            PollOutcome::NotFound(_) if confirming => {
                if self.is_over(&work, context) {
                    return self.fail(
                        FailureCode::DeadlineExceeded,
                        "the vendor did not accept the call before the deadline".to_owned(),
                        now,
                    );
                }
                // The vendor denies the call. Either it did not accept the submit of unknown outcome, or some of its
                // servers do not know the call yet. A second submit may be billed, so the denial has to last.
                let since = *work.denied_since.get_or_insert(now);
                if now.since(since) >= context.policy.first_after {
                    work.stage = Stage::Submit;
                    work.due_at = now;
                } else {
                    work.due_at = now + context.policy.first_after.max(context.policy.min_interval);
                }
            }
            PollOutcome::NotFound(detail) => {
                if is_missing(&mut work, context) {
                    let detail = not_found_detail(context.policy, detail.as_deref());
                    return self.fail(FailureCode::CallNotFound, detail, now);
                }
                work.empty_since = None;
                let reason = reason(FaultCode::CallNotFound, detail, now);
                return self.wait(work, None, reason, context);
            }
            PollOutcome::Rejected(detail) => return self.fail(FailureCode::VendorRejected, detail, now),
            PollOutcome::Fault(fault) => return self.faulted(work, fault, context),
        }
        self.work = Some(work);
        Effect::none()
    }

    /// Applies the outcome of the poll for late tags.
    pub(super) fn settled(&mut self, mut work: Work, outcome: PollOutcome, context: &Context<'_>) -> Effect {
        const SETTLE_TRIES: u32 = 3;
        match outcome {
            PollOutcome::Ready(obtained)
                if context.current.is_none_or(|current| !current.has_same_content(&obtained.result)) =>
            {
                self.revision = self.revision.saturating_add(1);
                Effect { event: Some(EventKind::AnalysisUpdated), obtained: Some(obtained), ..Effect::none() }
            }
            PollOutcome::Fault(fault) => {
                work.errors = work.errors.saturating_add(1);
                if work.errors < SETTLE_TRIES {
                    work.due_at = context.now + delay(&fault, work.errors, context);
                    self.work = Some(work);
                }
                Effect::none()
            }
            // A completed analysis stays completed, even if the vendor reports a failure now.
            _ => Effect::none(),
        }
    }
}

/// Returns the error to show while the analysis waits, if the vendor explained its answer.
fn reason(code: FaultCode, detail: Option<String>, at: Timestamp) -> Option<LastError> {
    detail.map(|detail| LastError { code, detail, at })
}
