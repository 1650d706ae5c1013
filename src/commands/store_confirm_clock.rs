//! `store confirm-clock`: an operator confirms that the clock of this machine is right.

use super::{Failed, print};
use crate::app;
use crate::config::Settings;
use crate::domain::clock::{Clock, SystemClock};

pub(super) async fn run(settings: &Settings) -> Result<(), Failed> {
    let store = app::attach(settings).await.map_err(|error| Failed::of_start(&error))?;
    let now = SystemClock.now();
    if !store.confirm_clock(now).await.map_err(Failed::fault)? {
        return Err(Failed::fault("no gateway has used this store yet, so there is no clock to confirm"));
    }
    print(&format!(
        "Confirmed: it is {now}. A running gateway accepts this time within seconds if the clock that it follows shows it too."
    ))
}
