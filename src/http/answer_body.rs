//! Counts the memory of an answer against a budget while the answer is sent.
//!
//! The framework copies the chunks of a body into a buffer until the client has read them. This body has small chunks, so the
//! buffer stays small, and the answer needs little more memory than its body. A permit holds a part of the budget. If the client
//! does not read the answer, the body keeps its permit until the connection ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::web::Bytes;

use super::problem::ApiError;
use super::request_context::RequestContext;
use super::state::ApiState;
use crate::analyses::MemoryPermit;

/// Maximum size of a chunk. The buffer of a connection holds up to two chunks.
const CHUNK: usize = 32 << 10;
/// Maximum size in bytes of an answer that does not count against a budget. The buffer of every connection has this size from
/// the start.
const UNCOUNTED: usize = 8 << 10;
/// Maximum size of a small answer in bytes. Small answers use a separate budget, because reads of events can temporarily use
/// the whole budget of larger answers.
const SMALL: usize = 64 << 10;
/// Size of the budget of small answers in bytes.
pub const SMALL_ANSWERS: usize = 4 << 20;

/// Marks a body that does not count, or not completely, against the budget of answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OtherMemory {
    /// All callers share the body in memory. Only the connection's buffer (at most two chunks) counts against the budget.
    Shared,
    /// The body is streamed. Its memory counts against the budget of its source, not against the budget of answers.
    Streamed,
}

/// Marks the body of an answer as shared by all callers. A shared body is always in memory.
pub(super) fn shared(mut response: HttpResponse) -> HttpResponse {
    response.extensions_mut().insert(OtherMemory::Shared);
    response
}

/// Marks the body of an answer as a stream that holds its own permit. The mark is necessary, because a stream of known length
/// looks like a body in memory.
pub(super) fn streamed(mut response: HttpResponse) -> HttpResponse {
    response.extensions_mut().insert(OtherMemory::Streamed);
    response
}

/// Attaches the permit for the memory of an answer. The handler took the permit before it read the data.
pub(super) fn taken(mut response: HttpResponse, permit: Option<MemoryPermit>) -> HttpResponse {
    if let Some(permit) = permit {
        response.extensions_mut().insert(permit);
    }
    response
}

/// A body that counts against the budget.
struct AnswerBody {
    chunk: Bytes,
    rest: BoxBody,
    /// Size of the whole body.
    size: BodySize,
    _permit: Option<MemoryPermit>,
}

/// Counts the body of an answer against the budget.
pub(super) fn count(mut response: ServiceResponse<BoxBody>, state: &ApiState) -> ServiceResponse<BoxBody> {
    let size = response.response().body().size();
    let bytes = match size {
        BodySize::Stream => usize::MAX,
        BodySize::Sized(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
        BodySize::None => 0,
    };
    if bytes <= UNCOUNTED {
        return response;
    }
    let permit = match permit(&mut response, bytes, state) {
        Ok(permit) => permit,
        Err(error) => return response.error_response(error),
    };
    response.map_body(|_, body| {
        let (chunk, rest) = match body.try_into_bytes() {
            Ok(bytes) => (bytes, BoxBody::new(())),
            Err(stream) => (Bytes::new(), stream),
        };
        BoxBody::new(AnswerBody { chunk, rest, size, _permit: permit })
    })
}

/// Takes a permit for a body of this size. Returns `None` for a stream, which counts its own memory.
fn permit(
    response: &mut ServiceResponse<BoxBody>,
    bytes: usize,
    state: &ApiState,
) -> Result<Option<MemoryPermit>, ApiError> {
    let other = response.response().extensions().get::<OtherMemory>().copied();
    if response.response().body().size() == BodySize::Stream || other == Some(OtherMemory::Streamed) {
        return Ok(None);
    }
    // The handler took this permit before it read the data.
    let taken: Option<MemoryPermit> = response.response_mut().extensions_mut().remove();
    if let Some(mut taken) = taken
        && taken.covers(bytes)
    {
        taken.shrink(bytes);
        return Ok(Some(taken));
    }
    let bytes = if other == Some(OtherMemory::Shared) { bytes.min(2 * CHUNK) } else { bytes };
    let tenant = RequestContext::of(response.request(), |context| context.tenant.clone()).flatten();
    let tenant = tenant.as_ref();
    let small = (bytes <= SMALL).then(|| state.small_answers.try_take(tenant, bytes).ok()).flatten();
    match small.map_or_else(|| state.answers.try_take(tenant, bytes), Ok) {
        Ok(permit) => Ok(Some(permit)),
        // A request that was executed must be answered. The size of the request's body bounds the size of the answer.
        Err(_) if !response.request().method().is_safe() => Ok(None),
        Err(_) => Err(state.answers.refuse(tenant).into()),
    }
}

impl MessageBody for AnswerBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.chunk.is_empty() {
            match ready!(Pin::new(&mut self.rest).poll_next(context)) {
                Some(Ok(chunk)) => self.chunk = chunk,
                end => return Poll::Ready(end),
            }
        }
        let end = self.chunk.len().min(CHUNK);
        Poll::Ready(Some(Ok(self.chunk.split_to(end))))
    }
}
