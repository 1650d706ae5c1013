//! The learned answers of the vendor, per tenant, and the lease of the probe that learns the answer for an unknown
//! call.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use super::engine::Engine;
use super::rules::{Rule, Transaction};
use super::sql::sql;
use super::values::{Row, json, values};
use crate::domain::answer_shape::AnswerShape;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::learned_answers::{LearnedAnswers, ProbeOutcome};
use crate::domain::vendor_token::TokenFingerprint;

/// The right to send a probe and to write its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeClaim {
    /// The fencing token.
    claim: i64,
    account: TokenFingerprint,
    /// Start of the probe.
    began: Timestamp,
}

/// The learned answers of the tenants.
#[async_trait]
pub trait LearnedAnswersStore: Send + Sync {
    /// Reads the answers that were learned with a token.
    async fn find_learned_answers(
        &self,
        tenant: &TenantId,
        account: TokenFingerprint,
    ) -> Result<LearnedAnswers, StoreError>;

    /// Claims the next probe of a tenant. Returns `None` if a probe with this token started at `since` or later, if another
    /// probe is in progress, or if the pause after the last probe has not ended.
    async fn claim_probe(
        &self,
        tenant: &TenantId,
        account: TokenFingerprint,
        since: Timestamp,
        lease: Duration,
    ) -> Result<Option<ProbeClaim>, StoreError>;

    /// Records the end of a claimed probe, and learns the vendor's answer to the probe. The next probe may start after `pause`.
    /// Returns `None` if there is no answer, or if the answer [must not be learned](LearnedAnswers::may_learn_unknown).
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] if another probe was claimed.
    async fn finish_probe(
        &self,
        tenant: &TenantId,
        claim: ProbeClaim,
        answer: Option<AnswerShape>,
        pause: Duration,
    ) -> Result<Option<ProbeOutcome>, StoreError>;
}

#[async_trait]
impl<E: Engine> LearnedAnswersStore for E {
    async fn find_learned_answers(
        &self,
        tenant: &TenantId,
        account: TokenFingerprint,
    ) -> Result<LearnedAnswers, StoreError> {
        self.query(FindLearnedAnswers { tenant: tenant.clone(), account }).await
    }

    async fn claim_probe(
        &self,
        tenant: &TenantId,
        account: TokenFingerprint,
        since: Timestamp,
        lease: Duration,
    ) -> Result<Option<ProbeClaim>, StoreError> {
        // All attempts use one fencing token, so a repeated attempt recognizes its own claim.
        let mut bytes = [0; 8];
        self.env().entropy.fill(&mut bytes);
        let claim = i64::from_be_bytes(bytes);
        self.transact(ClaimProbe { tenant: tenant.clone(), account, since, lease, claim }).await
    }

    async fn finish_probe(
        &self,
        tenant: &TenantId,
        claim: ProbeClaim,
        answer: Option<AnswerShape>,
        pause: Duration,
    ) -> Result<Option<ProbeOutcome>, StoreError> {
        self.transact(FinishProbe { tenant: tenant.clone(), claim, answer, pause }).await
    }
}

/// The learned answers of a tenant as a transaction has read them, and the fingerprint of the token for which the
/// answers must hold.
pub(super) struct FoundAnswers {
    account: Option<TokenFingerprint>,
    stored: Option<LearnedAnswers>,
}

/// Reads the learned answers for requests with this token. Without a token, reads nothing. The row is not locked.
pub(super) async fn find(
    transaction: &impl Transaction,
    tenant: &TenantId,
    account: Option<TokenFingerprint>,
) -> Result<FoundAnswers, StoreError> {
    let stored = if account.is_some() { select(transaction, tenant).await? } else { None };
    Ok(FoundAnswers { account, stored })
}

impl FoundAnswers {
    /// Returns the learned answers that hold for the token of the request. Returns no answers if there is no token, or if the
    /// answers were learned with another token.
    pub(super) fn answers(&self) -> LearnedAnswers {
        let stored = self.stored.clone().unwrap_or_default();
        self.account.map_or_else(LearnedAnswers::nothing, |account| stored.of_account(account))
    }

