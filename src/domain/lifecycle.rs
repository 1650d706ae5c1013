//! How an analysis moves from state to state. Pure: the store runs it inside the transaction that writes it.
//!
//! ```text
//!            submit            confirm (outcome unknown)          poll                     settle
//! queued ──────────► accepted ────────────────────────► processing ──► completed ──► (revision) ──► rest
//!    ▲                          vendor denies the call │         │
//!    └─────────────────────────────────────────────────┘         └──► failed
//! ```
//!
//! Claiming a `Submit` writes `Confirm` to disk before the request leaves (see `store`), so that a crash at any
//! moment finds a row that asks for the result first and sends the call again only if the vendor denies it.

mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::steps::{Context, Effect, PollOutcome, Step, SubmitOutcome, VendorFault};
use super::analysis::{
    Analysis, Failure, FailureCode, FaultCode, LastError, Stage, Status, Submission, VendorResult, Work,
};
use super::clock::Timestamp;
use super::events::EventKind;
use super::pace::{Pace, ProcessingTime};
use super::polling::PollingPolicy;

impl Analysis {
    /// Takes a step; the work must be under way.
    pub fn apply(&mut self, step: Step, context: &Context<'_>) -> Effect {
        let Some(mut work) = self.work.take() else { return Effect::none() };
        work.leased = false;
        let effect = match step {
            Step::Submitted(outcome) => self.submitted(work, outcome, context),
            Step::Polled(outcome) if work.stage == Stage::Settle => self.settled(work, outcome, context),
            Step::Polled(outcome) => self.polled(work, outcome, context),
        };
        if let Some(work) = &mut self.work
            && !matches!(work.stage, Stage::Settle)
        {
            // The last look happens on the deadline, not an interval after it.
            let deadline = work.started_at + context.policy.deadline;
            work.due_at = work.due_at.min(deadline.max(context.now + context.policy.min_interval));
        }
        effect
    }

    /// Takes a finished answer for a call that was never submitted here.
    pub fn adopt(&mut self, obtained: Box<VendorResult>, context: &Context<'_>) -> Effect {
        let work = self.work.take().unwrap_or_else(|| Work::begin(context.now));
        self.complete(work, obtained, context)
    }

    /// Ends a round that is past its deadline without another look, for when the vendor cannot be asked. Changes nothing
    /// before the deadline, nor what only settles.
    pub fn expire(&mut self, context: &Context<'_>) -> Effect {
        let Some(work) = self.work.take() else { return Effect::none() };
        if work.stage == Stage::Settle || !self.is_over(&work, context) {
            self.work = Some(work);
            return Effect::none();
        }
        match &self.last_error {
            Some(last) => {
                let (code, detail) = out_of_time(last.code, &last.detail);
                self.fail(code, detail, context.now)
            }
            None => {
                let detail = "the vendor could not be asked before the deadline".to_owned();
                self.fail(FailureCode::DeadlineExceeded, detail, context.now)
            }
        }
    }

    /// A further submission: replaces metadata, and begins a new round if asked to and none is under way.
    ///
    /// A completed analysis stays completed while it is analysed anew; a failed one begins again.
    pub fn resubmitted(&mut self, submission: &Submission, now: Timestamp) {
        if let Some(metadata) = &submission.metadata {
            self.metadata = metadata.clone();
        }
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

    /// Whether an outcome is still to come.
    pub fn is_under_way(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.stage != Stage::Settle)
    }

    fn submitted(&mut self, mut work: Work, outcome: SubmitOutcome, context: &Context<'_>) -> Effect {
        match outcome {
            SubmitOutcome::Accepted => {
                self.accepted(&mut work, context.now);
                work.missing_since = None;
                work.due_at = context.now + Pace::first_look(context.pace, context.policy);
                self.work = Some(work);
                Effect::none()
            }
            SubmitOutcome::NotTaken(fault) => {
                let unknown_call = fault.code == FaultCode::CallNotFound;
                if unknown_call && is_missing(&mut work, context) {
                    return self.fail(
                        FailureCode::CallNotFound,
                        not_found_detail(context.policy),
                        context.now,
                    );
                }
                work.stage = Stage::Submit;
                self.faulted(work, fault, context)
            }
            SubmitOutcome::Unknown(fault) => {
                work.stage = Stage::Confirm;
                self.faulted(work, fault, context)
            }
            SubmitOutcome::Rejected(status) => self.rejected(status, context.now),
        }
    }

