//! `store reseal`: seals stored secrets again with the first key, and lists the keys that are still needed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::{Failed, print};
use crate::app;
use crate::config::Settings;
use crate::domain::clock::{Clock, SystemClock, SystemEntropy};
use crate::domain::idempotency::sealing_context;
use crate::domain::ids::TenantId;
use crate::domain::sealing::{Purpose, Resealed, SealingKeys};
use crate::domain::webhooks::WebhookSealer;
use crate::secrets::Encryption;
use crate::store::{SealedAnswer, SealedWebhook, Store, StoreError};

/// Number of webhooks, or of stored answers of up to 1 MiB each, in memory at once. Answers of a batch share a commit.
const BATCH: usize = 32;

/// Number of sealed records, by key.
#[derive(Debug, Default)]
struct Count {
    by_the_first: usize,
    by_another: usize,
    unopened: usize,
}

/// The result of one pass over the store.
#[derive(Debug, Default)]
struct Found {
    webhooks: Count,
    answers: Count,
    /// Webhooks whose secret or headers no key opens.
    unopened_webhooks: Vec<String>,
    unopened_answers: BTreeMap<TenantId, usize>,
    /// Number of records that changed in the meantime; another pass must handle them.
    missed: usize,
}

pub(super) async fn run(settings: &Settings, only_look: bool) -> Result<(), Failed> {
    let encryption = Encryption::load(&settings.encryption).map_err(Failed::usage)?;
    let keys = encryption
        .keys()
        .ok_or_else(|| Failed::usage("encryption.key_file is not set: nothing is sealed"))?;
    let work = Resealing {
        store: app::attach(settings).await.map_err(|error| Failed::of_start(&error))?,
        keys,
        only_look,
    };
    let mut found = work.pass().await.map_err(Failed::fault)?;
    let mut resealed = [found.webhooks.by_another, found.answers.by_another];
    while found.missed > 0 {
        found = work.pass().await.map_err(Failed::fault)?;
        resealed[0] += found.webhooks.by_another;
        resealed[1] += found.answers.by_another;
    }
    print(&table(&found, resealed, only_look))?;
    let faults = faults(&found, only_look);
    if faults.is_empty() {
        return print(
            "\nThe first key sealed everything: the others can be taken out of encryption.key_file.",
        );
    }
    Err(Failed::Fault(faults.join("\n")))
}

struct Resealing {
    store: Arc<dyn Store>,
    keys: Arc<SealingKeys>,
    only_look: bool,
}

impl Resealing {
    /// Makes one pass over all sealed records.
    async fn pass(&self) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let mut after = None;
        loop {
            let batch = self.store.sealed_webhooks_across_tenants(after, BATCH).await?;
            let Some(last) = batch.last() else { break };
            after = Some(last.id);
            for webhook in batch {
                self.webhook(webhook, &mut found).await?;
            }
        }
        let mut after = None;
        loop {
            let batch = self.store.sealed_answers_across_tenants(after, BATCH).await?;
            let Some(last) = batch.last() else { return Ok(found) };
            after = Some((last.tenant.clone(), last.name));
            self.answers(batch, &mut found).await?;
        }
    }

    async fn webhook(&self, was: SealedWebhook, found: &mut Found) -> Result<(), StoreError> {
        let mut sealed = was.sealed.clone();
        let vault = WebhookSealer::new(&self.keys, &was.tenant, was.id);
        let sealings = vault.reseal(&mut sealed, &SystemEntropy, SystemClock.now());
        found.webhooks.by_the_first += sealings.by_the_first;
        found.webhooks.unopened += sealings.unopened.len();
        if !sealings.unopened.is_empty() {
            let what = sealings.unopened.join(", ");
            found.unopened_webhooks.push(format!("{} of tenant {}: {what}", was.id, was.tenant));
        }
        if sealings.by_another == 0 {
            return Ok(());
        }
        if self.only_look || self.store.reseal_webhook(was, sealed).await? {
            found.webhooks.by_another += sealings.by_another;
        } else {
            found.missed += 1;
        }
        Ok(())
    }

    async fn answers(&self, batch: Vec<SealedAnswer>, found: &mut Found) -> Result<(), StoreError> {
        let mut anew = Vec::new();
        for answer in batch {
            let context = sealing_context(&answer.tenant, &answer.name);
            match self.keys.reseal(Purpose::IdempotentAnswer, &context, &SystemEntropy, &answer.bytes) {
                Resealed::Unchanged => found.answers.by_the_first += 1,
                Resealed::Replaced(sealed) => anew.push((answer, sealed)),
                Resealed::Unopened => {
                    found.answers.unopened += 1;
                    *found.unopened_answers.entry(answer.tenant).or_default() += 1;
                }
            }
        }
        let count = anew.len();
        let written = match (self.only_look, count) {
            (true, _) | (_, 0) => count,
            (false, _) => self.store.reseal_answers_across_tenants(anew).await?,
        };
        found.answers.by_another += written;
        found.missed += count - written;
        Ok(())
    }
}

/// The reasons why a key cannot be retired, one per line.
fn faults(found: &Found, only_look: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if only_look && found.webhooks.by_another + found.answers.by_another > 0 {
        faults.push(
            "other keys than the first are still needed: run `alovoice-gateway store reseal`".to_owned(),
        );
    }
    for webhook in &found.unopened_webhooks {
        faults.push(format!("none of the keys opens webhook {webhook}"));
    }
    for (tenant, number) in &found.unopened_answers {
        faults.push(format!(
            "none of the keys opens {number} kept answers of tenant {tenant}; they go within a day"
        ));
    }
    faults
}

fn table(found: &Found, by_another: [usize; 2], only_look: bool) -> String {
    let Found { webhooks, answers, .. } = found;
    let anew = if only_look { "another key" } else { "another key until now" };
    // Records that an earlier pass resealed count as sealed by the first key in the last pass.
    let again =
        |count: &Count, resealed: usize| (count.by_the_first + count.by_another).saturating_sub(resealed);
    let mut lines = format!("{:<24}{:>17}{:>14}", "sealed by", "webhook secrets", "kept answers");
    for (name, of_webhooks, of_answers) in [
        ("the first key", again(webhooks, by_another[0]), again(answers, by_another[1])),
        (anew, by_another[0], by_another[1]),
        ("none of the keys", webhooks.unopened, answers.unopened),
    ] {
        // Writing to a string cannot fail.
        let _ = write!(lines, "\n{name:<24}{of_webhooks:>17}{of_answers:>14}");
    }
    lines
}
