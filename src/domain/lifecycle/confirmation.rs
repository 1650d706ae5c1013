//! Transitions after an answer that may mean that the vendor does not know the call.

use std::time::Duration;

use super::{Confirmation, Context, Effect, is_missing, not_found_detail};
use crate::domain::analysis::{Analysis, FailureCode, FaultCode, LastError, Stage, Work};
use crate::domain::learned_answers::{Judgement, Meaning};
use crate::domain::pace::Pace;

/// The wait for a confirmation doubles with each submit. This constant is the maximum number of doublings.
const MAX_DOUBLINGS: u32 = 10;

impl Analysis {
    /// Applies an answer that does not confirm a submit of unknown outcome. Such an answer leaves the outcome unknown, or says
    /// that the vendor does not know the call. The gateway submits the call again only if the vendor gives such answers for long
    /// enough, because the vendor may bill a second submit.
    pub(super) fn unconfirmed(
        &mut self,
        mut work: Work,
        judgement: Judgement,
        detail: Option<&str>,
        context: &Context<'_>,
    ) -> Effect {
        let (now, policy) = (context.now, context.policy);
        if self.is_over(&work, context) {
            let words = last_answer(detail);
            let detail = format!("the vendor did not accept the call before the deadline{words}");
            return self.fail(FailureCode::DeadlineExceeded, detail, now);
        }
        let sent_at = work.sent_since();
        let next_poll = now + policy.interval(now.since(sent_at));
        if judgement.needs_probe.is_some() {
            work.due_at = next_poll;
            self.work = Some(work);
            return Effect { probe: judgement.needs_probe, ..Effect::none() };
        }
        let is_first = work.denied_since.is_none();
        // Some of the vendor's servers may not know the call yet, so one such answer is not enough.
        let lasting_at = *work.denied_since.get_or_insert(now) + policy.first_after;
        let patience = patience(judgement.meaning, work.submits, context);
        let resubmit_at = patience.map_or(lasting_at, |patience| lasting_at.max(sent_at + patience));
        let mut effect = Effect::none();
        if now >= resubmit_at {
            work.stage = Stage::Submit;
            work.due_at = now;
            effect.confirmation = Some(Confirmation::Resubmitted);
        } else if patience.is_some() {
            work.due_at = resubmit_at.min(next_poll).max(now + policy.min_interval);
            let seconds = resubmit_at.since(now).as_secs();
            let words = last_answer(detail);
            let detail = format!(
                "the vendor's answers do not show whether it accepted the call; without a result, the call is submitted \
                 again in {seconds} seconds{words}"
            );
            self.last_error = Some(LastError { code: FaultCode::SubmissionUnconfirmed, detail, at: now });
            effect.confirmation = is_first.then_some(Confirmation::Unconfirmed);
        } else {
            work.due_at = resubmit_at.max(now + policy.min_interval);
        }
        self.work = Some(work);
        effect
    }

    /// Applies an answer that the vendor also gives for unknown calls. The vendor has already accepted this call.
    pub(super) fn unknown(
        &mut self,
        mut work: Work,
        judgement: Judgement,
        detail: Option<&str>,
        context: &Context<'_>,
    ) -> Effect {
        work.empty_since = None;
        let reason =
            |code| detail.map(|detail| LastError { code, detail: detail.to_owned(), at: context.now });
        if judgement.meaning == Meaning::Ambiguous {
            work.missing_since = None;
            return self.wait(work, None, reason(FaultCode::NoResult), context);
        }
        if !is_missing(&mut work, context) {
            return self.wait(work, None, reason(FaultCode::CallNotFound), context);
        }
        if judgement.needs_probe.is_some() {
            let effect = self.wait(work, None, reason(FaultCode::CallNotFound), context);
            return Effect { probe: judgement.needs_probe, ..effect };
        }
        let detail = not_found_detail(context.policy, detail);
        self.fail(FailureCode::CallNotFound, detail, context.now)
    }
}

/// Returns the end of an error text. The end contains the vendor's last answer. The end is empty if there is no answer.
fn last_answer(detail: Option<&str>) -> String {
    detail.map(|detail| format!("; its last answer: {detail}")).unwrap_or_default()
}

/// Returns the time within which the result would most likely be ready after a submit of unknown outcome. Returns `None` if there
/// is no reason to wait, because the answer proves that the vendor does not know the call.
fn patience(meaning: Meaning, submits: u32, context: &Context<'_>) -> Option<Duration> {
    let doublings = submits.saturating_sub(1).min(MAX_DOUBLINGS);
    let patience = Pace::slowest(context.pace, context.policy).saturating_mul(2 << doublings);
    match meaning {
        Meaning::Unknown { is_proven: true } => None,
        // After the grace period, "not found" no longer means "not ready yet".
        Meaning::Unknown { is_proven: false } => Some(patience.min(context.policy.not_found_grace)),
        Meaning::Ambiguous | Meaning::Known => Some(patience),
    }
}
