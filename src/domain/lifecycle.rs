//! State transitions of an analysis. They do no I/O. The store runs a transition in the transaction that writes its outcome.
//!
//! ```text
//!            submit            confirm (outcome unknown)          poll                     settle
//! queued ──────────► accepted ────────────────────────► processing ──► completed ──► (revision) ──► rest
//!    ▲                   vendor does not know the call │         │
//!    └─────────────────────────────────────────────────┘         └──► failed
//! ```
//!
//! After an analysis has finished, a caller may ask for a reanalysis (`resubmitted`) or for one more poll (`refresh`).
//!
//! A claim of a `Submit` writes `Confirm` to disk before the request is sent (see `store`). So after a crash, the gateway polls
//! for the result first. The gateway submits the call again only if the vendor's answers do not show that the vendor accepted the
//! call. The gateway learns the answer for unknown calls ([`learned_answers`](super::learned_answers)). If the vendor may give
//! this answer while it analyzes a call, the gateway waits until a result is most likely ready ([`Pace::slowest`]).

mod confirmation;
mod polls;
mod refresh;
mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::steps::{
    Confirmation, Context, Effect, PollOutcome, ShapedAnswer, Step, SubmitOutcome, VendorFault,
};
use super::analysis::{
    Analysis, Failure, FailureCode, FaultCode, LastError, LastReanalysis, Reanalysis, ReanalysisOutcome,
    Stage, Status, Submission, VendorResult, Work,
};
use super::clock::Timestamp;
use super::events::EventKind;
use super::pace::{Pace, ProcessingTime};
use super::polling::PollingPolicy;

impl Analysis {
    /// Applies the outcome of the current work to the analysis. If the analysis has no work, nothing changes.
    pub fn apply(&mut self, step: Step, context: &Context<'_>) -> Effect {
        let reanalysis = self.reanalysis();
        let Some(mut work) = self.work.take() else { return Effect::none() };
        work.leased = false;
        let effect = match step {
            Step::Submitted(outcome) => self.submitted(work, outcome, context),
            Step::Polled(outcome) => self.answered(work, outcome, None, context),
            Step::Answered(outcome, answer) => self.answered(work, outcome, answer.shape, context),
        };
        if let Some(work) = &mut self.work
            && work.stage.is_of_round()
        {
            // The last poll happens at the deadline, not an interval after it.
            let deadline = work.started_at + context.policy.deadline;
            work.due_at = work.due_at.min(deadline.max(context.now + context.policy.min_interval));
        }
        self.end_reanalysis(reanalysis, &effect, context);
        effect
    }

    /// Records the end of a reanalysis, if a step has ended the reanalysis. `before` is the reanalysis that was in
    /// progress before the step.
    fn end_reanalysis(&mut self, before: Option<Reanalysis>, effect: &Effect, context: &Context<'_>) {
        let Some(before) = before.filter(|_| !self.is_under_way()) else { return };
        let outcome = match &effect.obtained {
            None => ReanalysisOutcome::Failed,
            Some(obtained)
                if context.current.is_some_and(|current| current.has_same_content(&obtained.result)) =>
            {
                ReanalysisOutcome::SameResult
            }
            Some(_) => ReanalysisOutcome::NewResult,
        };
        let (since, ended_at) = (before.since, context.now);
        self.last_reanalysis = Some(LastReanalysis { outcome, since, ended_at });
    }

    /// Adopts a finished result of a call that was never submitted to the gateway.
    pub fn adopt(&mut self, obtained: Box<VendorResult>, context: &Context<'_>) -> Effect {
        let work = self.work.take().unwrap_or_else(|| Work::begin(context.now));
        self.complete(work, obtained, context)
    }

    /// Fails an analysis or a reanalysis that is past its deadline, without another poll. Also ends a refresh that is past its
    /// deadline. The gateway calls this method while the vendor is unreachable. Before the deadline, and for a completed analysis
    /// that only polls for late tags, nothing changes.
    pub fn expire(&mut self, context: &Context<'_>) -> Effect {
        let reanalysis = self.reanalysis();
        let Some(work) = self.work.take() else { return Effect::none() };
        if work.stage == Stage::Settle || !self.is_over(&work, context) {
            self.work = Some(work);
            return Effect::none();
        }
        if work.stage == Stage::Refresh {
            self.rest(work, context);
            return Effect::none();
        }
        let effect = match &self.last_error {
            Some(last) => {
                let (code, detail) = out_of_time(last.code, &last.detail);
                self.fail(code, detail, context.now)
            }
            None => {
                let detail = "the vendor could not be reached before the deadline".to_owned();
                self.fail(FailureCode::DeadlineExceeded, detail, context.now)
            }
        };
        self.end_reanalysis(reanalysis, &effect, context);
        effect
    }

