//! Simulates the calls of one tenant in virtual time, with the real transitions and a vendor with known processing
//! times. The tests and `benches/polling.rs` share this module.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::domain::analysis::{Analysis, AnalysisResult, Stage, Submission, VendorResult};
use crate::domain::call_facts::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::learned_answers::LearnedAnswers;
use crate::domain::lifecycle::{Context, PollOutcome, Step, SubmitOutcome};
use crate::domain::pace::Pace;
use crate::domain::polling::PollingPolicy;
use crate::domain::trace::TraceContext;

const START: Timestamp = Timestamp::from_millis(1_716_207_617_000);
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Simulated call of the tenant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimulatedCall {
    /// Time from the start of the simulation to the submission.
    pub(crate) at: Duration,
    /// Processing time of the vendor.
    pub(crate) takes: Duration,
}

/// Result of one simulated call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimulatedOutcome {
    /// Polls until the result was found, without the poll for late tags.
    pub(crate) polls: u32,
    /// Delay until the result is found, as a share of the processing time.
    pub(crate) delay: f64,
}

/// Source of random calls that depend only on the seed.
pub(crate) struct SeededRandom(StdRng);

impl SeededRandom {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Returns a log-normal processing time with this median and spread.
    pub(crate) fn takes(&mut self, median: Duration, sigma: f64) -> Duration {
        // Box-Muller transform.
        let (u, v): (f64, f64) = (self.0.random(), self.0.random());
        let normal = (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        median.mul_f64((sigma * normal).exp())
    }

    /// Returns calls that arrive at random times, `apart` on average.
    pub(crate) fn calls(
        &mut self,
        count: usize,
        apart: Duration,
        median: Duration,
        sigma: f64,
    ) -> Vec<SimulatedCall> {
        let mut at = Duration::ZERO;
        let next = |_| {
            at += apart.mul_f64(-(1.0 - self.0.random::<f64>()).ln());
            SimulatedCall { at, takes: self.takes(median, sigma) }
        };
        (0..count).map(next).collect()
    }
}

/// The gateway's side of the simulation.
pub(crate) struct Simulation {
    policy: PollingPolicy,
    /// Round-trip time of a request. The vendor reads its clock after half of this time.
    latency: Duration,
    learns: bool,
    /// Estimate that the simulation has learned.
    pub(crate) pace: Option<Pace>,
}

struct CallInFlight {
    analysis: Analysis,
    takes: Duration,
    /// Time at which the vendor has the result.
    ready_at: Timestamp,
}

impl Simulation {
    pub(crate) fn new(policy: PollingPolicy, latency: Duration, learns: bool) -> Self {
        Self { policy, latency, learns, pace: None }
    }

    /// Runs all calls to their end. Each submit and each poll happens when it is due. Returns the outcomes in the order
    /// of `calls`.
    pub(crate) fn run(&mut self, calls: &[SimulatedCall]) -> Vec<SimulatedOutcome> {
        let mut underway: Vec<CallInFlight> = calls.iter().map(begin).collect();
        let mut outcomes = vec![SimulatedOutcome { polls: 0, delay: 0.0 }; calls.len()];
        // Answers are sorted by their time of arrival. A request is sent when its work is due.
        let due = |index: usize, underway: &[CallInFlight]| {
            let work = underway[index].analysis.work.as_ref()?;
            (work.stage != Stage::Settle).then(|| Reverse((work.due_at + self.latency, index)))
        };
        let mut answers: BinaryHeap<_> = (0..calls.len()).filter_map(|index| due(index, &underway)).collect();
        let (policy, latency, learns) = (&self.policy, self.latency, self.learns);
        while let Some(Reverse((now, index))) = answers.pop() {
            let call = &mut underway[index];
            let asked_at = Timestamp::from_millis(now.as_millis() - latency.as_millis() as i64 / 2);
            let step = call.answer(asked_at);
            let polls = call.analysis.work.as_ref().map_or(0, |work| work.polls);
            let context = Context {
                now,
                policy,
                jitter: 0.5,
                current: None,
                pace: self.pace,
                learned: &LearnedAnswers::nothing(),
            };
            let effect = call.analysis.apply(step, &context);
            if learns {
                self.pace = effect.pace.or(self.pace);
            }
            if effect.obtained.is_some() {
                let late = now.since(call.ready_at).as_secs_f64();
                outcomes[index] =
                    SimulatedOutcome { polls: polls + 1, delay: late / call.takes.as_secs_f64() };
            }
            answers.extend(due(index, &underway));
        }
        outcomes
    }
}

impl CallInFlight {
    fn answer(&mut self, asked_at: Timestamp) -> Step {
        let stage = self.analysis.work.as_ref().map(|work| work.stage);
        if stage == Some(Stage::Submit) {
            self.ready_at = asked_at + self.takes;
            Step::Submitted(SubmitOutcome::Accepted)
        } else if asked_at >= self.ready_at {
            let result = AnalysisResult {
                ai_call_id: None,
                begin_time: None,
                transcript: Vec::new(),
                tags: Vec::new(),
                audio_path: None,
                warnings: Vec::new(),
            };
            let obtained = VendorResult { result, vendor_answer: Vec::new().into(), etag: None };
            Step::Polled(PollOutcome::Ready(Box::new(obtained)))
        } else {
            Step::Polled(PollOutcome::NotReady { etag: None, retry_after: None, detail: None })
        }
    }
}

fn begin(call: &SimulatedCall) -> CallInFlight {
    let submission = Submission {
        call_id: CallId::parse("1716207617.42").unwrap(),
        callback: None,
        metadata: None,
        call: CallFacts::default(),
        reanalyze: false,
        trace: TraceContext::parse(TRACEPARENT).unwrap(),
    };
    let tenant = TenantId::parse("acme").unwrap();
    let at = START + call.at;
    CallInFlight { analysis: Analysis::begin(tenant, submission, at), takes: call.takes, ready_at: at }
}

/// Returns the quantile of the values by the nearest-rank method.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}
