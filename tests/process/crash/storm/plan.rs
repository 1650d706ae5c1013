//! What will happen in a storm, and when: made of a seed, before anything does.

use std::fmt;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::calls::Call;
use super::fault::{Engine, Fault, kinds};

/// How many calls come with each blow.
const WAVE: usize = 30;
/// Blows in a storm.
const BLOWS: usize = 9;

/// What is waited for, counted from the begin of its wave. Each is sure to come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    Promises(usize),
    VendorRequests(usize),
    Callbacks(usize),
}

/// A wave of calls, a moment in it, and what happens then.
#[derive(Debug)]
pub(super) struct Blow {
    pub(super) calls: Vec<Call>,
    pub(super) moment: Moment,
    /// Each with how many requests of clients must end before it is over, well or not; if the disk is full, be refused.
    pub(super) faults: Vec<(Fault, usize)>,
}

pub(super) struct Plan {
    pub(super) blows: Vec<Blow>,
}

impl Plan {
    pub(super) fn make(engine: Engine, random: &mut StdRng, with_clocks: bool) -> Self {
        let mut faults = kinds(engine, random);
        while faults.len() < BLOWS {
            faults.push(*kinds(engine, random).choose(random).unwrap());
        }
        faults.retain(|fault| with_clocks || !matches!(fault, Fault::Clock(..)));
        faults.shuffle(random);
        let blows = faults.into_iter().enumerate().map(|(number, fault)| {
            let second = kinds(engine, random).choose(random).copied();
            let second = second.filter(|second| with_clocks || !matches!(second, Fault::Clock(..)));
            let second = second.filter(|second| fault.goes_with(*second) && random.random_bool(0.5));
            let mut hold = |fault: Fault| (fault, fault.hold(random));
            let faults = [Some(fault), second].into_iter().flatten().map(&mut hold).collect();
            let calls = (0..WAVE).map(|call| Call::choose(&format!("{number}-{call}"), random)).collect();
            Blow { calls, moment: Moment::choose(random), faults }
        });
        Self { blows: blows.collect() }
    }
}

impl Moment {
    fn choose(random: &mut StdRng) -> Self {
        match random.random_range(0..3) {
            0 => Self::Promises(random.random_range(0..=WAVE)),
            1 => Self::VendorRequests(random.random_range(1..=2 * WAVE)),
            _ => Self::Callbacks(random.random_range(1..=WAVE)),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Blow { calls, moment, faults }) in self.blows.iter().enumerate() {
            writeln!(f, "  {number}: {} calls; after {moment:?}: {faults:?}", calls.len())?;
        }
        Ok(())
    }
}
