//! The faults of a storm.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::postgres::link::Passage;
use crate::postgres::server::Shutdown;

/// Maximum steps of a clock in seconds. Without the clock guard, a gateway whose clock is wrong by days deletes and fails everything.
const MAX_STEPS: [i64; 3] = [120, 3 * 24 * 3600, 800 * 24 * 3600];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite,
    Postgres,
}

/// A fault that begins and ends. A number is the slot of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9`. Another process replaces the replica.
    Kill(usize),
    /// SIGTERM. Another process replaces the replica.
    Replace(usize),
    /// SIGSTOP for longer than a lease, then SIGCONT.
    Pause(usize),
    /// The clock of the replica is stepped by seconds, and set back at the end.
    Clock(usize, i64),
    /// The clock of the PostgreSQL server is stepped by seconds, and set back at the end.
    ServerClock(i64),
    /// Fault of the connection between one replica and PostgreSQL.
    Link(usize, Passage),
    /// Fault of the connections between all replicas and PostgreSQL.
    Links(Passage),
    /// PostgreSQL is stopped and started again.
    Server(Shutdown),
    /// No file can grow.
    DiskFull,
    /// The vendor does not answer.
    VendorHeld,
    /// The receivers reset all connections.
    ReceiversDown,
}

impl Fault {
    /// Name of the kind, for the tally.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill -9",
            Self::Replace(_) => "SIGTERM",
            Self::Pause(_) => "SIGSTOP",
            Self::Clock(..) => "clock stepped",
            Self::ServerClock(_) => "server's clock stepped",
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
            Self::Kill(slot)
            | Self::Replace(slot)
            | Self::Pause(slot)
            | Self::Clock(slot, _)
            | Self::Link(slot, _) => Some(slot),
            Self::ServerClock(_)
            | Self::Links(_)
            | Self::Server(_)
            | Self::DiskFull
            | Self::VendorHeld
            | Self::ReceiversDown => None,
        }
    }

    /// Whether a clock is stepped.
    pub(super) const fn is_of_clock(self) -> bool {
        matches!(self, Self::Clock(..) | Self::ServerClock(_))
    }

    /// Whether PostgreSQL or the connection to it is affected.
    pub(super) const fn is_of_store(self) -> bool {
        matches!(self, Self::Link(..) | Self::Links(_) | Self::Server(_))
    }

    /// Number of client requests that must end before the fault ends. It is higher for faults that do not slow requests down.
    pub(super) fn hold(self, random: &mut StdRng) -> usize {
        match self {
            Self::Clock(..) | Self::ServerClock(_) | Self::VendorHeld | Self::ReceiversDown => {
                random.random_range(20..=100)
            }
            Self::Links(_) | Self::Link(..) | Self::Server(_) => random.random_range(1..=30),
            Self::Kill(_) | Self::Replace(_) | Self::Pause(_) | Self::DiskFull => random.random_range(1..=8),
        }
    }

    /// Whether both faults can happen at the same time, because they affect different parts.
    pub(super) fn goes_with(self, other: Self) -> bool {
        // A process must run and write to notice a full disk.
        let of_process = |fault: Self| fault.replica().is_some() && !matches!(fault, Self::Clock(..));
        let is_full = |fault| fault == Self::DiskFull;
        self.name() != other.name()
            && (self.replica().is_none() || self.replica() != other.replica())
            && !(self.is_of_store() && other.is_of_store())
            && !(is_full(self) && of_process(other) || of_process(self) && is_full(other))
    }
}

/// A random step of a clock.
fn step(random: &mut StdRng) -> i64 {
    let most = *MAX_STEPS.choose(random).unwrap();
    random.random_range(1..=most) * if random.random_bool(0.5) { 1 } else { -1 }
}

/// A random step of one of the clocks.
pub(super) fn clock_step(engine: Engine, random: &mut StdRng) -> Fault {
    match engine {
        Engine::Postgres if random.random_bool(0.5) => Fault::ServerClock(step(random)),
        Engine::Postgres => Fault::Clock(random.random_range(0..3), step(random)),
        Engine::Sqlite => Fault::Clock(0, step(random)),
    }
}

/// One random fault of each kind.
pub(super) fn kinds(engine: Engine, random: &mut StdRng) -> Vec<Fault> {
    let passages = [Passage::Requests, Passage::Nothing, Passage::Cut];
    let ends = [Shutdown::Fast, Shutdown::Immediate, Shutdown::Kill];
    let steps = [step(random), step(random)];
    let mut slot = || if engine == Engine::Postgres { random.random_range(0..3) } else { 0 };
    let mut kinds = vec![
        Fault::Kill(slot()),
        Fault::Replace(slot()),
        Fault::Pause(slot()),
        Fault::Clock(slot(), steps[0]),
    ];
    kinds.extend([Fault::VendorHeld, Fault::ReceiversDown]);
    match engine {
        Engine::Sqlite => kinds.push(Fault::DiskFull),
        Engine::Postgres => {
            let slot = slot();
            kinds.push(Fault::Link(slot, *passages.choose(random).unwrap()));
            kinds.push(Fault::Links(*passages.choose(random).unwrap()));
            kinds.push(Fault::Server(*ends.choose(random).unwrap()));
            kinds.push(Fault::ServerClock(steps[1]));
        }
    }
    kinds
}
