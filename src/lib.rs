//! A gateway in front of AloVoice speech analytics.

pub mod analyses;
pub mod app;
pub mod auth;
pub mod callbacks;
pub mod cli;
pub mod commands;
pub mod config;
pub mod domain;
pub mod http;
pub mod metrics;
pub mod sandbox;
pub mod store;
pub mod telemetry;
pub mod tenants;
pub mod vendor;
pub mod workers;
