//! The vendor's routes, and the record of each request.

use percent_encoding::percent_decode_str;

use crate::domain::clock::Timestamp;
use crate::domain::ids::CallId;
use crate::sandbox::http::Request;

/// The operation of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Submits a call: `/callsendai/{token}/{call_id}`.
    Submit,
    /// Gets a result: `/callgetairesult/{token}/{call_id}`.
    Result,
    /// Gets a recording: `/stereo/{call_id}`.
    Stereo,
    /// The target of redirects and of recordings on another host. The gateway must never request it.
    OtherHost,
}

/// A request to the stand-in. A request that arrives while the stand-in is down is also recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorRequest {
    /// The requested operation.
    pub operation: Operation,
    /// The call in the URL.
    pub call_id: CallId,
    /// Whether the token is accepted; `true` if the operation needs no token.
    pub token_ok: bool,
    /// The header `If-None-Match`.
    pub if_none_match: Option<String>,
    /// The header `Range`.
    pub range: Option<String>,
    /// The header `traceparent`.
    pub traceparent: Option<String>,
    /// Time of the request.
    pub at: Timestamp,
}

/// The parsed path of a request.
pub(super) struct VendorRoute {
    pub(super) operation: Operation,
    pub(super) token: Option<String>,
    pub(super) call_id: CallId,
}

impl VendorRoute {
    pub(super) fn parse(request: &Request) -> Option<Self> {
        let decoded = |segment: &str| percent_decode_str(segment).decode_utf8().ok().map(String::from);
        let mut segments = request.path().strip_prefix('/')?.split('/').map(decoded);
        let name = segments.next()??;
        let rest = segments.collect::<Option<Vec<_>>>()?;
        let (operation, token, call_id) = match (request.method.as_str(), name.as_str(), rest.as_slice()) {
            ("GET", "callsendai", [token, call_id]) => (Operation::Submit, Some(token), call_id),
            ("GET", "callgetairesult", [token, call_id]) => (Operation::Result, Some(token), call_id),
            ("GET" | "HEAD", "stereo", [call_id]) => (Operation::Stereo, None, call_id),
            (_, "elsewhere", [.., call_id]) => (Operation::OtherHost, None, call_id),
            _ => return None,
        };
        Some(Self { operation, token: token.cloned(), call_id: CallId::parse(call_id).ok()? })
    }
}
