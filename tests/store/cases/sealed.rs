//! What is sealed, to be sealed anew: all of it is found, and nothing that was changed meanwhile is overwritten.

use std::time::Duration;

use alovoice_gateway::domain::idempotency::{KeyedRequest, StoredAnswer};
use alovoice_gateway::domain::webhooks::SealedSecrets;
use alovoice_gateway::store::{KeyTerms, Keyed, SealedAnswer, SealedWebhook};

use super::webhooks::registered;
use crate::harness::{Harness, acme, globex};

const A: &str = "https://a.example/";

fn anew() -> SealedSecrets {
    SealedSecrets { secret: b"anew".to_vec(), previous_secret: None, headers: Some(b"anew too".to_vec()) }
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

pub(crate) async fn sealed_endpoints_are_found_page_by_page(harness: Harness) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(registered(&harness, A).await.id);
    }
    harness.store.delete_webhook(&acme(), ids.remove(1)).await.unwrap();
    ids.sort_unstable_by_key(ToString::to_string);
    let found = harness.sealed_webhooks().await;
    assert_eq!(found.iter().map(|webhook| webhook.id).collect::<Vec<_>>(), ids);
    for SealedWebhook { tenant, id, sealed } in found {
        assert_eq!(tenant, acme());
        assert_eq!(harness.store.find_webhook(&acme(), id).await.unwrap().unwrap().sealed, sealed);
    }
}

pub(crate) async fn an_endpoint_that_was_changed_meanwhile_is_left_alone(harness: Harness) {
    let webhook = registered(&harness, A).await;
    let [was] = <[SealedWebhook; 1]>::try_from(harness.sealed_webhooks().await).unwrap();
    assert!(harness.store.reseal_webhook(was.clone(), anew()).await.unwrap());
    let found = harness.store.find_webhook(&acme(), webhook.id).await.unwrap().unwrap();
    assert_eq!((&found.sealed, &found.url, found.updated_at), (&anew(), &webhook.url, webhook.updated_at));
    // Whoever read it before can bring nothing back, and a second resealing finds its own.
    assert!(!harness.store.change_webhook(&acme(), webhook, false).await.unwrap());
    assert!(!harness.store.reseal_webhook(was, anew()).await.unwrap());
    // Nor does one that stalled undo a change.
    let [was] = <[SealedWebhook; 1]>::try_from(harness.sealed_webhooks().await).unwrap();
    let mut rotated = found.clone();
    rotated.sealed.secret = b"rotated".to_vec();
    assert!(harness.store.change_webhook(&acme(), rotated.clone(), false).await.unwrap());
    assert!(!harness.store.reseal_webhook(was, anew()).await.unwrap());
    let found = harness.store.find_webhook(&acme(), found.id).await.unwrap().unwrap();
    assert_eq!(found.sealed, rotated.sealed);
    let [was] = <[SealedWebhook; 1]>::try_from(harness.sealed_webhooks().await).unwrap();
    assert!(harness.store.delete_webhook(&acme(), found.id).await.unwrap());
    assert!(!harness.store.reseal_webhook(was, anew()).await.unwrap());
}

pub(crate) async fn sealed_answers_are_replaced_unless_they_changed(harness: Harness) {
    let terms = KeyTerms { lease: Duration::from_secs(60), kept_for: Duration::from_secs(3600) };
    let request = |key: u8| KeyedRequest { name: [key; 32], fingerprint: [key; 32], concerns: None };
    for (tenant, key, is_sealed) in
        [(acme(), 3, true), (acme(), 1, true), (acme(), 2, false), (globex(), 1, true), (globex(), 4, true)]
    {
        let claim = harness.store.claim_key(&tenant, request(key), terms).await.unwrap();
        let Keyed::Claimed(claim) = claim else { panic!("it is free: {claim:?}") };
        let answer = StoredAnswer { is_sealed, bytes: vec![key, 0, 255] };
        harness.store.finish_key(&tenant, claim, Some(answer)).await.unwrap();
    }
    harness.store.claim_key(&acme(), request(9), terms).await.unwrap();
    let found = harness.sealed_answers().await;
    let places: Vec<_> = found.iter().map(|answer| (answer.tenant.clone(), answer.name[0])).collect();
    assert_eq!(places, [(acme(), 1), (acme(), 3), (globex(), 1), (globex(), 4)]);
    assert!(found.iter().all(|answer| answer.bytes == [answer.name[0], 0, 255]));

    let mut anew: Vec<_> = found.into_iter().map(|answer| (answer, b"anew".to_vec())).collect();
    anew[1].0.bytes = b"what it is no more".to_vec();
    assert_eq!(harness.store.reseal_answers_across_tenants(anew).await.unwrap(), 3);
    let now: Vec<_> = harness.sealed_answers().await.into_iter().map(|answer| answer.bytes).collect();
    assert_eq!(now, [b"anew".to_vec(), vec![3, 0, 255], b"anew".to_vec(), b"anew".to_vec()]);
    let kept = StoredAnswer { is_sealed: true, bytes: b"anew".to_vec() };
    assert_eq!(harness.store.claim_key(&acme(), request(1), terms).await.unwrap(), Keyed::Done(Some(kept)));
}
