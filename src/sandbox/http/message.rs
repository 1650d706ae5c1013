//! Requests, and the replies to them.

use std::time::Duration;

use bytes::Bytes;

/// A complete request.
pub(in crate::sandbox) struct Request {
    pub(in crate::sandbox) method: String,
    /// Path and query as received.
    pub(in crate::sandbox) target: String,
    /// The headers, with names in lower case.
    pub(in crate::sandbox) headers: Vec<(String, String)>,
    pub(in crate::sandbox) body: Bytes,
}

impl Request {
    /// Returns the first header with this name; `name` is in lower case.
    pub(in crate::sandbox) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the target without its query.
    pub(in crate::sandbox) fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }
}

/// Pieces of a body, generated while they are sent.
pub(in crate::sandbox) type Chunks = Box<dyn Iterator<Item = Bytes> + Send>;

/// The body of an answer.
pub(in crate::sandbox) enum Body {
    /// A complete body.
    Full(Bytes),
    /// A body whose announced length is `length`. If the pieces have fewer bytes, the server closes the connection early.
    Sized { length: u64, chunks: Chunks },
    /// A body without an announced length, with a pause after each piece.
    Chunked { chunks: Chunks, pause: Duration },
}

/// An HTTP response.
pub(in crate::sandbox) struct Response {
    pub(in crate::sandbox) status: u16,
    pub(in crate::sandbox) headers: Vec<(&'static str, String)>,
    pub(in crate::sandbox) body: Body,
}

impl Response {
    pub(in crate::sandbox) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Full(Bytes::new()) }
    }

    pub(in crate::sandbox) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(in crate::sandbox) fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Whether a response with this status may have a body (RFC 9110, 6.4.1).
    pub(super) fn may_have_body(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }
}

/// The reaction to a request.
pub(in crate::sandbox) enum Reply {
    /// The server sends a response.
    Answer(Response),
    /// The server resets the connection.
    Reset,
    /// The server waits until the client disconnects.
    Hang,
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Answer(response)
    }
}
