//! Tests the verifier with keys generated at run time, an HTTP server for key sets, and a clock set by hand.

#![expect(clippy::unwrap_used, reason = "what fails while the stage is set fails the test")]

mod claim_forms;
#[path = "../support/clock.rs"]
mod clock;
mod clock_edges;
mod confusion;
mod explanations;
mod jwks_server;
mod key_files;
mod key_sets;
mod minting;
mod nested;
mod outages;
mod signer;
mod stage;
mod tokens;
mod unknown_keys;