    /// Applies another submission. The metadata and the call facts of this submission replace the earlier values. A reanalysis
    /// starts if the submission requests a reanalysis and no analysis is in progress.
    ///
    /// A completed analysis stays completed during the reanalysis. A failed analysis becomes queued.
    pub fn resubmitted(&mut self, submission: &Submission, now: Timestamp) {
        if let Some(metadata) = &submission.metadata {
            self.metadata = metadata.clone();
        }
        self.call.replace_by(&submission.call);
        if submission.reanalyze && !self.is_under_way() {
            self.work = Some(Work::begin(now));
            self.last_error = None;
            self.trace = submission.trace;
            if self.status == Status::Failed {
                self.status = Status::Queued;
                self.failure = None;
                self.finished_at = None;
            }
        }
    }

    /// Whether an analysis or a reanalysis is in progress.
    pub fn is_under_way(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.stage.is_of_round())
    }

    fn submitted(&mut self, mut work: Work, outcome: SubmitOutcome, context: &Context<'_>) -> Effect {
        match outcome {
            SubmitOutcome::Accepted => {
                self.accepted(&mut work, context.now);
                work.missing_since = None;
                work.due_at = context.now + Pace::first_poll_after(context.pace, context.policy);
                self.work = Some(work);
                Effect::none()
            }
            SubmitOutcome::NotTaken(fault) => {
                let unknown_call = fault.code == FaultCode::CallNotFound;
                if unknown_call && is_missing(&mut work, context) {
                    let detail = not_found_detail(context.policy, Some(&fault.detail));
                    return self.fail(FailureCode::CallNotFound, detail, context.now);
                }
                work.stage = Stage::Submit;
                work.submits = work.submits.saturating_sub(1);
                self.faulted(work, fault, context)
            }
            SubmitOutcome::Unknown(fault) => {
                work.stage = Stage::Confirm;
                self.faulted(work, fault, context)
            }
            // After a first submit of unknown outcome, the vendor may refuse the second submit, because it already has the call.
            SubmitOutcome::Rejected(detail) if work.submits == 2 => {
                let fault = VendorFault { code: FaultCode::VendorError, detail, retry_after: None };
                work.stage = Stage::Confirm;
                self.faulted(work, fault, context)
            }
            SubmitOutcome::Rejected(detail) => self.fail(FailureCode::VendorRejected, detail, context.now),
        }
    }

    fn accepted(&mut self, work: &mut Work, now: Timestamp) {
        if self.status == Status::Queued {
            self.status = Status::Processing;
        }
        self.last_error = None;
        work.stage = Stage::Poll;
        work.accepted_at.get_or_insert(now);
        work.errors = 0;
    }

    /// Plans the next poll, or fails the analysis after the deadline. `reason` is the vendor's explanation, if there is one.
    fn wait(
        &mut self,
        mut work: Work,
        etag: Option<String>,
        reason: Option<LastError>,
        context: &Context<'_>,
    ) -> Effect {
        self.accepted(&mut work, context.now);
        self.last_error = reason;
        if self.is_over(&work, context) {
            let detail = self.last_error.as_ref().map_or_else(
                || "the vendor had no result before the deadline".to_owned(),
                |last| out_of_time(last.code, &last.detail).1,
            );
            return self.fail(FailureCode::DeadlineExceeded, detail, context.now);
        }
        let age = context.now.since(work.accepted_at.unwrap_or(context.now));
        work.due_at = context.now + context.policy.interval(age);
        work.etag = etag;
        self.work = Some(work);
        Effect::none()
    }

    fn faulted(&mut self, mut work: Work, fault: VendorFault, context: &Context<'_>) -> Effect {
        work.errors = work.errors.saturating_add(1);
        work.due_at = context.now + delay(&fault, work.errors, context);
        let over = self.is_over(&work, context);
        let (code, detail) = out_of_time(fault.code, &fault.detail);
        self.last_error = Some(LastError { code: fault.code, detail: fault.detail, at: context.now });
        if over {
            return self.fail(code, detail, context.now);
        }
        self.work = Some(work);
        Effect::none()
    }

    fn is_over(&self, work: &Work, context: &Context<'_>) -> bool {
        context.now.since(work.started_at) >= context.policy.deadline
    }

    fn complete(&mut self, mut work: Work, obtained: Box<VendorResult>, context: &Context<'_>) -> Effect {
        let first = self.status != Status::Completed;
        self.status = Status::Completed;
        self.revision = self.revision.saturating_add(1);
        self.finished_at = Some(context.now);
        self.failure = None;
        self.last_error = None;
        work.stage = Stage::Settle;
        work.due_at = context.now + context.policy.settle_after;
        work.errors = 0;
        work.keep_etag_of(&obtained);
        self.work = Some(work);
        let event = if first { EventKind::AnalysisCompleted } else { EventKind::AnalysisUpdated };
        Effect { event: Some(event), obtained: Some(obtained), ..Effect::none() }
    }

    /// Ends the current analysis or reanalysis without a result. A completed analysis stays completed and gets
    /// `last_error`.
    fn fail(&mut self, code: FailureCode, detail: String, now: Timestamp) -> Effect {
        self.work = None;
        if self.status == Status::Completed {
            let code = match code {
                FailureCode::CallNotFound => FaultCode::CallNotFound,
                FailureCode::ResultUnreadable => FaultCode::AnswerUnreadable,
                FailureCode::VendorRejected => FaultCode::VendorError,
                // The code comes from the last error of the round, if there was one.
                FailureCode::DeadlineExceeded => {
                    self.last_error.as_ref().map_or(FaultCode::VendorTimeout, |last| last.code)
                }
            };
            self.last_error = Some(LastError { code, detail, at: now });
            // The caller who requested the reanalysis waits for an event.
            return Effect { event: Some(EventKind::AnalysisUpdated), ..Effect::none() };
        }
        self.status = Status::Failed;
        self.finished_at = Some(now);
        self.failure = Some(Failure { code, detail, retryable: code != FailureCode::VendorRejected });
        Effect { event: Some(EventKind::AnalysisFailed), ..Effect::none() }
    }
}

