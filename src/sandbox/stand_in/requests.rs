//! What is asked of the vendor: its three addresses, and a note of each visit.

use percent_encoding::percent_decode_str;

use crate::domain::clock::Timestamp;
use crate::domain::ids::CallId;
use crate::sandbox::http::Request;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `/callsendai/{token}/{call_id}`
    Submit,
    /// `/callgetairesult/{token}/{call_id}`
    Result,
    /// `/stereo/{call_id}`
    Stereo,
    /// Where redirects and foreign audio addresses lead. A careful client never comes here.
    Elsewhere,
}

/// A request that reached the stand-in, even if it was down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorRequest {
    /// What was asked for.
    pub operation: Operation,
    /// Of which call.
    pub call_id: CallId,
    /// Whether the token was one of those accepted. True where none is needed.
    pub token_ok: bool,
    /// The header of this name.
    pub if_none_match: Option<String>,
    /// The header of this name.
    pub range: Option<String>,
    /// The header of this name.
    pub traceparent: Option<String>,
    /// When it came.
    pub at: Timestamp,
}

/// A path, understood.
pub(super) struct Route {
    pub(super) operation: Operation,
    pub(super) token: Option<String>,
    pub(super) call_id: CallId,
}

impl Route {
    pub(super) fn parse(request: &Request) -> Option<Self> {
        let decoded = |segment: &str| percent_decode_str(segment).decode_utf8().ok().map(String::from);
        let mut segments = request.path().strip_prefix('/')?.split('/').map(decoded);
        let name = segments.next()??;
        let rest = segments.collect::<Option<Vec<_>>>()?;
        let (operation, token, call_id) = match (request.method.as_str(), name.as_str(), rest.as_slice()) {
            ("GET", "callsendai", [token, call_id]) => (Operation::Submit, Some(token), call_id),
            ("GET", "callgetairesult", [token, call_id]) => (Operation::Result, Some(token), call_id),
            ("GET" | "HEAD", "stereo", [call_id]) => (Operation::Stereo, None, call_id),
            (_, "elsewhere", [.., call_id]) => (Operation::Elsewhere, None, call_id),
            _ => return None,
        };
        Some(Self { operation, token: token.cloned(), call_id: CallId::parse(call_id).ok()? })
    }
}
