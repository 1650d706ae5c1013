//! A gateway in front of AloVoice speech analytics.
//!
//! # The house
//!
//! Work flows one way, and siblings never import each other; `tests/architecture.rs` fails on an import against it.
//!
//! ```text
//! domain ← {store, alovoice, callbacks, auth} ← analyses ← {workers, http} ← app ← {commands, sandbox} ← main
//! ```
//!
//! | part | what is there |
//! | --- | --- |
//! | [`domain`] | the pure heart: names, states and transitions, schedules, talk metrics. No I/O, no async, no framework |
//! | [`store`] | the only place with SQL. A change of state, its event and its deliveries are one transaction |
//! | [`alovoice`] | the vendor's client. Its words (`stalk`, `aicallid`) and its token stop here |
//! | [`callbacks`] | signs callbacks, keeps them from going inside, sends them |
//! | [`auth`] | who a token speaks for, and whose keys say so |
//! | [`analyses`] | the use cases: submit, get, wait, list, delete, follow the feed of events, manage webhooks; the cache lives here |
//! | [`workers`] | what goes on without a caller: submit, poll, deliver, replay, refresh keys and secrets |
//! | [`http`] | the only place with the web framework (but for the servers' start): a file per resource, one table of errors |
//! | [`app`] | the composition root: builds everything once, runs it, drains it |
//! | [`commands`], [`cli`], [`sandbox`] | what the program can be told to do, and a vendor to try it against |
//! | [`env`](mod@env) | clocks, randomness and metrics, built once and passed down |
//! | [`config`], [`secrets`], [`tenants`], [`telemetry`] | settings, secrets that change while the program runs, tenants, and logs, traces and metrics |
//!
//! # The life of a request
//!
//! `POST /v1/analyses` passes [`http::observe`], which gives it an id and a trace. The route table ([`http::routes`]) names
//! its handler in [`http::analyses`] and the scope it needs. The extractor ([`http::request`]) lets [`auth`] verify the
//! token, finds the tenant in [`tenants`], counts the request against the rate limit, and only then reads the body. The
//! body becomes a [`domain::analysis::Submission`] or a problem that names every invalid field.
//! [`analyses::Analyses::submit`] looks at the callback's address and hands over to [`store::Store`], whose writer
//! commits it together with what else came in that moment. Only then is 202 answered.
//!
//! The commit wakes the submitter ([`workers::VendorWorker`]). It claims the call by a lease with a fencing number,
//! asks [`alovoice::VendorClient`], and what came of that is a step of the state machine in [`domain::lifecycle`],
//! applied inside the transaction that writes it. The poller does the same until there is a result; that transaction
//! also writes the event and a delivery for each callback and each webhook that wants it, and wakes the
//! [`workers::Deliverer`], whoever waits and the streams of `GET /v1/events` ([`analyses::Feed`]).
//!
//! `GET /v1/analyses/{call_id}` is answered from memory if it can be, else from the store, and for a call that was
//! never submitted, from the vendor: once, however many ask.

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
