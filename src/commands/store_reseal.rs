//! `store reseal`: encrypts stored secrets again with the first key, and reports which other keys are still needed.

use std::array;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use super::{Failed, print};
use crate::app;
use crate::config::Settings;
use crate::domain::clock::{Clock, SystemClock, SystemEntropy};
use crate::domain::idempotency::sealing_context;
use crate::domain::ids::TenantId;
use crate::domain::sealing::{Purpose, Resealed, SealingKeys};
use crate::domain::url_sealer::UrlSealer;
use crate::domain::webhooks::WebhookSealer;
use crate::secrets::Encryption;
use crate::store::{SealedAnswer, SealedWebhook, Store, StoreError, StoredUrl, UrlTable};

/// Number of webhooks or stored answers that are in memory at once. A stored answer has up to 1 MiB. The answers of a batch share
/// a commit.
const BATCH: usize = 32;
/// Number of analyses or deliveries whose URLs of callbacks are in memory at once. The URLs of a batch share a commit.
const URLS: usize = 200;
/// Maximum number of passes. Usually the second pass finds that every record is encrypted with the first key.
const MAX_PASSES: usize = 10;

/// Numbers of encrypted records, by the key that decrypts them.
#[derive(Debug, Default)]
struct Count {
    by_first_key: usize,
    by_other_key: usize,
    unopened: usize,
}

/// The result of one pass over the store.
#[derive(Debug, Default)]
struct Pass {
    webhooks: Count,
    urls: Count,
    answers: Count,
    /// Webhooks whose secret, headers or URL no configured key decrypts.
    unopened_webhooks: Vec<String>,
    unopened_urls: BTreeMap<TenantId, usize>,
    unopened_answers: BTreeMap<TenantId, usize>,
    /// Number of records that changed during the pass. Another pass must handle them.
    missed: usize,
}

pub(super) async fn run(settings: &Settings, check_only: bool) -> Result<(), Failed> {
    let encryption = Encryption::load(&settings.encryption).map_err(Failed::usage)?;
    let keys = encryption
        .keys()
        .ok_or_else(|| Failed::usage("encryption.key_file is not set, so no record is encrypted"))?;
    let resealing = Resealing {
        store: app::attach(settings).await.map_err(|error| Failed::of_start(&error))?,
        keys,
        check_only,
    };
    let (mut resealed, mut passes) = ([0; 3], 0);
    let found = loop {
        let found = resealing.pass().await.map_err(Failed::fault)?;
        for (resealed, count) in resealed.iter_mut().zip(found.counts()) {
            // A record that several passes have replaced counts once.
            *resealed = (*resealed + count.by_other_key).min(count.by_first_key + count.by_other_key);
        }
        passes += 1;
        // A replica that does not have the new key yet may have written records behind the pass. Another pass finds them.
        if check_only || !found.needs_other_keys() || passes == MAX_PASSES {
            break found;
        }
    };
    print(&table(&found, resealed, check_only))?;
    let faults = faults(&found, check_only);
    if faults.is_empty() {
        return print(
            "\nEvery record is encrypted with the first key. You can remove the other keys from encryption.key_file.",
        );
    }
    Err(Failed::Fault(faults.join("\n")))
}

impl Pass {
    /// Returns the counts in the order of the printed columns.
    const fn counts(&self) -> [&Count; 3] {
        [&self.webhooks, &self.urls, &self.answers]
    }

    /// Whether the pass has seen a record that is encrypted with another key than the first, or that changed during the pass.
    fn needs_other_keys(&self) -> bool {
        self.missed > 0 || self.counts().iter().any(|count| count.by_other_key > 0)
    }
}

struct Resealing {
    store: Arc<dyn Store>,
    keys: Arc<SealingKeys>,
    check_only: bool,
}

