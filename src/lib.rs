//! A gateway in front of AloVoice speech analytics.

pub mod config;
pub mod domain;
pub mod sandbox;
