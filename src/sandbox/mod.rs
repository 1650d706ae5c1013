//! Peers for trying the gateway: a stand-in for the vendor and a receiver of callbacks.
//!
//! Both listen on a free port of the loopback interface, record their requests, and can misbehave on demand. They use
//! plain sockets (`http`), because a web framework cannot omit an answer or send half of one.

mod availability;
pub mod crm;
mod http;
mod log;
pub mod receiver;
pub mod stand_in;
