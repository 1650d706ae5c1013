//! State of a peer: it answers at once, later, or not at all.

use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Answers are sent at once.
    Up,
    /// Requests are received, but their answers wait.
    Held,
    /// Connections are reset.
    Down,
}

/// The current mode of a peer. The peer checks the mode before it sends an answer.
pub(super) struct Availability(watch::Sender<Mode>);

impl Availability {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Mode::Up))
    }

    pub(super) fn set_down(&self, down: bool) {
        self.0.send_replace(if down { Mode::Down } else { Mode::Up });
    }

    pub(super) fn set_held(&self, held: bool) {
        self.0.send_replace(if held { Mode::Held } else { Mode::Up });
    }

    pub(super) fn is_down(&self) -> bool {
        *self.0.borrow() == Mode::Down
    }

    /// Waits while answers are held. Returns whether the answer may be sent.
    pub(super) async fn wait(&self) -> bool {
        let mut mode = self.0.subscribe();
        match mode.wait_for(|mode| *mode != Mode::Held).await {
            Ok(mode) => *mode == Mode::Up,
            Err(_) => unreachable!("the sender lives in self"),
        }
    }
}
