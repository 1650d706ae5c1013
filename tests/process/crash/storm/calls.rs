//! The calls of a storm, each with a behaviour of the vendor and of the receiver.

use std::net::Ipv4Addr;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::crash::random::VENDOR_BEHAVIOURS;

/// Further behaviours of a vendor with severe faults.
const SEVERE_BEHAVIOURS: [&str; 4] = ["hang", "submit-hang-lost", "result-429", "truncated"];

/// Behaviours of receivers (see `sandbox::receiver`). All of them accept the event in the end.
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

/// A call, and the behaviour of its receiver.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) answer: &'static str,
    /// The address of its receiver. With one receiver for all calls, a few bad answers would pause the callbacks of all calls.
    pub(super) receiver: Ipv4Addr,
    /// Whether two clients submit the call at the same time.
    pub(super) twice: bool,
}

impl Call {
    /// Chooses a random call with this name.
    pub(super) fn choose(name: &str, random: &mut StdRng) -> Self {
        let behaviours = [&VENDOR_BEHAVIOURS[..], &SEVERE_BEHAVIOURS].concat();
        Self {
            id: format!("{}~{name}", behaviours.choose(random).unwrap()),
            answer: ANSWERS.choose(random).unwrap(),
            receiver: Ipv4Addr::from_bits(0x7f00_0001 + random.random_range(0..0x00ff_fffe)),
            twice: random.random_bool(0.2),
        }
    }
}
