//! A model of the vendor and of the gateway around the state machine: the vendor answers unknown calls in one form, loses the
//! first submits, and the process crashes.

use std::collections::VecDeque;

use super::*;
use crate::domain::answer_shape::AnswerShape;
use crate::domain::vendor_token::VendorToken;

/// Length of a lease with default settings.
const LEASE: Duration = Duration::from_secs(32);
/// Time that a request takes.
const REQUEST: Duration = Duration::from_millis(200);

/// Form of the vendor's answer for a call that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownForm {
    NotFound,
    BadRequest,
    NoContent,
    Null,
    Text,
    ErrorObject,
    EmptyStalk,
    /// The same answer as for a call whose result is not ready.
    LikePending,
    Redirect,
    /// An error of the vendor's program. Such an error may also mean an outage.
    ServerError,
}

impl UnknownForm {
    /// All forms except for the server error.
    pub(super) const ALL: [Self; 9] = [
        Self::NotFound,
        Self::BadRequest,
        Self::NoContent,
        Self::Null,
        Self::Text,
        Self::ErrorObject,
        Self::EmptyStalk,
        Self::LikePending,
        Self::Redirect,
    ];

    fn answer(self) -> (PollOutcome, AnswerShape) {
        let not_ready = || PollOutcome::NotReady { etag: None, retry_after: None, detail: None };
        let (status, outcome) = match self {
            Self::NotFound => (404, PollOutcome::NotFound(None)),
            Self::BadRequest => (400, PollOutcome::Rejected("the vendor answered 400".to_owned())),
            Self::NoContent => (204, not_ready()),
            Self::Null | Self::ErrorObject => (200, not_ready()),
            Self::Text => (200, PollOutcome::Fault(fault(FaultCode::AnswerUnreadable))),
            Self::EmptyStalk => (200, PollOutcome::Empty(obtained(""))),
            Self::LikePending => return pending(),
            Self::Redirect => (302, PollOutcome::Fault(fault(FaultCode::VendorError))),
            Self::ServerError => (500, PollOutcome::Fault(fault(FaultCode::VendorError))),
        };
        (outcome, AnswerShape::new(status, &format!("{self:?}"), "", ""))
    }
}

/// Returns the answer that the vendor gives to each request during maintenance.
fn maintenance() -> (PollOutcome, AnswerShape) {
    let outcome = PollOutcome::Fault(fault(FaultCode::AnswerUnreadable));
    (outcome, AnswerShape::new(200, "maintenance", "", ""))
}

fn pending() -> (PollOutcome, AnswerShape) {
    let outcome = PollOutcome::NotReady { etag: Some("\"p\"".to_owned()), retry_after: None, detail: None };
    (outcome, AnswerShape::new(200, "pending", "", ""))
}

/// Outcome of one submit at the vendor and on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SubmitFate {
    /// Time from the submit until the vendor knows the call; `None` if the vendor never knows the call.
    pub(super) accepted_after: Option<Duration>,
    /// Reason why the answer is lost; `None` if the answer arrives.
    pub(super) lost: Option<FaultCode>,
}

impl SubmitFate {
    pub(super) const ANSWERED: Self = Self { accepted_after: Some(Duration::ZERO), lost: None };
}

/// Parameters of one case.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) form: UnknownForm,
    /// Outcomes of the first submits. Later submits are accepted and answered.
    pub(super) fates: Vec<SubmitFate>,
    /// Index of the operation during which the process dies, and whether the process had already sent its request.
    pub(super) crash: Option<(usize, bool)>,
    /// Processing time of the call.
    pub(super) takes: Duration,
}

/// The lifecycle of one call together with a simulated vendor.
pub(super) struct Model {
    pub(super) scenario: LifecycleScenario,
    case: Case,
    fates: VecDeque<SubmitFate>,
    /// Times at which the vendor accepts the call.
    pub(super) accepted_at: Vec<Timestamp>,
    /// Times of the submits. The flag says whether the vendor already had the call.
    pub(super) submits: Vec<(Timestamp, bool)>,
    pub(super) probes: usize,
    probe_free_at: Timestamp,
    operations: usize,
    pub(super) now: Timestamp,
    /// Start and end of maintenance.
    maintenance: (Timestamp, Timestamp),
}

