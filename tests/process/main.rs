//! The real binary as a process of its own: killed at any moment, stopped, misused, searched for secrets, and seen
//! through the eyes of tools that others wrote.
//!
//! One test binary, since all of it needs the same things around the process (`stage`) and the same grip on it (`gateway`).

#![expect(clippy::unwrap_used, reason = "a test may fail at any line")]

mod audio_links;
mod audit;
mod blocks;
mod commands;
mod cors;
mod crash;
mod examples;
// Memory is read from /proc.
#[cfg(target_os = "linux")]
mod floods;
mod gateway;
mod keys;
mod leaks;
mod links;
mod operating;
mod peers;
#[path = "../postgres/mod.rs"]
#[expect(dead_code, reason = "each of the binaries that share it uses a part")]
mod postgres;
mod readme;
mod recipes;
mod reload;
mod restore;
mod rolling;
mod sandbox;
mod sealing;
mod stage;
mod stop;
mod store;
mod traces;
