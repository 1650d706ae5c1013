//! Requests that are done once, however often they are sent: `Idempotency-Key`, as
//! draft-ietf-httpapi-idempotency-key-header-07 has it.
//!
//! A handler takes [`Idempotency`] and hands its work to [`Idempotency::once`]. A request without the header is done
//! as ever. With one:
//!
//! - It is claimed in the store first, by tenant, method, path and key. Of two at once, at whatever replicas, one gets it.
//! - The work goes on to its end when the caller hangs up, and its answer is kept for who asks again.
//! - What came to nothing is not kept: every problem, whatever its status. Its key is free again.
//! - A claim ends: a process that died half way holds a key for [`KeyTerms::lease`] at most. Whoever asks then has the
//!   work done again, so that a handler's work should be one that does no harm twice.

mod answer;

use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse};
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
use crate::domain::ids::TenantId;
use crate::domain::sealing::Purpose;
use crate::secrets::Encryption;
use crate::store::{KeyClaim, KeyTerms, Keyed, Store};

/// The header that carries a key.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says of an answer that it is the first one again.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longer bodies of answers are not kept.
const MAX_KEPT_BYTES: usize = 1 << 20;
/// When to ask again for what is under way: most of it takes milliseconds.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// SHA-256 of a request's body, left by whoever read it.
pub(super) struct BodyDigest([u8; 32]);

impl BodyDigest {
    /// Leaves it with a request that has a key.
    pub(super) fn leave(request: &HttpRequest, body: &[u8]) {
        if request.headers().contains_key(IDEMPOTENCY_KEY) {
            request.extensions_mut().insert(Self(sha256(&[body])));
        }
    }
}

/// The key of a request, if it has one.
pub struct Idempotency {
    request: HttpRequest,
    key: Option<IdempotencyKey>,
}

impl FromRequest for Idempotency {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let invalid = |detail: &dyn std::fmt::Display| ApiError::invalid_field("Idempotency-Key", &detail);
        let mut fields = request.headers().get_all(IDEMPOTENCY_KEY);
        let key = match (fields.next(), fields.next()) {
            (None, _) => Ok(None),
            (Some(field), None) => {
                IdempotencyKey::parse(field.as_bytes()).map(Some).map_err(|error| invalid(&error))
            }
            (Some(_), Some(_)) => Err(invalid(&"must be given once")),
        };
        ready(key.map(|key| Self { request: request.clone(), key }).map_err(Into::into))
    }
}

impl Idempotency {
    /// Does the work, or gives the answer that it had before. `subject` is what the answer is about.
    ///
    /// # Errors
    /// The work's own, which are not kept; a problem, if the key is in use or was another request's.
    pub async fn once<W>(
        self,
        keyed: &Arc<KeyedRequests>,
        tenant: &TenantId,
        subject: Subject,
        work: W,
    ) -> Result<HttpResponse, ApiError>
    where
        W: Future<Output = Result<HttpResponse, ApiError>> + Send + 'static,
    {
        let Some(request) = self.keyed_request(&subject) else { return work.await };
        let (parts, tenant) = (Arc::clone(keyed), tenant.clone());
        let whole = async move { parts.once(&tenant, request, &subject, work).await }.in_current_span();
        // Of its own, so that it goes on when the caller hangs up.
        match keyed.tasks.spawn_on(whole, &keyed.runtime).await {
            Ok(outcome) => outcome.map(Answer::respond),
            Err(_) => Err(ApiError::new(INTERNAL, "the request broke off half way")),
        }
    }

    /// `None` without a key.
    fn keyed_request(&self, subject: &Subject) -> Option<KeyedRequest> {
        let (key, uri) = (self.key.as_ref()?, self.request.uri());
        let extensions = self.request.extensions();
        let body = extensions.get::<BodyDigest>().map_or(&[][..], |digest| &digest.0);
        let operation = [self.request.method().as_str(), " ", uri.path(), " "].map(str::as_bytes).concat();
        let query = uri.query().unwrap_or_default().as_bytes();
        Some(KeyedRequest {
            name: sha256(&[&operation, key.as_str().as_bytes()]),
            fingerprint: sha256(&[&operation, query, b" ", body]),
            concerns: subject.concerns().map(str::to_owned),
        })
    }
}

/// What requests with keys need from the house.
pub struct KeyedRequests {
    /// Where they are claimed, and answers kept.
    pub store: Arc<dyn Store>,
    /// Seals what is kept, if there are keys.
    pub encryption: Arc<Encryption>,
    /// For sealing.
    pub entropy: Arc<dyn Entropy>,
    /// For how long.
    pub terms: KeyTerms,
    /// What is under way, whether or not its caller is still there.
    pub tasks: TaskTracker,
    /// Where it runs: not on the server's own threads, which end with the last connection.
    pub runtime: Handle,
}

impl KeyedRequests {
    async fn once(
        &self,
        tenant: &TenantId,
        request: KeyedRequest,
        subject: &Subject,
        work: impl Future<Output = Result<HttpResponse, ApiError>> + Send,
    ) -> Result<Answer, ApiError> {
        let name = request.name;
        let claim = match self.store.claim_key(tenant, request, self.terms).await? {
            Keyed::Claimed(claim) => claim,
            Keyed::UnderWay => {
                let detail = "a request with this Idempotency-Key is under way";
                return Err(ApiError::new(IDEMPOTENCY_KEY_IN_USE, detail).with_retry_after(ASK_AGAIN));
            }
            Keyed::OfAnother => {
                let detail = "this Idempotency-Key was sent with another request";
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

    /// The answer as the store may have it; `None` if it may not.
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
        let detail = "the request was done before, and its answer is not kept";
        let mut answer =
            kept.and_then(read).ok_or_else(|| ApiError::new(IDEMPOTENT_ANSWER_NOT_KEPT, detail))?;
        answer.add(REPLAYED, HeaderValue::from_static("true"));
        Ok(answer)
    }

    /// The work is done, and the caller is answered, whether or not that can be written down.
    async fn finish(&self, tenant: &TenantId, claim: KeyClaim, kept: Option<StoredAnswer>) {
        if let Err(error) = self.store.finish_key(tenant, claim, kept).await {
            tracing::warn!(%error, "an answer could not be kept: sent again, the request is done again");
        }
    }

    /// The key is free when its lease ends, if not at once.
    async fn release(&self, tenant: &TenantId, claim: KeyClaim) {
        if let Err(error) = self.store.release_key(tenant, claim).await {
            tracing::warn!(%error, "an Idempotency-Key could not be given back; its lease will run out");
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
