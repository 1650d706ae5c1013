//! Resealing: all encrypted values are found, and changed ones are not overwritten.

use std::time::Duration;

use alovoice_gateway::domain::idempotency::{KeyedRequest, StoredAnswer};
use alovoice_gateway::domain::webhooks::SealedSecrets;
use alovoice_gateway::store::{KeyTerms, Keyed, SealedAnswer, SealedWebhook, StoredUrl, UrlTable};

use super::webhooks::registered;
use crate::harness::{Harness, acme, call_id, globex};

const A: &str = "https://a.example/";

fn resealed_secrets() -> SealedSecrets {
    SealedSecrets { secret: b"new".to_vec(), previous_secret: None, headers: Some(b"new headers".to_vec()) }
}

fn resealed(was: &SealedWebhook) -> SealedWebhook {
    SealedWebhook { sealed: resealed_secrets(), url: "https://new.example/".to_owned(), ..was.clone() }
}

impl Harness {
    async fn sealed_webhooks(&self) -> Vec<SealedWebhook> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.sealed_webhooks_across_tenants(after, 2).await.unwrap();
            let Some(last) = page.last() else { return all };
            after = Some(last.id);
            all.extend(page);
        }
    }

    /// The URLs of callbacks in a table, without the empty ones of webhooks' deliveries.
    async fn callback_urls(&self, table: UrlTable) -> Vec<StoredUrl> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.store.callback_urls_across_tenants(table, after, 2).await.unwrap();
            let Some(last) = page.last() else { return all };
            after = last.row;
            all.extend(page.into_iter().filter(|url| !url.url.is_empty()));
        }
    }

    async fn sealed_answers(&self) -> Vec<SealedAnswer> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.sealed_answers_across_tenants(after, 2).await.unwrap();
            let Some(last) = page.last() else { return all };
            after = Some((last.tenant.clone(), last.name));
            all.extend(page);
        }
    }
}

pub(crate) async fn sealed_webhooks_are_read_in_pages(harness: Harness) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(registered(&harness, A).await.id);
    }
    harness.store.delete_webhook(&acme(), ids.remove(1)).await.unwrap();
    ids.sort_unstable_by_key(ToString::to_string);
    let found = harness.sealed_webhooks().await;
    assert_eq!(found.iter().map(|webhook| webhook.id).collect::<Vec<_>>(), ids);
    for SealedWebhook { tenant, id, sealed, url } in found {
        assert_eq!(tenant, acme());
        let webhook = harness.store.find_webhook(&acme(), id).await.unwrap().unwrap();
        assert_eq!((webhook.sealed, &*webhook.url.to_text()), (sealed, &*url));
    }
}

pub(crate) async fn a_changed_webhook_is_not_resealed(harness: Harness) {
    let webhook = registered(&harness, A).await;
    let [was] = <[SealedWebhook; 1]>::try_from(harness.sealed_webhooks().await).unwrap();
    assert!(harness.store.reseal_webhook(was.clone(), resealed(&was)).await.unwrap());
    let found = harness.store.find_webhook(&acme(), webhook.id).await.unwrap().unwrap();
    assert_eq!(
        (&found.sealed, &*found.url.to_text(), found.updated_at),
        (&resealed_secrets(), "https://new.example/", webhook.updated_at)
    );
    // An older version cannot be written back, and a repeated resealing finds its own value.
    assert!(!harness.store.change_webhook(&acme(), webhook, false).await.unwrap());
    assert!(!harness.store.reseal_webhook(was.clone(), resealed(&was)).await.unwrap());
    // A stalled resealing does not undo a change.
    let [was] = <[SealedWebhook; 1]>::try_from(harness.sealed_webhooks().await).unwrap();
    let mut rotated = found.clone();
    rotated.sealed.secret = b"rotated".to_vec();
    assert!(harness.store.change_webhook(&acme(), rotated.clone(), false).await.unwrap());
    assert!(!harness.store.reseal_webhook(was.clone(), resealed(&was)).await.unwrap());
    let found = harness.store.find_webhook(&acme(), found.id).await.unwrap().unwrap();
    assert_eq!(found.sealed, rotated.sealed);
    let [was] = <[SealedWebhook; 1]>::try_from(harness.sealed_webhooks().await).unwrap();
    assert!(harness.store.delete_webhook(&acme(), found.id).await.unwrap());
    assert!(!harness.store.reseal_webhook(was.clone(), resealed(&was)).await.unwrap());
}

