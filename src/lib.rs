//! A gateway in front of AloVoice speech analytics.
//!
//! # Modules
//!
//! Dependencies point in one direction, and siblings never import each other. `tests/architecture.rs` checks this rule.
//!
//! ```text
//! domain ← {store, alovoice, callbacks, auth} ← analyses ← {workers, http} ← app ← {commands, sandbox} ← main
//! ```
//!
//! | module | content |
//! | --- | --- |
//! | [`domain`] | pure rules: identifiers, states and transitions, schedules, talk metrics. No I/O, no async, no framework |
//! | [`store`] | the only place with SQL, for SQLite and PostgreSQL. A state change, its event and its deliveries are written in one transaction |
//! | [`alovoice`] | the client of AloVoice. AloVoice's own terms (`stalk`, `aicallid`) and its token stay in this module |
//! | [`callbacks`] | signs deliveries, checks the addresses of receivers, and sends the deliveries |
//! | [`auth`] | checks tokens and loads the keys of the issuers |
//! | [`analyses`] | use cases: submit, get, wait, list, delete, follow events, manage webhooks. The module contains the cache |
//! | [`workers`] | background work: submit, poll, deliver, replay, retention, refresh of keys and secrets |
//! | [`http`] | the only place with the web framework, except for the start of the servers: one file per resource, one route table, one error table |
//! | [`app`] | the composition root: builds all components once, runs the gateway and shuts it down |
//! | [`commands`] | the command line: arguments, and one file per command |
//! | [`sandbox`] | the stand-in for AloVoice and the receiver of callbacks, used by the `sandbox` command and by tests |
//! | [`env`](mod@env) | clocks, randomness and metrics, built once and passed down |
//! | [`http_client`] | the base of every outgoing HTTP client |
//! | [`certificates`] | the verification of server certificates, the same for HTTP and PostgreSQL |
//! | [`config`], [`secrets`], [`tenants`], [`telemetry`] | settings, secrets that change while the gateway runs, tenants, logs, traces and metrics |
//!
//! # Life of a request
//!
//! `POST /v1/analyses` passes the middleware [`http::observe`], which gives the request an id and a span. The route table
//! ([`http::routes`]) names the handler in [`http::analyses`] and the scope that it needs. The extractor ([`http::request`])
//! verifies the token with [`auth`], finds the tenant in [`tenants`] and checks the rate limit. Only then does it read the
//! body, which becomes a [`domain::analysis::Submission`] or a problem that names every invalid field.
//! [`analyses::Analyses::submit`] checks the address of the callback and passes the submission to the [`store::Store`], which
//! commits it together with other submissions of the same moment. Then the gateway answers 202.
//!
//! The commit wakes the submitter ([`workers::VendorWorker`]). The submitter claims the call by a lease with a fencing token
//! and sends the request with [`alovoice::VendorClient`]. The outcome leads to a step of the
//! state machine in [`domain::lifecycle`]. The transaction that writes the outcome also applies this step. The poller works in
//! the same way until AloVoice has a result. The transaction that stores the result also writes the event and one delivery for
//! each callback and each matching webhook. Its commit wakes the [`workers::Deliverer`], waiting requests and the streams of
//! `GET /v1/events` ([`analyses::Feed`]).
//!
//! `GET /v1/analyses/{call_id}` is answered from the cache, else from the store. For a call that was never submitted, the
//! gateway asks AloVoice, and sends only one request even if many callers ask at the same time.

pub mod alovoice;
pub mod analyses;
pub mod app;
pub mod auth;
pub mod callbacks;
pub mod certificates;
pub mod commands;
pub mod config;
pub mod domain;
pub mod env;
pub mod http;
pub mod http_client;
pub mod sandbox;
pub mod secrets;
pub mod store;
pub mod telemetry;
pub mod tenants;
pub mod workers;
