//! What must hold whatever comes in from outside: a module for each way in, each with one `check` that panics if it does
//! not hold.
//!
//! The fuzz targets feed these checks with what a fuzzer thinks of; `tests/hostile` of the gateway includes this file
//! and feeds them with everything in `corpus/`, with each `cargo test`.

pub mod bearer_token;
pub mod callback_url;
pub mod jwks;
pub mod request_body;
pub mod request_head;
pub mod settings;
pub mod signers;
pub mod vendor_answer;
