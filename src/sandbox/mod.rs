//! Peers to try the gateway against: a stand-in for the vendor and a receiver of callbacks.
//!
//! Both listen on a free port of the loopback interface, remember what they were asked, and can be told to misbehave.
//! They stand on a plain socket (`http`), since a web framework does not let one answer half a message or none.

mod gate;
mod http;
mod log;
pub mod receiver;
pub mod stand_in;
