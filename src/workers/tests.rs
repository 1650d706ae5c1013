//! Tests of the loop of a worker.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use super::*;
use crate::domain::clock::SystemClock;

/// A worker whose first steps report more work. The last of them also signals new work.
struct Scripted {
    steps: AtomicUsize,
    steps_with_more: usize,
    wake: Option<Wake>,
}

#[async_trait]
impl Worker for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn run_once(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        let step = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        if step == self.steps_with_more
            && let Some(wake) = &self.wake
        {
            wake.wake();
        }
        Ok(Report { has_more: step < self.steps_with_more, next_due: None })
    }
}

/// Returns the number of steps before the loop pauses, and the number after one more signal.
async fn steps(steps_with_more: usize, signals: bool) -> (usize, usize) {
    let wake = Wake::default();
    let own = signals.then(|| wake.clone());
    let worker = Arc::new(Scripted { steps: AtomicUsize::new(0), steps_with_more, wake: own });
    let (clock, stop) = (Arc::new(SystemClock), CancellationToken::new());
    let mut looping = pin!(run(worker.clone(), wake.clone(), clock, TaskTracker::new(), stop.clone()));
    let mut context = Context::from_waker(Waker::noop());
    let mut pauses = || {
        assert_eq!(looping.as_mut().poll(&mut context), Poll::Pending);
        worker.steps.load(Ordering::Relaxed)
    };
    let before = pauses();
    wake.wake();
    (before, pauses())
}

#[tokio::test]
async fn a_step_follows_at_once_after_more_work_and_after_a_signal() {
    assert_eq!(steps(0, false).await, (1, 2));
    assert_eq!(steps(3, false).await, (3, 4));
    // A signal during a step is not lost.
    assert_eq!(steps(3, true).await, (4, 5));
}
