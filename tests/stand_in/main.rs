//! The vendor stand-in and the callback receiver, seen from outside: everything else is tested against them.

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
