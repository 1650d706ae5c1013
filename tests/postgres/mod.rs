//! A PostgreSQL server of the tests' own, and links to it that can be cut.
//!
//! Shared source: a test binary that needs it says `#[path = "../postgres/mod.rs"] mod postgres;`, and that it
//! expects `dead_code` if it does not use it all. Each binary starts a server at most once for all its tests
//! (`Server::shared`); a test that stops or kills its server starts another (`Server::start`). A server listens on
//! loopback only and dies with the process that started it, however that ends.

mod certificate;
mod cluster;
mod programs;
mod run;

pub(crate) mod database;
pub(crate) mod link;
pub(crate) mod server;
