//! Transitions after a poll for a result.

use std::time::Duration;

use super::{Context, Effect, PollOutcome, delay, processed};
use crate::domain::analysis::{
    Analysis, AnalysisResult, FailureCode, FaultCode, LastError, MissingContent, Stage, VendorResult, Work,
};
use crate::domain::answer_shape::AnswerShape;
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::learned_answers::{Judgement, Meaning};
use crate::domain::pace::Pace;
use crate::domain::polling::PollingPolicy;

impl Analysis {
    /// Applies the outcome of a poll. `shape` is the shape of the answer.
    pub(super) fn answered(
        &mut self,
        work: Work,
        outcome: PollOutcome,
        shape: Option<AnswerShape>,
        context: &Context<'_>,
    ) -> Effect {
        match work.stage {
            Stage::Settle => self.settled(work, outcome, context),
            Stage::Refresh => self.refreshed(work, outcome, context),
            Stage::Submit | Stage::Confirm | Stage::Poll => self.polled(work, outcome, shape, context),
        }
    }

    /// Applies the outcome of a poll in an analysis round. `shape` is the shape of the answer.
    fn polled(
        &mut self,
        mut work: Work,
        outcome: PollOutcome,
        shape: Option<AnswerShape>,
        context: &Context<'_>,
    ) -> Effect {
        let confirming = work.stage == Stage::Confirm;
        work.polls = work.polls.saturating_add(1);
        if let PollOutcome::Ready(obtained) = outcome {
            return self.ready(work, obtained, context);
        }
        // Status 304 repeats the vendor's last answer.
        let shape = if outcome == PollOutcome::Unchanged { work.shapes.last().copied() } else { shape };
        // An error says nothing about the answers of calls in progress.
        let is_error = matches!(&outcome, PollOutcome::Fault(fault) if fault.code == FaultCode::VendorError);
        if let Some(shape) = shape.filter(|_| !is_error) {
            work.remember(shape);
        }
        let judgement = judge(&work, &outcome, shape, context);
        let (detail, retry_after) = explanation(&outcome);
        // A server error may mean an outage, so it is never evidence against an accepted call, and it leads to one more submit
        // at most.
        let is_outage = shape.is_some_and(AnswerShape::is_server_error) && !(confirming && work.submits <= 1);
        let mut effect = match (judgement.meaning, outcome) {
            (meaning, PollOutcome::Fault(fault)) if meaning == Meaning::Known || is_outage => {
                let probe = judgement.needs_probe.filter(|_| confirming);
                Effect { probe, ..self.faulted(work, fault, context) }
            }
            (Meaning::Known, outcome)
                if !confirming || judgement.needs_probe.is_none() && !is_unclear(&outcome, judgement) =>
            {
                self.known(work, outcome, judgement.needs_probe, context)
            }
            _ if confirming => self.unconfirmed(work, judgement, detail.as_deref(), context),
            _ => self.unknown(work, judgement, detail.as_deref(), context),
        };
        if let (Some(work), Some(floor)) = (&mut self.work, retry_after) {
            work.due_at = work.due_at.max(context.now + floor.min(PollingPolicy::MAX_RETRY_AFTER));
        }
        let unexpected = judgement.needs_probe.filter(|_| judgement.is_unexpected);
        let learnable = shape.filter(|shape| !shape.is_server_error());
        let overdue = || learnable.and_then(|_| context.learned.overdue_probe(context.now));
        effect.probe = effect.probe.or(unexpected).or_else(overdue);
        effect
    }

    /// Applies a result with turns.
    fn ready(&mut self, mut work: Work, obtained: Box<VendorResult>, context: &Context<'_>) -> Effect {
        let now = context.now;
        let as_before = context.current.is_some_and(|current| current.has_same_content(&obtained.result));
        if as_before && work.stage == Stage::Confirm {
            // The old result does not show whether the vendor analyses the call again.
            return self.unconfirmed(work, Judgement::certain(Meaning::Ambiguous), None, context);
        }
        let since = work.accepted_at.unwrap_or(now);
        let is_early = now.since(since) < context.policy.empty_grace;
        let missing = context.current.and_then(|current| obtained.result.lacks_most_talk_of(current));
        if missing.is_some() && is_early {
            // During a reanalysis, the vendor shows a part of the new result.
            return Effect { discarded: missing, ..self.wait(work, None, None, context) };
        }
        if as_before && is_early {
            // During a reanalysis, the vendor still shows the old result.
            return self.wait(work, None, None, context);
        }
        let pace = processed(&work, now)
            .and_then(|processed| Pace::learn(context.pace, processed, context.policy, now));
        let pending = std::mem::take(&mut work.shapes);
        let probe = context.learned.confirming_probe(now);
        Effect { pace, pending, probe, ..self.complete(work, obtained, context) }
    }