/// Returns the failure of an analysis that reached its deadline. `code` and `detail` are the error of the last request.
fn out_of_time(code: FaultCode, detail: &str) -> (FailureCode, String) {
    let failure = match code {
        FaultCode::AnswerUnreadable => FailureCode::ResultUnreadable,
        _ => FailureCode::DeadlineExceeded,
    };
    (failure, format!("no result before the deadline; last error: {detail}"))
}

/// Returns the processing time of a result that the latest poll found. Returns `None` if the gateway did not see the
/// vendor's acceptance, or if errors delayed the poll. The processing time is then unknown.
fn processed(work: &Work, now: Timestamp) -> Option<ProcessingTime> {
    let accepted_at = work.accepted_at.filter(|_| work.stage == Stage::Poll && work.errors == 0)?;
    Some(ProcessingTime { found_after: now.since(accepted_at), at_first_poll: work.polls == 1 })
}

/// Returns whether the grace period of an unknown call is over. The period begins with the first answer for an unknown call.
fn is_missing(work: &mut Work, context: &Context<'_>) -> bool {
    let since = *work.missing_since.get_or_insert(context.now);
    context.now.since(since) >= context.policy.not_found_grace
}

fn not_found_detail(policy: &PollingPolicy, last: Option<&str>) -> String {
    let detail = format!("the vendor did not know the call for {} seconds", policy.not_found_grace.as_secs());
    match last {
        Some(last) => format!("{detail}; last error: {last}"),
        None => detail,
    }
}

fn delay(fault: &VendorFault, errors: u32, context: &Context<'_>) -> Duration {
    let backoff = match fault.code {
        // Only the operator can replace the token, so frequent requests do not help.
        FaultCode::TokenRefused => context.policy.max_interval,
        _ => context.policy.backoff(errors, context.jitter),
    };
    let floor = fault.retry_after.unwrap_or_default().min(PollingPolicy::MAX_RETRY_AFTER);
    backoff.max(floor)
}
