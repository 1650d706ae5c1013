//! What comes in from outside, at its worst: kept finds of a fuzzer (`corpus`), and what grammars of bad input make up.
//!
//! The checks are those of the fuzz targets.

#![expect(clippy::unwrap_used, reason = "a test may fail at any line")]

mod answers;
mod corpus;
mod files;
mod submissions;

#[expect(unreachable_pub, reason = "public for the fuzz targets, which are another crate")]
#[path = "../../fuzz/src/lib.rs"]
mod checks;
