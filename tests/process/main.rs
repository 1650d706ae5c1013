//! Tests of the gateway's binary as a separate process: crashes, shutdown, commands, leaks of secrets, and third-party tools.
//!
//! All tests share the environment of the process (`stage`) and its control (`gateway`).

#![expect(clippy::unwrap_used, reason = "a test may fail at any line")]

mod audio_links;
mod audit;
mod blocks;
mod clocks;
mod commands;
mod cors;
mod crash;
mod crms;
mod examples;
#[cfg(target_os = "linux")]
#[path = "../../benches/peers/fill.rs"]
mod fill;
// Memory is read from /proc.
#[cfg(target_os = "linux")]
mod floods;
#[path = "../support/forward_proxy.rs"]
#[expect(dead_code, reason = "each test binary uses only a part of it")]
mod forward_proxy;
mod gateway;
#[cfg(target_os = "linux")]
mod hanging_peers;
mod identity;
mod keys;
mod leaks;
mod links;
mod network;
mod operating;
mod outcomes;
mod peers;
mod pooler;
#[path = "../postgres/mod.rs"]
#[expect(dead_code, reason = "each test binary uses only a part of it")]
mod postgres;
mod readme;
mod recipes;
mod reload;
mod restore;
mod rolling;
mod sandbox;
mod sealing;
#[cfg(target_os = "linux")]
mod soak;
mod stage;
mod stop;
mod store;
#[path = "../support/tls_server.rs"]
#[expect(dead_code, reason = "each test binary uses only a part of it")]
mod tls_server;
mod traces;
