//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a request is executed once, even if a caller
//! sends it several times.
//!
//! The route table says which operations take a key, and wraps the handlers of these operations. The handlers do not get the key.
//! A request without the header is executed as usual. For a request with the header:
//!
//! - First, the key is claimed in the store, by tenant, method, path and key. If two requests arrive at the same time, even at
//!   different replicas, only one of them gets the claim.
//! - The handler runs to its end even if the caller disconnects, and its answer is stored for later requests.
//! - An answer that is a problem is not stored, and the key can be used again.
//! - A claim is a lease: if the process with the claim dies, the key is blocked for at most [`KeyTerms::lease`] plus the time of
//!   `Prefer: wait`. After that, the next request executes the handler again, so handlers must tolerate a second execution.

mod answer;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use aws_lc_rs::digest::{self, SHA256};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use self::answer::Answer;
use super::problem::{
    ApiError, IDEMPOTENCY_KEY_IN_USE, IDEMPOTENCY_KEY_REUSED, IDEMPOTENT_ANSWER_NOT_KEPT, INTERNAL,
};
use crate::domain::clock::Entropy;
use crate::domain::idempotency::{IdempotencyKey, KeyedRequest, StoredAnswer, Subject, sealing_context};
use crate::domain::ids::{CallId, TenantId};
use crate::domain::sealing::Purpose;
use crate::secrets::Encryption;
use crate::store::{KeyClaim, KeyTerms, Keyed, Store};

/// The header with the key of a request.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was stored for an earlier request.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Maximum size of a stored body in bytes. A larger answer is not stored.
const MAX_KEPT_BYTES: usize = 1 << 20;
/// Value of `Retry-After` if the key is in use. Most requests take milliseconds.
const RETRY_IN_USE: Duration = Duration::from_secs(1);

/// The contents of an operation's answer. The contents determine how the answer is stored and when it is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerContents {
    /// Data of one call: the answer is deleted with the call.
    OneCall,
    /// Data of several calls: the answer is deleted when any call of the tenant is deleted.
    AnyCall,
    /// A secret: the answer is stored sealed or not at all.
    Secret,
    /// Neither data of a call nor a secret.
    Plain,
}

impl AnswerContents {
    pub(super) fn subject(self, call: Option<&CallId>) -> Subject {
        match self {
            Self::OneCall => call.cloned().map_or(Subject::Plain, Subject::Call),
            Self::AnyCall => Subject::Calls,
            Self::Secret => Subject::Secret,
            Self::Plain => Subject::Plain,
        }
    }
}

/// Reads the `Idempotency-Key` of a request.
///
/// # Errors
/// `invalid_request`, if the key breaks the rules or the header comes twice.
pub(super) fn parse_key(request: &HttpRequest) -> Result<Option<IdempotencyKey>, ApiError> {
    let invalid = |detail: &dyn std::fmt::Display| ApiError::invalid_field("Idempotency-Key", &detail);
    let mut fields = request.headers().get_all(IDEMPOTENCY_KEY);
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(field), None) => {
            IdempotencyKey::parse(field.as_bytes()).map(Some).map_err(|error| invalid(&error))
        }
        (Some(_), Some(_)) => Err(invalid(&"must be given once")),
    }
}

/// A request with a key, as the store identifies it.
pub(super) struct IdempotentRequest {
    request: KeyedRequest,
    subject: Subject,
    /// Maximum time for which the handler waits for an outcome. This time is added to the lease of the claim.
    wait: Duration,
}

impl IdempotentRequest {
    pub(super) fn new(
        request: &HttpRequest,
        key: &IdempotencyKey,
        body: Option<&[u8]>,
        subject: Subject,
        wait: Option<Duration>,
    ) -> Self {
        let uri = request.uri();
        let operation = [request.method().as_str(), " ", uri.path(), " "].map(str::as_bytes).concat();
        let query = uri.query().unwrap_or_default().as_bytes();
        let body = body.map(|body| sha256(&[body]));
        let body = body.as_ref().map_or(&[][..], |digest| digest);
        let request = KeyedRequest {
            name: sha256(&[&operation, key.as_str().as_bytes()]),
            fingerprint: sha256(&[&operation, query, b" ", body]),
            concerns: subject.concerns().map(str::to_owned),
        };
        Self { request, subject, wait: wait.unwrap_or_default() }
    }
}

/// Executes requests that have an `Idempotency-Key`, and stores their answers.
pub struct KeyedRequests {
    /// Store of claims and answers.
    pub store: Arc<dyn Store>,
    /// Keys that seal stored answers, if the operator configured any.
    pub encryption: Arc<Encryption>,
    /// Randomness for sealing.
    pub entropy: Arc<dyn Entropy>,
    /// Lease of a claim and retention of an answer.
    pub terms: KeyTerms,
    /// Requests in progress, including those whose caller has disconnected. Shutdown waits for them.
    pub tasks: TaskTracker,
    /// Runtime that executes the requests with a key. The runtime of a server thread would be unsuitable: it can end
    /// earlier, when the last connection closes.
    pub runtime: Handle,
}

