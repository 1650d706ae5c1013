//! A gateway in front of AloVoice speech analytics.

pub mod auth;
pub mod config;
pub mod domain;
