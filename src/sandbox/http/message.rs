//! Requests and answers.

use std::time::Duration;

use bytes::Bytes;

/// A request, read to its end.
pub(in crate::sandbox) struct Request {
    pub(in crate::sandbox) method: String,
    /// The path and query, as they came.
    pub(in crate::sandbox) target: String,
    /// Names in lower case.
    pub(in crate::sandbox) headers: Vec<(String, String)>,
    pub(in crate::sandbox) body: Bytes,
}

impl Request {
    /// The first header of this name, which is given in lower case.
    pub(in crate::sandbox) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The target without its query.
    pub(in crate::sandbox) fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }
}

/// Pieces of a body, made as they are sent.
pub(in crate::sandbox) type Chunks = Box<dyn Iterator<Item = Bytes> + Send>;

/// The body of an answer.
pub(in crate::sandbox) enum Body {
    /// Sent whole.
    Full(Bytes),
    /// Announced with this length. If the pieces are fewer, the connection is closed short of it.
    Sized { length: u64, chunks: Chunks },
    /// Of no announced length, with a pause after each piece.
    Chunked { chunks: Chunks, pause: Duration },
}

/// An answer that keeps the rules of HTTP, except perhaps in its length.
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

    /// Whether a message of this status can have a body at all (RFC 9110, 6.4.1).
    pub(super) fn may_have_body(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }
}

/// What happens to a request.
pub(in crate::sandbox) enum Reply {
    /// It is answered.
    Answer(Response),
    /// The connection is reset without a word.
    Reset,
    /// Nothing happens until the client goes away.
    Hang,
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Answer(response)
    }
}