impl KeyedRequests {
    /// Executes a request in a separate task, which continues if the caller disconnects. If the request was executed before,
    /// the task returns the stored answer instead.
    pub(super) async fn spawn(
        self: Arc<Self>,
        tenant: TenantId,
        idempotent: IdempotentRequest,
        work: impl Future<Output = Result<HttpResponse, ApiError>> + Send + 'static,
    ) -> Result<HttpResponse, ApiError> {
        let IdempotentRequest { request, subject, wait } = idempotent;
        let terms = KeyTerms { lease: self.terms.lease + wait, ..self.terms };
        let (tasks, runtime) = (self.tasks.clone(), self.runtime.clone());
        let whole = async move { self.once(&tenant, request, &subject, terms, work).await }.in_current_span();
        match tasks.spawn_on(whole, &runtime).await {
            Ok(outcome) => outcome.map(Answer::respond),
            Err(_) => Err(ApiError::new(INTERNAL, "the request was aborted")),
        }
    }

    async fn once(
        &self,
        tenant: &TenantId,
        request: KeyedRequest,
        subject: &Subject,
        terms: KeyTerms,
        work: impl Future<Output = Result<HttpResponse, ApiError>> + Send,
    ) -> Result<Answer, ApiError> {
        let name = request.name;
        let claim = match self.store.claim_key(tenant, request, terms).await? {
            Keyed::Claimed(claim) => claim,
            Keyed::UnderWay => {
                let detail = "a request with this Idempotency-Key is in progress";
                return Err(ApiError::new(IDEMPOTENCY_KEY_IN_USE, detail).with_retry_after(RETRY_IN_USE));
            }
            Keyed::OfAnother => {
                let detail = "this Idempotency-Key was used for a different request";
                return Err(ApiError::new(IDEMPOTENCY_KEY_REUSED, detail));
            }
            Keyed::Done(kept) => return self.replay(tenant, &name, kept),
        };
        let outcome: Result<Answer, ApiError> = work.await.and_then(Answer::of);
        match &outcome {
            Ok(answer) if answer.is_success() => {
                let kept = self.keep(tenant, &name, subject, answer);
                self.finish(tenant, claim, kept).await;
            }
            Ok(_) | Err(_) => self.release(tenant, claim).await,
        }
        outcome
    }

    /// Returns the answer in the form for the store; `None` if the answer must not be stored.
    fn keep(
        &self,
        tenant: &TenantId,
        name: &[u8; 32],
        subject: &Subject,
        answer: &Answer,
    ) -> Option<StoredAnswer> {
        let plain = answer.to_bytes(MAX_KEPT_BYTES)?;
        match (self.encryption.keys(), subject) {
            (Some(keys), _) => {
                let context = sealing_context(tenant, name);
                let bytes = keys.seal(Purpose::IdempotentAnswer, &context, &*self.entropy, &plain);
                Some(StoredAnswer { is_sealed: true, bytes })
            }
            (None, Subject::Secret) => None,
            (None, Subject::Call(_) | Subject::Calls | Subject::Plain) => {
                Some(StoredAnswer { is_sealed: false, bytes: plain })
            }
        }
    }

    fn replay(
        &self,
        tenant: &TenantId,
        name: &[u8; 32],
        kept: Option<StoredAnswer>,
    ) -> Result<Answer, ApiError> {
        let read = |kept: StoredAnswer| {
            if !kept.is_sealed {
                return Answer::from_bytes(&kept.bytes);
            }
            let keys = self.encryption.keys()?;
            let opened = keys.open(Purpose::IdempotentAnswer, &sealing_context(tenant, name), &kept.bytes)?;
            Answer::from_bytes(opened.expose_secret())
        };
        let detail = "the request was executed before, and its answer is no longer available";
        let mut answer =
            kept.and_then(read).ok_or_else(|| ApiError::new(IDEMPOTENT_ANSWER_NOT_KEPT, detail))?;
        answer.add(REPLAYED, HeaderValue::from_static("true"));
        Ok(answer)
    }

    /// Stores the answer. If that fails, the caller still gets the answer, because the request was executed.
    async fn finish(&self, tenant: &TenantId, claim: KeyClaim, kept: Option<StoredAnswer>) {
        if let Err(error) = self.store.finish_key(tenant, claim, kept).await {
            tracing::warn!(%error, "failed to store the answer to a request with an Idempotency-Key: after the lease, a repeated request may be executed again");
        }
    }

    /// Releases the key. If that fails, the key becomes free when its lease ends.
    async fn release(&self, tenant: &TenantId, claim: KeyClaim) {
        if let Err(error) = self.store.release_key(tenant, claim).await {
            tracing::warn!(%error, "failed to release an Idempotency-Key: the key stays blocked until its lease ends");
        }
    }
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
