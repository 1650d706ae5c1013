//! Tests the vendor stand-in and the callback receiver from outside. Other tests rely on both.

#[cfg(test)]
#[path = "../support/clock.rs"]
mod clock;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod observed;
#[cfg(test)]
mod play;
#[cfg(test)]
mod receiver;
#[cfg(test)]
mod recording;
#[cfg(test)]
mod results;
