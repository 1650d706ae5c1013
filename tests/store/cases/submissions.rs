//! Submissions: new calls, repeated calls, and adopted calls.

use alovoice_gateway::domain::analysis::{Metadata, Stage, Status, Work};
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step};
use alovoice_gateway::domain::usage::Day;
use alovoice_gateway::store::{Change, Queue, SizedRead};

use futures_util::future::join_all;

use crate::harness::{
    Harness, START, acme, call_id, event_of, globex, metadata, obtained, reanalysis, submission, trace,
    with_callback, with_metadata,
};
use crate::rows::deliveries_of_call;

pub(crate) async fn a_new_call_is_queued_and_found(harness: Harness) {
    let found = harness.submit(with_metadata("1", "T-1")).await;
    let analysis = &found.analysis;
    assert_eq!((analysis.status, analysis.revision), (Status::Queued, 0));
    assert_eq!((&analysis.tenant, &analysis.call_id), (&acme(), &call_id("1")));
    assert_eq!((analysis.submitted_at, analysis.finished_at), (START, None));
    assert_eq!(analysis.metadata, metadata("T-1"));
    assert_eq!(analysis.trace, trace());
    assert_eq!(analysis.work, Some(Work::begin(START)));
    assert_eq!(found.result, None);
    assert_eq!(harness.find("1").await, found);
    assert_eq!(harness.store.find_analysis(&acme(), &call_id("2")).await.unwrap(), None);
    assert_eq!(harness.store.find_vendor_answer(&acme(), &call_id("1")).await.unwrap(), None);
}

pub(crate) async fn resubmitting_a_call_changes_the_same_analysis(harness: Harness) {
    let first = harness.submit(with_metadata("1", "T-1")).await;
    harness.advance(5);
    for again in [submission("1"), reanalysis("1")] {
        assert_eq!(harness.submit(again).await, first);
    }
    assert_eq!(harness.find("1").await, first);
    assert_eq!(harness.claim(Queue::Submits).await.len(), 1);
}

pub(crate) async fn submitted_metadata_replaces_the_old_metadata(harness: Harness) {
    let finished = harness.complete(with_metadata("1", "T-1"), "salom").await;
    let changed = harness.submit(with_metadata("1", "T-2")).await;
    assert_eq!(changed.analysis.metadata, metadata("T-2"));
    assert_eq!((changed.analysis.work, changed.result), (finished.analysis.work, finished.result));

    harness.submit(with_metadata("2", "T-1")).await;
    assert_eq!(harness.submit(with_metadata("2", "T-2")).await.analysis.metadata, metadata("T-2"));
    harness.submit(submission("2")).await;
    assert_eq!(harness.find("2").await.analysis.metadata, metadata("T-2"));
    assert_eq!(harness.submit(submission("3")).await.analysis.metadata, Metadata::default());
}

pub(crate) async fn a_repeated_callback_is_stored_once(harness: Harness) {
    for url in ["https://a.example/", "https://b.example/", "HTTPS://A.example:443"] {
        harness.submit(with_callback("1", url)).await;
    }
    harness.complete(with_callback("1", "https://a.example/"), "salom").await;
    harness.submit(with_callback("1", "https://b.example/")).await;
    let deliveries = deliveries_of_call(&*harness.store, &acme(), &call_id("1")).await;
    let mut urls: Vec<_> = deliveries.iter().map(|delivery| delivery.url.as_str()).collect();
    urls.sort_unstable();
    assert_eq!(urls, ["https://a.example/", "https://b.example/"]);
}

