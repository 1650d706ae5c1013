//! What will happen in a storm, and when: made of a seed, before anything does.

use std::fmt;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::crash::random::PLOTS;
use crate::postgres::link::Passage;
use crate::postgres::server::Shutdown;

/// How many calls come with each blow.
const WAVE: usize = 30;
/// Blows in a storm.
const BLOWS: usize = 9;
/// With the time that a storm takes, below the five minutes that receivers grant a signature.
const MAX_STEP: i64 = 120;

/// More of them, for a vendor at its worst.
const WORSE_PLOTS: [&str; 4] = ["hang", "submit-hang-lost", "result-429", "truncated"];

/// How receivers answer, see `sandbox::receiver`: all of them well in the end.
const ANSWERS: [&str; 10] = [
    "ok",
    "ok",
    "ok",
    "ok",
    "500-twice",
    "503-twice",
    "reset-twice",
    "hang-twice",
    "drip-twice",
    "redirect-twice",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite,
    Postgres,
}

/// What happens to something, until it is over. Replicas are named by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9`; another process takes its place.
    Kill(usize),
    /// SIGTERM; another process takes its place.
    Replace(usize),
    /// SIGSTOP for longer than a lease, then SIGCONT.
    Pause(usize),
    /// Its machine's clock is set, and set back.
    Clock(usize, i64),
    /// Its way to the server.
    Link(usize, Passage),
    /// All of them.
    Links(Passage),
    /// The server ends, and is started again.
    Server(Shutdown),
    /// No file can grow.
    DiskFull,
    /// The vendor keeps its answers to itself.
    VendorHeld,
    /// The receivers reset all connections.
    ReceiversDown,
}

impl Fault {
    /// Its kind, as tallies call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill -9",
            Self::Replace(_) => "SIGTERM",
            Self::Pause(_) => "SIGSTOP",
            Self::Clock(..) => "clock stepped",
            Self::Link(..) => "replica cut off",
            Self::Links(_) => "all cut off",
            Self::Server(_) => "PostgreSQL down",
            Self::DiskFull => "disk full",
            Self::VendorHeld => "vendor held",
            Self::ReceiversDown => "receivers down",
        }
    }

    const fn replica(self) -> Option<usize> {
        match self {
            Self::Kill(place)
            | Self::Replace(place)
            | Self::Pause(place)
            | Self::Clock(place, _)
            | Self::Link(place, _) => Some(place),
            Self::Links(_) | Self::Server(_) | Self::DiskFull | Self::VendorHeld | Self::ReceiversDown => {
                None
            }
        }
    }

    /// Whether it is about PostgreSQL or the way there.
    pub(super) const fn is_of_store(self) -> bool {
        matches!(self, Self::Link(..) | Self::Links(_) | Self::Server(_))
    }

    /// How many requests of clients must end before it is over: more where they end as fast as ever.
    fn hold(self, random: &mut StdRng) -> usize {
        match self {
            Self::Clock(..) | Self::VendorHeld | Self::ReceiversDown => random.random_range(20..=100),
            Self::Links(_) | Self::Link(..) | Self::Server(_) => random.random_range(1..=30),
            Self::Kill(_) | Self::Replace(_) | Self::Pause(_) | Self::DiskFull => random.random_range(1..=8),
        }
    }

    /// Whether both can be at once: they are about different things.
    fn goes_with(self, other: Self) -> bool {
        // Who is to run out of room must be there and write.
        let of_process = |fault: Self| fault.replica().is_some() && !matches!(fault, Self::Clock(..));
        let is_full = |fault| fault == Self::DiskFull;
        self.name() != other.name()
            && (self.replica().is_none() || self.replica() != other.replica())
            && !(self.is_of_store() && other.is_of_store())
            && !(is_full(self) && of_process(other) || of_process(self) && is_full(other))
    }
}

/// What is waited for, counted from the begin of its wave. Each is sure to come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    Promises(usize),
    VendorRequests(usize),
    Callbacks(usize),
}

/// A call, and where its outcome is announced.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) answer: &'static str,
    /// Whether it is submitted twice at once.
    pub(super) twice: bool,
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

/// One of each kind.
fn kinds(engine: Engine, random: &mut StdRng) -> Vec<Fault> {
    let passages = [Passage::Requests, Passage::Nothing, Passage::Cut];
    let ends = [Shutdown::Fast, Shutdown::Immediate, Shutdown::Kill];
    let step = random.random_range(1..=MAX_STEP) * if random.random_bool(0.5) { 1 } else { -1 };
    let mut place = || if engine == Engine::Postgres { random.random_range(0..3) } else { 0 };
    let mut kinds = vec![
        Fault::Kill(place()),
        Fault::Replace(place()),
        Fault::Pause(place()),
        Fault::Clock(place(), step),
    ];
    kinds.extend([Fault::VendorHeld, Fault::ReceiversDown]);
    match engine {
        Engine::Sqlite => kinds.push(Fault::DiskFull),
        Engine::Postgres => {
            let place = place();
            kinds.push(Fault::Link(place, *passages.choose(random).unwrap()));
            kinds.push(Fault::Links(*passages.choose(random).unwrap()));
            kinds.push(Fault::Server(*ends.choose(random).unwrap()));
        }
    }
    kinds
}

impl Call {
    /// Any that ends well, of this name.
    pub(super) fn choose(name: &str, random: &mut StdRng) -> Self {
        let plots = [&PLOTS[..], &WORSE_PLOTS].concat();
        Self {
            id: format!("{}~{name}", plots.choose(random).unwrap()),
            answer: ANSWERS.choose(random).unwrap(),
            twice: random.random_bool(0.2),
        }
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
