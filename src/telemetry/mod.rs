//! Logs, traces and metrics: everything that operators see of a running gateway.

pub mod logs;
pub mod metrics;
pub mod traces;