pub(crate) async fn simultaneous_submissions_are_each_stored_once(harness: Harness) {
    let calls = (0..300).flat_map(|number| [(acme(), number), (globex(), number), (acme(), number)]);
    let submit = async |(tenant, number): (_, u32)| {
        let number = number.to_string();
        let url = format!("https://{number}.example/");
        let submission =
            if number.ends_with('7') { with_callback(&number, &url) } else { with_metadata(&number, &url) };
        (harness.store.submit(&tenant, submission).await.unwrap(), (tenant, number))
    };
    for (submitted, (tenant, number)) in join_all(calls.map(submit)).await {
        let found = harness.store.find_analysis(&tenant, &call_id(&number)).await.unwrap();
        assert_eq!(found, Some(submitted), "{tenant} {number}");
    }
    for (table, rows) in [("analyses", 600), ("callbacks", 60), ("attributes", 540)] {
        assert_eq!(harness.rows.number(&format!("SELECT count(*) FROM {table}")).await, rows, "{table}");
    }
    let today = Day::of(harness.now());
    for (tenant, submissions) in [(acme(), 600), (globex(), 300)] {
        let usage = harness.store.usage(&tenant, today, today).await.unwrap();
        assert_eq!(usage[0].1.unwrap().submissions, submissions, "{tenant}");
    }
}

pub(crate) async fn submissions_outlive_the_callers_that_hang_up(harness: Harness) {
    for round in 0..20 {
        let submit = |number| {
            let (store, submission) = (harness.store.clone(), submission(&format!("{round}-{number}")));
            tokio::spawn(async move { store.submit(&acme(), submission).await })
        };
        let mut callers: Vec<_> = (0..40).map(submit).collect();
        // The first callers write the group, and hang up at different moments.
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        callers.drain(..20).for_each(|caller| caller.abort());
        for (number, caller) in callers.into_iter().enumerate() {
            let submitted = caller.await.unwrap().unwrap();
            assert_eq!(harness.find(&format!("{round}-{}", 20 + number)).await, submitted);
        }
    }
}

pub(crate) async fn tenants_do_not_see_each_other(harness: Harness) {
    let ours = harness.complete(submission("1"), "salom").await;
    let find = || async { harness.store.find_analysis(&globex(), &call_id("1")).await.unwrap() };
    assert_eq!(find().await, None);
    assert_eq!(harness.store.find_vendor_answer(&globex(), &call_id("1")).await.unwrap(), None);

    let theirs = harness.store.submit(&globex(), with_metadata("1", "G-1")).await.unwrap();
    assert_eq!(theirs.analysis.status, Status::Queued);
    assert_eq!(find().await, Some(theirs));
    assert_eq!(harness.find("1").await, ours);

    // A claim for one tenant does not return work of the other.
    assert_eq!(harness.claim(Queue::Submits).await.len(), 0);
}

pub(crate) async fn stored_values_are_read_back_unchanged(harness: Harness) {
    let found = harness.complete(with_metadata("1", "Ўзбекча \u{0} \"' %"), "assalomu aʼlaykum 🙂").await;
    assert_eq!(found.result.as_ref(), Some(&obtained("assalomu aʼlaykum 🙂").result));
    assert_eq!(found.analysis.metadata, metadata("Ўзбекча \u{0} \"' %"));
    let answer = harness.store.find_vendor_answer(&acme(), &call_id("1")).await.unwrap();
    assert_eq!(answer, Some(obtained("assalomu aʼlaykum 🙂").vendor_answer));
}

pub(crate) async fn a_large_value_is_measured_and_not_read(harness: Harness) {
    let found = harness.complete(submission("1"), "assalomu aʼlaykum").await;
    let (store, acme, call) = (&harness.store, acme(), call_id("1"));
    let Some(SizedRead::TooLarge { bytes }) = store.find_analysis_within(&acme, &call, 16).await.unwrap()
    else {
        panic!("the result has more than 16 bytes")
    };
    let within = |max_bytes| store.find_analysis_within(&acme, &call, max_bytes);
    assert_eq!(within(bytes - 1).await.unwrap(), Some(SizedRead::TooLarge { bytes }));
    assert_eq!(within(bytes).await.unwrap(), Some(SizedRead::Whole(found)));

    let answer = obtained("assalomu aʼlaykum").vendor_answer;
    let bytes = answer.len();
    let within = |max_bytes| store.find_vendor_answer_within(&acme, &call, max_bytes);
    assert_eq!(within(bytes - 1).await.unwrap(), Some(SizedRead::TooLarge { bytes }));
    assert_eq!(within(bytes).await.unwrap(), Some(SizedRead::Whole(answer)));

    let unfinished = harness.submit(submission("2")).await;
    let found = store.find_analysis_within(&acme, &call_id("2"), 0).await.unwrap();
    assert_eq!(found, Some(SizedRead::Whole(unfinished)));
}

