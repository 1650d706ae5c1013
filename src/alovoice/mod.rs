//! The client of the vendor, AloVoice.
//!
//! The vendor's own names (`stalk`, `aicallid`) stay inside this module. The vendor token stays inside too: one line of
//! `client` puts it into a URL, and no error, log line or answer that leaves the module contains a URL.
//!
//! - `client` sends the requests; `recordings` streams the recordings; `connection` checks that the vendor answers.
//! - `answer` reads the results: `encoding` decodes the bytes, `document` finds the JSON, `repair` corrects it, and `json`
//!   reads its parts. `words` finds the vendor's explanation in an answer without a result, and `error_body` reads such
//!   answers.
//! - `results` requests results, and `probe` requests the result of a call that cannot exist. `shape` derives the shape of
//!   an answer: the answer without ids and times. Similar answers have the same shape.
//! - `exchange` reports each request in metrics, spans and logs; `faults` has the reasons why requests fail.
//! - `permits` limits the concurrent requests of each tenant; `circuit_breaker` pauses a tenant whose requests fail.
//! - `vendor_time` reads the vendor's clock. [`domain::clock_guard`](crate::domain::clock_guard) compares the gateway's
//!   clock with it.
//! - `body_budget` limits the memory of all answers together.

mod answer;
mod body_budget;
mod circuit_breaker;
mod client;
mod connection;
mod document;
mod encoding;
mod error_body;
mod exchange;
mod faults;
mod json;
mod permits;
mod probe;
mod recordings;
mod repair;
mod results;
mod shape;
mod vendor_time;
mod words;

pub use self::answer::AnswerReader;
pub use self::body_budget::BodyPermit;
pub use self::client::{VendorCall, VendorClient};
pub use self::connection::check_connection;
pub use self::permits::{CircuitOpen, FreePermits, VendorPermit, VendorPermits};
pub use self::recordings::{REQUEST_HEADERS, Recording, RecordingRequest};
pub use self::results::VendorAnswer;