    fn polled(&mut self, mut work: Work, outcome: PollOutcome, context: &Context<'_>) -> Effect {
        let now = context.now;
        let confirming = work.stage == Stage::Confirm;
        work.polls = work.polls.saturating_add(1);
        match outcome {
            PollOutcome::Ready(obtained) => {
                let as_before = context.current.is_some_and(|current| *current == obtained.result);
                let since = work.accepted_at.unwrap_or(now);
                if as_before && now.since(since) < context.policy.empty_grace {
                    // Analysed anew, and the vendor still shows the old result.
                    return self.wait(work, None, context);
                }
                let pace = processed(&work, now)
                    .and_then(|processed| Pace::learn(context.pace, processed, context.policy, now));
                return Effect { pace, ..self.complete(work, obtained, context) };
            }
            PollOutcome::Empty(_) if context.current.is_some_and(|held| !held.transcript.is_empty()) => {
                // Analysed anew, and the vendor cleared the old result: nothing takes the place of talk.
                return self.wait(work, None, context);
            }
            PollOutcome::Empty(obtained) => {
                work.missing_since = None;
                let since = *work.empty_since.get_or_insert(now);
                if now.since(since) >= context.policy.empty_grace {
                    return self.complete(work, obtained, context);
                }
                // No ETag: the look that ends the grace period needs the answer, not a 304.
                return self.wait(work, None, context);
            }
            PollOutcome::NotReady { etag, retry_after } => {
                (work.empty_since, work.missing_since) = (None, None);
                let effect = self.wait(work, etag, context);
                if let (Some(work), Some(floor)) = (&mut self.work, retry_after) {
                    work.due_at = work.due_at.max(context.now + floor.min(PollingPolicy::MAX_RETRY_AFTER));
                }
                return effect;
            }
            PollOutcome::Unchanged => {
                work.missing_since = None;
                let etag = work.etag.take();
                return self.wait(work, etag, context);
            }
            PollOutcome::NotFound if confirming => {
                if self.is_over(&work, context) {
                    return self.fail(
                        FailureCode::DeadlineExceeded,
                        "the vendor did not take the call before the deadline".to_owned(),
                        now,
                    );
                }
                // The vendor denies the call: the submit of unknown outcome was not taken. Or it was, and is not known
                // everywhere yet: a second submit may be billed, so the denial has to last.
                let since = *work.denied_since.get_or_insert(now);
                if now.since(since) >= context.policy.first_after {
                    work.stage = Stage::Submit;
                    work.due_at = now;
                } else {
                    work.due_at = now + context.policy.first_after.max(context.policy.min_interval);
                }
            }
            PollOutcome::NotFound => {
                if is_missing(&mut work, context) {
                    return self.fail(FailureCode::CallNotFound, not_found_detail(context.policy), now);
                }
                work.empty_since = None;
                return self.wait(work, None, context);
            }
            PollOutcome::Rejected(status) => return self.rejected(status, now),
            PollOutcome::Fault(fault) => return self.faulted(work, fault, context),
        }
        self.work = Some(work);
        Effect::none()
    }

    fn settled(&mut self, mut work: Work, outcome: PollOutcome, context: &Context<'_>) -> Effect {
        const SETTLE_TRIES: u32 = 3;
        match outcome {
            PollOutcome::Ready(obtained) if context.current != Some(&obtained.result) => {
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
            // Whatever else it says now, a completed analysis does not step back.
            _ => Effect::none(),
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

    /// The vendor has the call and no result yet.
    fn wait(&mut self, mut work: Work, etag: Option<String>, context: &Context<'_>) -> Effect {
        self.accepted(&mut work, context.now);
        if self.is_over(&work, context) {
            return self.fail(
                FailureCode::DeadlineExceeded,
                "the vendor had no result before the deadline".to_owned(),
                context.now,
            );
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
        work.etag.clone_from(&obtained.etag);
        self.work = Some(work);
        let event = if first { EventKind::AnalysisCompleted } else { EventKind::AnalysisUpdated };
        Effect { event: Some(event), obtained: Some(obtained), ..Effect::none() }
    }

    fn rejected(&mut self, status: u16, now: Timestamp) -> Effect {
        self.fail(FailureCode::VendorRejected, format!("the vendor answered {status}"), now)
    }

    /// Ends the round without a result. What was completed before stays so, and only says why it is not newer.
    fn fail(&mut self, code: FailureCode, detail: String, now: Timestamp) -> Effect {
        self.work = None;
        if self.status == Status::Completed {
            let code = match code {
                FailureCode::CallNotFound => FaultCode::CallNotFound,
                FailureCode::ResultUnreadable => FaultCode::AnswerUnreadable,
                FailureCode::VendorRejected => FaultCode::VendorError,
                // What stood in the way to the end, if anything did.
                FailureCode::DeadlineExceeded => {
                    self.last_error.as_ref().map_or(FaultCode::VendorTimeout, |last| last.code)
                }
            };
            self.last_error = Some(LastError { code, detail, at: now });
            // Whoever asked for it waits for an end.
            return Effect { event: Some(EventKind::AnalysisUpdated), ..Effect::none() };
        }
        self.status = Status::Failed;
        self.finished_at = Some(now);
        self.failure = Some(Failure { code, detail, retryable: code != FailureCode::VendorRejected });
        Effect { event: Some(EventKind::AnalysisFailed), ..Effect::none() }
    }
}

/// How a round fails whose last try before the deadline went so.
fn out_of_time(code: FaultCode, detail: &str) -> (FailureCode, String) {
    let failure = match code {
        FaultCode::AnswerUnreadable => FailureCode::ResultUnreadable,
        _ => FailureCode::DeadlineExceeded,
    };
    (failure, format!("no result before the deadline; the last try: {detail}"))
}

/// How long the vendor took for a result that a look, counted already, found now; `None` if that cannot be told: the
/// vendor's acceptance was not seen, or faults in a row have kept the look from coming when it was due.
fn processed(work: &Work, now: Timestamp) -> Option<ProcessingTime> {
    let accepted_at = work.accepted_at.filter(|_| work.stage == Stage::Poll && work.errors == 0)?;
    Some(ProcessingTime { found_after: now.since(accepted_at), at_first_look: work.polls == 1 })
}

/// Whether the vendor has not known the call for so long that it will not.
fn is_missing(work: &mut Work, context: &Context<'_>) -> bool {
    let since = *work.missing_since.get_or_insert(context.now);
    context.now.since(since) >= context.policy.not_found_grace
}

fn not_found_detail(policy: &PollingPolicy) -> String {
    format!("the vendor did not know the call for {} seconds", policy.not_found_grace.as_secs())
}

fn delay(fault: &VendorFault, errors: u32, context: &Context<'_>) -> Duration {
    let backoff = match fault.code {
        // Only the operator can mend it: asking often does not help.
        FaultCode::TokenRefused => context.policy.max_interval,
        _ => context.policy.backoff(errors, context.jitter),
    };
    let floor = fault.retry_after.unwrap_or_default().min(PollingPolicy::MAX_RETRY_AFTER);
    backoff.max(floor)
}
