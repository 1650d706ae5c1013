//! Whether a peer answers at once, later, or not at all.

use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    Held,
    Down,
}

/// Every answer passes here on its way out.
pub(super) struct Gate(watch::Sender<Mode>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Mode::Open))
    }

    pub(super) fn set_down(&self, down: bool) {
        self.0.send_replace(if down { Mode::Down } else { Mode::Open });
    }

    pub(super) fn set_held(&self, held: bool) {
        self.0.send_replace(if held { Mode::Held } else { Mode::Open });
    }

    pub(super) fn is_down(&self) -> bool {
        *self.0.borrow() == Mode::Down
    }

    /// Waits while answers are held; then tells whether there is to be one.
    pub(super) async fn pass(&self) -> bool {
        let mut mode = self.0.subscribe();
        match mode.wait_for(|mode| *mode != Mode::Held).await {
            Ok(mode) => *mode == Mode::Open,
            Err(_) => unreachable!("the sender lives in self"),
        }
    }
}
