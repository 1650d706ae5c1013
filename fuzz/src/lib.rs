//! Properties that hold for all input from outside. Each kind of input has a module with one function `check`, which panics if
//! a property does not hold.
//!
//! The fuzz targets call these checks with generated input. `tests/hostile` of the gateway includes this file and calls them with
//! every file in `corpus/`, in each `cargo test`.

pub mod bearer_token;
pub mod callback_url;
pub mod jwks;
pub mod request_body;
pub mod request_head;
pub mod settings;
pub mod signers;
pub mod vendor_answer;