pub(crate) async fn changed_urls_of_callbacks_are_not_resealed(harness: Harness) {
    harness.announce("1", &[A, "https://b.example/?key=1"]).await;
    harness.announce("2", &[A]).await;
    registered(&harness, A).await;
    harness.announce("3", &[]).await;
    let calls = ["1", "1", "2"].map(|call| Some(call_id(call)));
    for table in [UrlTable::Callbacks, UrlTable::Deliveries] {
        let found = harness.callback_urls(table).await;
        assert_eq!(found.iter().map(|url| url.call_id.clone()).collect::<Vec<_>>(), calls, "{table:?}");
        assert!(found.iter().all(|url| url.tenant == acme()));
        let mut resealed: Vec<_> =
            found.into_iter().map(|was| (was.clone(), format!("{}new", was.url))).collect();
        resealed[2].0.url = "https://outdated.example/".to_owned();
        assert_eq!(harness.store.reseal_urls_across_tenants(table, resealed).await.unwrap(), 2);
        let mut now: Vec<_> = harness.callback_urls(table).await.into_iter().map(|url| url.url).collect();
        now.sort_unstable();
        assert_eq!(now, [A, "https://a.example/new", "https://b.example/?key=1new"], "{table:?}");
    }
}

pub(crate) async fn changed_answers_are_not_resealed(harness: Harness) {
    let terms = KeyTerms { lease: Duration::from_secs(60), kept_for: Duration::from_secs(3600) };
    let request = |key: u8| KeyedRequest { name: [key; 32], fingerprint: [key; 32], concerns: None };
    for (tenant, key, is_sealed) in
        [(acme(), 3, true), (acme(), 1, true), (acme(), 2, false), (globex(), 1, true), (globex(), 4, true)]
    {
        let claim = harness.store.claim_key(&tenant, request(key), terms).await.unwrap();
        let Keyed::Claimed(claim) = claim else { panic!("the key is not free: {claim:?}") };
        let answer = StoredAnswer { is_sealed, bytes: vec![key, 0, 255] };
        harness.store.finish_key(&tenant, claim, Some(answer)).await.unwrap();
    }
    harness.store.claim_key(&acme(), request(9), terms).await.unwrap();
    let found = harness.sealed_answers().await;
    let places: Vec<_> = found.iter().map(|answer| (answer.tenant.clone(), answer.name[0])).collect();
    assert_eq!(places, [(acme(), 1), (acme(), 3), (globex(), 1), (globex(), 4)]);
    assert!(found.iter().all(|answer| answer.bytes == [answer.name[0], 0, 255]));

    let mut resealed: Vec<_> = found.into_iter().map(|answer| (answer, b"new".to_vec())).collect();
    resealed[1].0.bytes = b"an outdated answer".to_vec();
    assert_eq!(harness.store.reseal_answers_across_tenants(resealed).await.unwrap(), 3);
    let now: Vec<_> = harness.sealed_answers().await.into_iter().map(|answer| answer.bytes).collect();
    assert_eq!(now, [b"new".to_vec(), vec![3, 0, 255], b"new".to_vec(), b"new".to_vec()]);
    let kept = StoredAnswer { is_sealed: true, bytes: b"new".to_vec() };
    assert_eq!(harness.store.claim_key(&acme(), request(1), terms).await.unwrap(), Keyed::Done(Some(kept)));
}
