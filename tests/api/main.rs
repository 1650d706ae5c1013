//! Tests of the whole gateway over real sockets: a server on a free port, and stand-ins for the vendor and the receivers.
//!
//! `contract` also checks every response against the OpenAPI document. The store is a SQLite file, or a PostgreSQL database with
//! `TEST_STORE=postgres`.

#![expect(clippy::unwrap_used, reason = "an error fails the test")]

mod audio_links;
mod authorization;
mod batches;
mod breaker;
mod call_facts;
mod call_ids;
mod caller;
#[path = "../support/clock.rs"]
mod clock;
mod contract;
mod credentials;
mod crm_answers;
mod crms;
mod deadlines;
mod deletion;
mod deliveries;
mod draining;
mod event_requests;
mod event_streams;
mod events;
mod expensive_reads;
mod failing_calls;
mod filters;
mod heads;
mod idempotency;
mod input;
mod issuer;
mod journey;
mod lists;
mod lost_store;
mod metrics;
mod openapi;
mod operations;
mod outages;
mod outcomes;
mod pages;
#[path = "../support/patience.rs"]
mod patience;
#[expect(dead_code, reason = "each test binary uses a part of this shared source")]
#[path = "../postgres/mod.rs"]
mod postgres;
mod problems;
mod public_urls;
mod read_through;
mod reanalyses;
mod recordings;
mod refreshes;
mod renderings;
mod replays;
mod replicas;
mod representations;
mod request_order;
mod revisions;
#[expect(dead_code, reason = "each test binary uses a part of this shared source")]
#[path = "../support/rows.rs"]
mod rows;
mod sealed_urls;
mod secrecy;
mod silent_receivers;
mod stage;
mod submissions;
mod subscriber;
mod templates;
mod thin_payloads;
mod token_rotation;
mod transcripts;
mod transforms;
mod unknown_calls;
mod unreadable;
mod url_placeholders;
mod usage;
mod vendor_encodings;
mod vendor_forms;
mod vendor_oddities;
mod vendor_words;
mod webhook_health;
mod webhook_rates;
mod webhooks;