impl Resealing {
    /// Makes one pass over all encrypted records.
    async fn pass(&self) -> Result<Pass, StoreError> {
        let mut found = Pass::default();
        let mut after = None;
        loop {
            let batch = self.store.sealed_webhooks_across_tenants(after, BATCH).await?;
            let Some(last) = batch.last() else { break };
            after = Some(last.id);
            for webhook in batch {
                self.webhook(webhook, &mut found).await?;
            }
        }
        for table in [UrlTable::Callbacks, UrlTable::Deliveries] {
            let mut after = 0;
            loop {
                let batch = self.store.callback_urls_across_tenants(table, after, URLS).await?;
                let Some(last) = batch.last() else { break };
                after = last.row;
                self.urls(table, batch, &mut found).await?;
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

    async fn webhook(&self, old: SealedWebhook, found: &mut Pass) -> Result<(), StoreError> {
        let mut new = old.clone();
        let sealer = WebhookSealer::new(&self.keys, &old.tenant, old.id);
        let parts = (&mut new.sealed, &mut new.url);
        let sealings = sealer.reseal(parts, &SystemEntropy, SystemClock.now());
        found.webhooks.by_first_key += sealings.by_the_first;
        found.webhooks.unopened += sealings.unopened.len();
        if !sealings.unopened.is_empty() {
            let fields = sealings.unopened.join(", ");
            found.unopened_webhooks.push(format!("{} of tenant {}: {fields}", old.id, old.tenant));
        }
        if sealings.by_another == 0 {
            return Ok(());
        }
        if self.check_only || self.store.reseal_webhook(old, new).await? {
            found.webhooks.by_other_key += sealings.by_another;
        } else {
            found.missed += 1;
        }
        Ok(())
    }

    async fn urls(&self, table: UrlTable, batch: Vec<StoredUrl>, found: &mut Pass) -> Result<(), StoreError> {
        let mut replaced = Vec::new();
        for stored in batch {
            let Some(call_id) = &stored.call_id else { continue };
            let sealer = UrlSealer::of_callbacks(&self.keys, &stored.tenant, call_id);
            match sealer.reseal(&stored.url, &SystemEntropy) {
                None => {}
                Some(Resealed::Unchanged) => found.urls.by_first_key += 1,
                Some(Resealed::Replaced(sealed)) => replaced.push((stored, sealed)),
                Some(Resealed::Unopened) => {
                    found.urls.unopened += 1;
                    *found.unopened_urls.entry(stored.tenant).or_default() += 1;
                }
            }
        }
        let count = replaced.len();
        let written = match (self.check_only, count) {
            (true, _) | (_, 0) => count,
            (false, _) => self.store.reseal_urls_across_tenants(table, replaced).await?,
        };
        found.urls.by_other_key += written;
        found.missed += count - written;
        Ok(())
    }

    async fn answers(&self, batch: Vec<SealedAnswer>, found: &mut Pass) -> Result<(), StoreError> {
        let mut replaced = Vec::new();
        for answer in batch {
            let context = sealing_context(&answer.tenant, &answer.name);
            match self.keys.reseal(Purpose::IdempotentAnswer, &context, &SystemEntropy, &answer.bytes) {
                Resealed::Unchanged => found.answers.by_first_key += 1,
                Resealed::Replaced(sealed) => replaced.push((answer, sealed)),
                Resealed::Unopened => {
                    found.answers.unopened += 1;
                    *found.unopened_answers.entry(answer.tenant).or_default() += 1;
                }
            }
        }
        let count = replaced.len();
        let written = match (self.check_only, count) {
            (true, _) | (_, 0) => count,
            (false, _) => self.store.reseal_answers_across_tenants(replaced).await?,
        };
        found.answers.by_other_key += written;
        found.missed += count - written;
        Ok(())
    }
}

/// Returns the reasons why a key cannot be removed, one per line.
fn faults(found: &Pass, check_only: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if found.needs_other_keys() {
        faults.push(if check_only {
            "some records still need another key: run `alovoice-gateway store reseal`".to_owned()
        } else {
            format!(
                "after {MAX_PASSES} passes, records still change or need another key: give every replica the new key file, then \
                 run this command again"
            )
        });
    }
    for webhook in &found.unopened_webhooks {
        faults.push(format!("no configured key decrypts webhook {webhook}"));
    }
    for (tenant, number) in &found.unopened_urls {
        faults.push(format!("no configured key decrypts {number} callback URLs of tenant {tenant}"));
    }
    for (tenant, number) in &found.unopened_answers {
        faults.push(format!(
            "no configured key decrypts {number} stored answers of tenant {tenant}; they expire within a day"
        ));
    }
    faults
}

fn table(found: &Pass, resealed: [usize; 3], check_only: bool) -> String {
    let counts = found.counts();
    let other_key = if check_only { "another key" } else { "another key (now first)" };
    // In the last pass, records that an earlier pass has encrypted again count as encrypted with the first key.
    let by_first_key = array::from_fn(|column| {
        let Count { by_first_key, by_other_key, .. } = counts[column];
        by_first_key + by_other_key - resealed[column]
    });
    let columns = ["webhook secrets", "callback URLs", "stored answers"];
    let mut lines = line("encrypted with", columns);
    for (name, numbers) in [
        ("first key", by_first_key),
        (other_key, resealed),
        ("no known key", counts.map(|count| count.unopened)),
    ] {
        lines.push('\n');
        lines.push_str(&line(name, numbers));
    }
    lines
}

fn line(name: &str, [webhooks, urls, answers]: [impl Display; 3]) -> String {
    format!("{name:<24}{webhooks:>17}{urls:>16}{answers:>17}")
}
