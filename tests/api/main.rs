//! The whole gateway over real sockets: a server on a free port, and stand-ins for the vendor and the receivers.
//!
//! Every answer that a test gets is also held against the OpenAPI document (`contract`).

#![expect(clippy::unwrap_used, reason = "a test may fail at any line")]

mod caller;
mod contract;
mod deadlines;
mod journey;
mod revisions;
mod stage;
mod vendor_forms;