impl Model {
    /// Creates the model of a call that a tenant with this history submits at `start`.
    pub(super) fn new(case: Case, history: &LifecycleScenario, start: Timestamp) -> Self {
        let tenant = TenantId::parse("acme").unwrap();
        let scenario = LifecycleScenario {
            analysis: Analysis::begin(tenant, submission(false), start),
            pace: history.pace,
            learned: history.learned.clone(),
            held: None,
        };
        let fates = case.fates.iter().copied().collect();
        Self {
            scenario,
            case,
            fates,
            accepted_at: Vec::new(),
            submits: Vec::new(),
            probes: 0,
            probe_free_at: start,
            operations: 0,
            now: start,
            maintenance: (start, start),
        }
    }

    /// Adds maintenance of the vendor, in seconds after the start.
    pub(super) fn with_maintenance(mut self, from: u64, to: u64) -> Self {
        self.maintenance = (self.now + Duration::from_secs(from), self.now + Duration::from_secs(to));
        self
    }

    /// Works until the analysis has ended.
    pub(super) fn run(mut self) -> Self {
        while self.scenario.analysis.is_under_way() {
            let (stage, due_at) = (self.scenario.work().stage, self.scenario.work().due_at);
            self.now = self.now.max(due_at);
            let step = match stage {
                Stage::Submit => self.submit(),
                _ => self.poll(),
            };
            match step {
                Some(step) => {
                    let effect = self.scenario.step(self.now, step);
                    if let Some(since) = effect.probe {
                        self.probe(since);
                    }
                }
                // The process died. Another one continues when the lease ends.
                None => self.scenario.analysis.work.as_mut().unwrap().due_at = self.now + LEASE,
            }
        }
        self
    }

    fn submit(&mut self) -> Option<Step> {
        self.scenario.claim(self.now);
        if self.crashes(false) {
            return None;
        }
        let fate = self.fates.pop_front().unwrap_or(SubmitFate::ANSWERED);
        self.submits.push((self.now, self.knows_the_call()));
        self.accepted_at.extend(fate.accepted_after.map(|after| self.now + after));
        let outcome = match fate.lost {
            None => SubmitOutcome::Accepted,
            Some(code) => SubmitOutcome::Unknown(fault(code)),
        };
        let is_lost = self.crashes(true);
        self.now = self.now + REQUEST;
        self.operations += 1;
        (!is_lost).then_some(Step::Submitted(outcome))
    }

    fn poll(&mut self) -> Option<Step> {
        if self.crashes(false) {
            return None;
        }
        let ready_at = self.accepted_at.iter().map(|at| *at + self.case.takes).min();
        let (outcome, shape) = match ready_at {
            _ if self.is_in_maintenance() => answered(maintenance()),
            Some(ready_at) if ready_at <= self.now => (PollOutcome::Ready(obtained("salom")), None),
            _ if self.knows_the_call() => answered(pending()),
            _ => answered(self.case.form.answer()),
        };
        let is_lost = self.crashes(true);
        self.now = self.now + REQUEST;
        self.operations += 1;
        (!is_lost).then_some(Step::Answered(outcome, ShapedAnswer { shape, account: account() }))
    }

    fn probe(&mut self, since: Timestamp) {
        if self.now < self.probe_free_at
            || !self.scenario.learned.lacks_probe(since, self.now)
            || self.crashes(false)
        {
            return;
        }
        let began = self.now;
        let (_, shape) = if self.is_in_maintenance() { maintenance() } else { self.case.form.answer() };
        let is_lost = self.crashes(true);
        self.operations += 1;
        self.probes += 1;
        self.now = self.now + REQUEST;
        self.probe_free_at = self.now + if is_lost { LEASE } else { PollingPolicy::default().first_after };
        if !is_lost && self.scenario.learned.may_learn_unknown(shape) {
            self.scenario.learned.learn_unknown(shape, began);
        }
    }

    fn is_in_maintenance(&self) -> bool {
        let (from, to) = self.maintenance;
        from <= self.now && self.now < to
    }

    fn knows_the_call(&self) -> bool {
        self.accepted_at.iter().any(|at| *at <= self.now)
    }

    /// Whether the process dies at this moment. The process dies only once.
    fn crashes(&mut self, is_sent: bool) -> bool {
        let crashes = self.case.crash == Some((self.operations, is_sent));
        if crashes {
            self.case.crash = None;
            self.operations += 1;
        }
        crashes
    }
}

fn answered((outcome, shape): (PollOutcome, AnswerShape)) -> (PollOutcome, Option<AnswerShape>) {
    (outcome, Some(shape))
}

fn account() -> crate::domain::vendor_token::TokenFingerprint {
    VendorToken::parse("token").unwrap().fingerprint()
}
