//! The plan of a storm, made from a seed before the storm begins.

use std::fmt;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::calls::Call;
use super::fault::{Engine, Fault, clock_step, kinds};

/// Number of calls that start with each step.
const WAVE: usize = 30;
/// Number of steps in a storm.
const STEPS: usize = 9;

/// Event before the faults of a step, counted from the beginning of its wave. Each event is certain to happen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    Acknowledgements(usize),
    VendorRequests(usize),
    Callbacks(usize),
}

/// A wave of calls, a moment in it, and the faults at that moment.
#[derive(Debug)]
pub(super) struct FaultStep {
    pub(super) calls: Vec<Call>,
    pub(super) moment: Moment,
    /// Each fault with the number of client requests that must end before it ends. With a full disk, only refused requests count.
    pub(super) faults: Vec<(Fault, usize)>,
}

pub(super) struct Plan {
    pub(super) steps: Vec<FaultStep>,
}

impl Plan {
    /// Makes a plan. Without libfaketime it has no steps of clocks; with `STORM_CLOCK` set, every step of the plan has one that its
    /// first fault allows.
    pub(super) fn make(engine: Engine, random: &mut StdRng, with_clocks: bool) -> Self {
        let always_steps = with_clocks && std::env::var_os("STORM_CLOCK").is_some();
        let mut faults = kinds(engine, random);
        while faults.len() < STEPS {
            faults.push(*kinds(engine, random).choose(random).unwrap());
        }
        faults.retain(|fault| with_clocks || !fault.is_of_clock());
        faults.shuffle(random);
        let steps = faults.into_iter().enumerate().map(|(number, fault)| {
            let second = kinds(engine, random).choose(random).copied();
            let second = second.filter(|second| with_clocks || !second.is_of_clock());
            let second = second.filter(|second| fault.goes_with(*second) && random.random_bool(0.5));
            let second = if always_steps {
                Some(clock_step(engine, random)).filter(|step| fault.goes_with(*step))
            } else {
                second
            };
            let mut hold = |fault: Fault| (fault, fault.hold(random));
            let faults = [Some(fault), second].into_iter().flatten().map(&mut hold).collect();
            let calls = (0..WAVE).map(|call| Call::choose(&format!("{number}-{call}"), random)).collect();
            FaultStep { calls, moment: Moment::choose(random), faults }
        });
        Self { steps: steps.collect() }
    }
}

impl Moment {
    fn choose(random: &mut StdRng) -> Self {
        match random.random_range(0..3) {
            0 => Self::Acknowledgements(random.random_range(0..=WAVE)),
            1 => Self::VendorRequests(random.random_range(1..=2 * WAVE)),
            _ => Self::Callbacks(random.random_range(1..=WAVE)),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, FaultStep { calls, moment, faults }) in self.steps.iter().enumerate() {
            writeln!(f, "  {number}: {} calls; after {moment:?}: {faults:?}", calls.len())?;
        }
        Ok(())
    }
}
