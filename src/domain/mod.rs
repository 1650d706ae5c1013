//! The pure heart: names, states, transitions, schedules. No I/O, no async, no framework.

pub mod analysis;
pub mod audio_link;
pub mod audit;
pub mod callback_url;
pub mod clock;
pub mod deliveries;
pub mod events;
pub mod feed;
pub mod ids;
pub mod lifecycle;
pub mod listing;
pub mod pace;
pub mod polling;
pub mod renderings;
pub mod resource;
pub mod retries;
pub mod sealing;
pub mod search;
pub mod secrets;
pub mod summary;
pub mod tags;
pub mod talk_metrics;
pub mod trace;
pub mod transcript;
pub mod usage;
