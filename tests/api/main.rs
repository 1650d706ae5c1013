//! The whole gateway over real sockets: a server on a free port, and stand-ins for the vendor and the receivers.
//!
//! Every answer that a test gets is also held against the OpenAPI document (`contract`). The store is a file, or with
//! `TEST_STORE=postgres` a database on a server: the API is the same.

#![expect(clippy::unwrap_used, reason = "a test may fail at any line")]

mod audio_links;
mod authorization;
mod batches;
mod breaker;
mod caller;
mod contract;
mod credentials;
mod deadlines;
mod deletion;
mod deliveries;
mod draining;
mod event_streams;
mod events;
mod idempotency;
mod input;
mod issuer;
mod journey;
mod lists;
mod metrics;
mod openapi;
mod operations;
mod outages;
mod pages;
#[expect(dead_code, reason = "each of the binaries that share it uses a part")]
#[path = "../postgres/mod.rs"]
mod postgres;
mod problems;
mod read_through;
mod recordings;
mod replays;
mod replicas;
mod representations;
mod request_order;
mod revisions;
#[expect(dead_code, reason = "each of the binaries that share it uses a part")]
#[path = "../support/rows.rs"]
mod rows;
mod secrecy;
mod stage;
mod submissions;
mod subscriber;
mod transcripts;
mod usage;
mod vendor_forms;
mod webhook_health;
mod webhooks;
