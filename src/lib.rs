//! A gateway in front of AloVoice speech analytics.
//!
//! # Modules
//!
//! Dependencies point in one direction, and siblings never import each other; `tests/architecture.rs` fails on an import
//! against this rule.
//!
//! ```text
//! domain ← {store, alovoice, callbacks, auth} ← analyses ← {workers, http} ← app ← {commands, sandbox} ← main
//! ```
//!
//! | module | content |
//! | --- | --- |
//! | [`domain`] | pure rules: identifiers, states and transitions, schedules, talk metrics. No I/O, no async, no framework |
//! | [`store`] | the only place with SQL. One transaction writes a change of state, its event and its deliveries |
//! | [`alovoice`] | the client of the vendor. The vendor's terms (`stalk`, `aicallid`) and its token stay inside |
//! | [`callbacks`] | signs callbacks, refuses internal addresses, and sends the callbacks |
//! | [`auth`] | verifies tokens and loads the keys of their issuers |
//! | [`analyses`] | the use cases: submit, get, wait, list, delete, read events, manage webhooks; contains the cache |
//! | [`workers`] | background work: submit, poll, deliver, replay, delete expired data, reload keys and secrets |
//! | [`http`] | the API, and the only place with the web framework except for the start of the servers |
//! | [`app`] | builds the gateway once, runs it and shuts it down |
//! | [`commands`], [`cli`], [`sandbox`] | the commands of the program, and a stand-in for the vendor |
//! | [`env`](mod@env) | clocks, randomness and metrics, built once and passed down |
//! | [`http_client`] | the base of every outgoing HTTP client |
//! | [`config`], [`secrets`], [`tenants`], [`telemetry`] | settings, secrets that change while the program runs, tenants, and logs, traces and metrics |
//!
//! # The life of a request
//!
//! `POST /v1/analyses` first passes [`http::observe`], which assigns a request id and a trace. The route table
//! ([`http::routes`]) names the handler in [`http::analyses`] and the required scope. The extractor ([`http::request`])
//! verifies the token with [`auth`], finds the tenant in [`tenants`], counts the request against the rate limit, and only
//! then reads the body. The body becomes a [`domain::analysis::Submission`], or a problem that names every invalid field.
//! [`analyses::Analyses::submit`] checks the callback's address and passes the submission to [`store::Store`], which
//! commits it together with other submissions of the same moment. After the commit the gateway answers 202.
//!
//! The commit wakes the submitter ([`workers::VendorWorker`]). The submitter claims the call with a lease and a fencing
//! token, and sends it with [`alovoice::VendorClient`]. The outcome is a step of the state machine in
//! [`domain::lifecycle`], which runs inside the transaction that writes the outcome. The poller works in the same way
//! until there is a result. The transaction with the result also writes the event and a delivery for each callback and
//! each subscribed webhook. Its commit wakes the [`workers::Deliverer`], waiting requests, and the streams of
//! `GET /v1/events` ([`analyses::Feed`]).
//!
//! `GET /v1/analyses/{call_id}` is answered from the cache, otherwise from the store. If the call was never submitted, the
//! gateway asks the vendor once, even if many callers ask at the same time.

pub mod alovoice;
pub mod analyses;
pub mod app;
pub mod auth;
pub mod callbacks;
pub mod cli;
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
