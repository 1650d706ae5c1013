//! The client of the vendor, AloVoice.
//!
//! The vendor's own names (`stalk`, `aicallid`) stay inside this module. The vendor token stays inside too: one line of
//! `client` puts it into a URL, and no error, log line or answer that leaves the module contains a URL.
//!
//! - `client` sends the requests; `answer` and `json` read the results; `recordings` streams the recordings.
//! - `permits` limits the concurrent requests of each tenant; `circuit_breaker` pauses a tenant whose requests fail.
//! - `body_budget` limits the memory of all answers together.

mod answer;
mod body_budget;
mod circuit_breaker;
mod client;
mod exchange;
mod faults;
mod json;
mod permits;
mod recordings;

pub use self::answer::read_answer;
pub use self::body_budget::BodyPermit;
pub use self::client::{VendorCall, VendorClient};
pub use self::permits::{CircuitOpen, FreePermits, VendorPermit, VendorPermits};
pub use self::recordings::{REQUEST_HEADERS, Recording, RecordingRequest};
