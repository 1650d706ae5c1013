//! The calls of a storm: how each plays out at the vendor, and how its receiver behaves.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::crash::random::PLOTS;

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

/// A call, and where its outcome is announced.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) answer: &'static str,
    /// Whether it is submitted twice at once.
    pub(super) twice: bool,
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
