//! A gateway in front of AloVoice speech analytics.

pub mod cli;
pub mod config;
pub mod domain;
pub mod telemetry;
pub mod tenants;