pub(crate) async fn a_callback_added_after_completion_gets_the_latest_event(harness: Harness) {
    harness.complete(submission("1"), "salom").await;
    assert_eq!(harness.deliveries("1").await, []);
    harness.advance(120);
    let settle = harness.claim_one(Queue::Polls).await;
    harness.store.apply(settle.lease, crate::harness::ready("salom yana").into()).await.unwrap();
    harness.changes();

    harness.submit(with_callback("1", "https://a.example/")).await;
    assert_eq!(harness.changes(), [Change::Delivery]);
    let delivery = harness.claim_delivery().await;
    let (kind, data) = event_of(&delivery);
    assert_eq!((kind.as_str(), &data["revision"]), ("analysis.updated", &2.into()));

    // The callback is known already, so nothing is sent again.
    harness.submit(with_callback("1", "https://a.example/")).await;
    assert_eq!(harness.deliveries("1").await, [("pending".to_owned(), 1)]);
}

pub(crate) async fn a_callback_added_during_processing_gets_the_completion(harness: Harness) {
    harness.complete(submission("1"), "salom").await;
    harness.submit(reanalysis("1")).await;
    harness.submit(with_callback("1", "https://a.example/")).await;
    assert_eq!(harness.deliveries("1").await, []);
    harness.submit_queued().await;
    harness.advance(10);
    let poll = harness.claim_one(Queue::Polls).await;
    harness.store.apply(poll.lease, crate::harness::ready("salom yana").into()).await.unwrap();
    assert_eq!(event_of(&harness.claim_delivery().await).0, "analysis.updated");
}

pub(crate) async fn a_call_is_adopted_once(harness: Harness) {
    for words in ["salom", "boshqa"] {
        harness.store.adopt(&acme(), &call_id("1"), trace(), obtained(words)).await.unwrap();
        harness.advance(1);
    }
    let found = harness.find("1").await;
    assert_eq!((found.analysis.status, found.analysis.revision), (Status::Completed, 1));
    assert_eq!((found.analysis.submitted_at, found.analysis.finished_at), (START, Some(START)));
    assert_eq!(found.result, Some(obtained("salom").result));
    assert_eq!(found.analysis.work.unwrap().stage, Stage::Settle);
    let answer = harness.store.find_vendor_answer(&acme(), &call_id("1")).await.unwrap();
    assert_eq!(answer, Some(obtained("salom").vendor_answer));

    harness.submit(with_callback("1", "https://a.example/")).await;
    assert_eq!(event_of(&harness.claim_delivery().await).0, "analysis.completed");
}

pub(crate) async fn adopting_does_not_change_an_existing_analysis(harness: Harness) {
    let standing = harness.submit(with_callback("1", "https://a.example/")).await;
    harness.changes();
    harness.store.adopt(&acme(), &call_id("1"), trace(), obtained("salom")).await.unwrap();
    assert_eq!(harness.find("1").await, standing);
    assert_eq!(harness.changes(), []);
    assert_eq!(harness.deliveries("1").await, []);

    let submit = harness.claim_one(Queue::Submits).await;
    harness.store.adopt(&acme(), &call_id("1"), trace(), obtained("salom")).await.unwrap();
    let step = Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned()));
    let applied = harness.store.apply(submit.lease, step.into()).await.unwrap();
    assert_eq!(applied.analysis.status, Status::Failed);
}
