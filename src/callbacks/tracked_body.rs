//! The body of a callback request.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// A body with a flag. The flag becomes true when the client begins to write the body, which happens after the connection is
/// made.
pub(super) struct TrackedBody {
    body: Option<Bytes>,
    is_written: Arc<AtomicBool>,
}

impl TrackedBody {
    /// Creates a body. `is_written` becomes true when the client begins to write the body.
    pub(super) const fn new(body: Bytes, is_written: Arc<AtomicBool>) -> Self {
        Self { body: Some(body), is_written }
    }
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.is_written.store(true, Ordering::Relaxed);
        Poll::Ready(self.body.take().map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, Bytes::len) as u64)
    }
}
