//! Malformed input from outside: the corpus of the fuzzer, and input generated from grammars.
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