    /// Learns the answers in `pending`, which the vendor gave before the result of a call was ready. If another transaction is
    /// writing the same row, skips the write. A lost sample does little harm, and a wait would delay the transaction.
    pub(super) async fn learn(
        &self,
        transaction: &impl Transaction,
        tenant: &TenantId,
        pending: &[AnswerShape],
    ) -> Result<(), StoreError> {
        let mut learned = self.answers();
        if self.account.is_none() || !learned.learn_pending(pending, transaction.env().clock.now()) {
            return Ok(());
        }
        let learned = json(&learned)?;
        let Some(stored) = &self.stored else {
            let insert = sql!(
                "INSERT INTO learned_answers (tenant, learned) VALUES (?1, ?2) ON CONFLICT (tenant) DO NOTHING"
            );
            transaction.execute(insert, values![tenant, learned]).await?;
            return Ok(());
        };
        // The row is written only if it has not changed since the read, because the result of a probe must not be
        // overwritten.
        let update = sql!(
            "WITH free AS MATERIALIZED (SELECT tenant FROM learned_answers WHERE tenant = ?1 AND learned = ?3 \
             FOR UPDATE SKIP LOCKED) \
             UPDATE learned_answers SET learned = ?2 WHERE tenant IN (SELECT tenant FROM free)"
        );
        transaction.execute(update, values![tenant, learned, json(stored)?]).await?;
        Ok(())
    }
}

async fn select(
    transaction: &impl Transaction,
    tenant: &TenantId,
) -> Result<Option<LearnedAnswers>, StoreError> {
    let select = sql!("SELECT learned FROM learned_answers WHERE tenant = ?1");
    transaction.find(select, values![tenant], read).await
}

/// Reads learned answers. If another version of the program stored the answers in another form, returns none. The gateway then
/// learns the answers again.
fn read(row: &dyn Row) -> Result<LearnedAnswers, StoreError> {
    Ok(row.json("learned").unwrap_or_default())
}

struct FindLearnedAnswers {
    tenant: TenantId,
    account: TokenFingerprint,
}

impl Rule for FindLearnedAnswers {
    const NAME: &'static str = "find_learned_answers";
    type Output = LearnedAnswers;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<LearnedAnswers, StoreError> {
        Ok(find(transaction, &self.tenant, Some(self.account)).await?.answers())
    }
}

struct ClaimProbe {
    tenant: TenantId,
    account: TokenFingerprint,
    since: Timestamp,
    lease: Duration,
    claim: i64,
}

impl Rule for ClaimProbe {
    const NAME: &'static str = "claim_probe";
    const NOTIFIES: bool = false;
    type Output = Option<ProbeClaim>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<ProbeClaim>, StoreError> {
        let Self { tenant, account, since, lease, claim } = self;
        let began = transaction.env().clock.now();
        let nothing = json(&LearnedAnswers::nothing())?;
        let insert = sql!(
            "INSERT INTO learned_answers (tenant, learned) VALUES (?1, ?2) ON CONFLICT (tenant) DO NOTHING"
        );
        transaction.execute(insert, values![tenant, nothing]).await?;
        let lock = sql!(
            "SELECT learned FROM learned_answers WHERE tenant = ?1 AND (leased_until <= ?2 OR claim = ?3) FOR UPDATE"
        );
        let free = transaction.find(lock, values![tenant, began, *claim], read).await?;
        if !free.is_some_and(|learned| learned.of_account(*account).lacks_probe(*since, began)) {
            return Ok(None);
        }
        let update = sql!("UPDATE learned_answers SET claim = ?2, leased_until = ?3 WHERE tenant = ?1");
        transaction.execute(update, values![tenant, *claim, began + *lease]).await?;
        Ok(Some(ProbeClaim { claim: *claim, account: *account, began }))
    }
}

struct FinishProbe {
    tenant: TenantId,
    claim: ProbeClaim,
    answer: Option<AnswerShape>,
    pause: Duration,
}

impl Rule for FinishProbe {
    const NAME: &'static str = "finish_probe";
    const NOTIFIES: bool = false;
    type Output = Option<ProbeOutcome>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<ProbeOutcome>, StoreError> {
        let Self { tenant, claim, answer, pause } = self;
        let lock = sql!("SELECT learned FROM learned_answers WHERE tenant = ?1 AND claim = ?2 FOR UPDATE");
        let stored = transaction.find(lock, values![tenant, claim.claim], read).await?;
        let mut learned = stored.ok_or(StoreError::LeaseLost)?.of_account(claim.account);
        let answer = answer.filter(|shape| learned.may_learn_unknown(*shape));
        let outcome = answer.map(|shape| learned.learn_unknown(shape, claim.began));
        let update = sql!("UPDATE learned_answers SET learned = ?2, leased_until = ?3 WHERE tenant = ?1");
        let next = transaction.env().clock.now() + *pause;
        transaction.execute(update, values![tenant, json(&learned)?, next]).await?;
        Ok(outcome)
    }
}