    /// Applies an answer without a result for a call that the vendor knows. If a probe is needed, the analysis round
    /// ends only after the probe or at the deadline.
    fn known(
        &mut self,
        mut work: Work,
        outcome: PollOutcome,
        needs_probe: Option<Timestamp>,
        context: &Context<'_>,
    ) -> Effect {
        let now = context.now;
        match outcome {
            PollOutcome::Empty(_) if context.current.is_some_and(|held| !held.transcript.is_empty()) => {
                // The vendor cleared the old result for the reanalysis. An empty result never replaces a transcript.
                self.wait(work, None, None, context)
            }
            PollOutcome::Empty(obtained) => {
                work.missing_since = None;
                let since = *work.empty_since.get_or_insert(now);
                let is_silent = now.since(since) >= context.policy.empty_grace;
                // Some vendors never answer a probe, so the wait for a probe ends at the deadline.
                if is_silent && (needs_probe.is_none() || self.is_over(&work, context)) {
                    return self.complete(work, obtained, context);
                }
                // The next request has no ETag: the poll that ends the grace period needs the answer, not a 304.
                Effect { probe: needs_probe.filter(|_| is_silent), ..self.wait(work, None, None, context) }
            }
            PollOutcome::NotReady { etag, detail, .. } => {
                (work.empty_since, work.missing_since) = (None, None);
                self.wait(work, etag, reason(FaultCode::NoResult, detail, now), context)
            }
            PollOutcome::Rejected(detail) if needs_probe.is_some() && !self.is_over(&work, context) => {
                let effect =
                    self.wait(work, None, reason(FaultCode::VendorError, Some(detail), now), context);
                Effect { probe: needs_probe, ..effect }
            }
            PollOutcome::Rejected(detail) => self.fail(FailureCode::VendorRejected, detail, now),
            PollOutcome::Fault(fault) => self.faulted(work, fault, context),
            PollOutcome::Unchanged | PollOutcome::NotFound(_) | PollOutcome::Ready(_) => {
                work.missing_since = None;
                let etag = work.etag.take();
                let reason = self.last_error.take().filter(|last| last.code == FaultCode::NoResult);
                self.wait(work, etag, reason, context)
            }
        }
    }

    /// Applies the outcome of the poll for late tags.
    fn settled(&mut self, mut work: Work, outcome: PollOutcome, context: &Context<'_>) -> Effect {
        const SETTLE_TRIES: u32 = 3;
        let missing = missing(&outcome, |result| result.lacks_any_of(context.current?));
        let errors = work.errors.saturating_add(1);
        let pause = match outcome {
            PollOutcome::Ready(_) if missing.is_some() => context.policy.backoff(errors, context.jitter),
            PollOutcome::Ready(obtained) | PollOutcome::Empty(obtained)
                if missing.is_none() && revises(context.current, &obtained.result) =>
            {
                self.revision = self.revision.saturating_add(1);
                return Effect {
                    event: Some(EventKind::AnalysisUpdated),
                    obtained: Some(obtained),
                    ..Effect::none()
                };
            }
            PollOutcome::Fault(fault) => delay(&fault, errors, context),
            // A completed analysis stays completed, even if the vendor reports a failure now.
            _ => return Effect { discarded: missing, ..Effect::none() },
        };
        if errors < SETTLE_TRIES {
            (work.errors, work.due_at) = (errors, context.now + pause);
            self.work = Some(work);
        }
        Effect { discarded: missing, ..Effect::none() }
    }
}

/// Returns the content that the result of a poll lacks. Returns `None` if nothing is missing, or if the poll found no result.
pub(super) fn missing(
    outcome: &PollOutcome,
    lacks: impl FnOnce(&AnalysisResult) -> Option<MissingContent>,
) -> Option<MissingContent> {
    match outcome {
        PollOutcome::Ready(obtained) | PollOutcome::Empty(obtained) => lacks(&obtained.result),
        _ => None,
    }
}

/// Whether a result revises the stored result of a completed analysis. A result without turns revises only a stored result
/// without turns, because a silent call may get tags late.
pub(super) fn revises(current: Option<&AnalysisResult>, result: &AnalysisResult) -> bool {
    match current {
        Some(current) if current.has_same_content(result) => false,
        Some(current) => current.transcript.is_empty() || !result.transcript.is_empty(),
        None => !result.transcript.is_empty(),
    }
}

/// Returns the meaning of an answer without a result. If there is no shape, `outcome` alone decides the meaning.
fn judge(work: &Work, outcome: &PollOutcome, shape: Option<AnswerShape>, context: &Context<'_>) -> Judgement {
    match (shape, outcome) {
        (Some(shape), _) => context.learned.judge(shape, work.sent_since(), context.now),
        (None, PollOutcome::NotFound(_)) => Judgement::certain(Meaning::Unknown { is_proven: true }),
        (None, _) => Judgement::certain(Meaning::Known),
    }
}

/// Whether the answer has an explanation that the vendor has not given before for a call whose result was not ready. Such an
/// answer does not show the outcome of a submit.
const fn is_unclear(outcome: &PollOutcome, judgement: Judgement) -> bool {
    judgement.is_unexpected && matches!(outcome, PollOutcome::NotReady { detail: Some(_), .. })
}

/// Returns the vendor's explanation as a text for people, and the vendor's `Retry-After`.
fn explanation(outcome: &PollOutcome) -> (Option<String>, Option<Duration>) {
    match outcome {
        PollOutcome::NotReady { retry_after, detail, .. } => (detail.clone(), *retry_after),
        PollOutcome::NotFound(detail) => (detail.clone(), None),
        PollOutcome::Rejected(detail) => (Some(detail.clone()), None),
        PollOutcome::Fault(fault) => (Some(fault.detail.clone()), fault.retry_after),
        PollOutcome::Ready(_) | PollOutcome::Empty(_) | PollOutcome::Unchanged => (None, None),
    }
}

/// Returns the error to show while the analysis waits, if the vendor explained its answer.
fn reason(code: FaultCode, detail: Option<String>, at: Timestamp) -> Option<LastError> {
    detail.map(|detail| LastError { code, detail, at })
}
