//! The faults there are.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::postgres::link::Passage;
use crate::postgres::server::Shutdown;

/// With the time that a storm takes, below the five minutes that receivers grant a signature.
const MAX_STEP: i64 = 120;

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
    pub(super) fn hold(self, random: &mut StdRng) -> usize {
        match self {
            Self::Clock(..) | Self::VendorHeld | Self::ReceiversDown => random.random_range(20..=100),
            Self::Links(_) | Self::Link(..) | Self::Server(_) => random.random_range(1..=30),
            Self::Kill(_) | Self::Replace(_) | Self::Pause(_) | Self::DiskFull => random.random_range(1..=8),
        }
    }

    /// Whether both can be at once: they are about different things.
    pub(super) fn goes_with(self, other: Self) -> bool {
        // Who is to run out of room must be there and write.
        let of_process = |fault: Self| fault.replica().is_some() && !matches!(fault, Self::Clock(..));
        let is_full = |fault| fault == Self::DiskFull;
        self.name() != other.name()
            && (self.replica().is_none() || self.replica() != other.replica())
            && !(self.is_of_store() && other.is_of_store())
            && !(is_full(self) && of_process(other) || of_process(self) && is_full(other))
    }
}

/// One of each kind.
pub(super) fn kinds(engine: Engine, random: &mut StdRng) -> Vec<Fault> {
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
