//! A PostgreSQL server for tests, and links to it that a test can interrupt.
//!
//! Test binaries share this source with `#[path = "../postgres/mod.rs"] mod postgres;` and expect `dead_code` if they use only a
//! part of it. All tests of a binary share one server (`Server::shared`). A test that stops or kills its server starts its own
//! (`Server::start`). A server listens on loopback only, and ends with the process that started it, even after a crash.

mod certificate;
pub(crate) mod cluster;
mod programs;
mod run;

pub(crate) mod database;
pub(crate) mod link;
pub(crate) mod pooler;
pub(crate) mod server;
#[path = "../support/stepped_clock.rs"]
pub(crate) mod stepped_clock;
