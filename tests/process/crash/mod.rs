//! `kill -9` at chosen and at random moments: nothing that was promised is lost, nothing is done twice.

mod disk_full;
mod ledger;
mod moments;
mod random;
