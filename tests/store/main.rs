//! The contract of the store, checked on both engines, and tests of each engine.

#![expect(clippy::unwrap_used, reason = "a test may fail at any line")]

mod cases;
#[path = "../support/clock.rs"]
mod clock;
mod contract;
mod copy;
mod harness;
mod lost_files;
#[path = "../support/patience.rs"]
mod patience;
mod postgres;
#[expect(dead_code, reason = "each of the binaries that share it uses a part")]
#[path = "../postgres/mod.rs"]
mod postgres_server;
#[path = "../support/rows.rs"]
mod rows;
mod sqlite;
