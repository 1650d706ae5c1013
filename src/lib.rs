//! A gateway in front of AloVoice speech analytics.

pub mod callbacks;
pub mod config;
pub mod domain;
