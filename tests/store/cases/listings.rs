//! Lists of analyses: order, pages, filters and search.

use alovoice_gateway::domain::analysis::{Status, VendorResult};
use alovoice_gateway::domain::ids::TenantId;
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step, SubmitOutcome};
use alovoice_gateway::domain::listing::{AnalysisFilter, AnalysisQuery, ListPosition, ListedAnalysis};
use alovoice_gateway::domain::search::{SearchQuery, SpeakerSide};
use alovoice_gateway::domain::summary::ResultSummary;
use alovoice_gateway::domain::tags::{Tag, TagKey};
use alovoice_gateway::domain::transcript::Speaker;
use alovoice_gateway::store::Queue;

use crate::harness::{
    Harness, START, acme, call_id, globex, obtained, ready, reanalysis, submission, trace, with_metadata,
};
use crate::rows::readable;

/// One page of a tenant's list.
async fn page(
    harness: &Harness,
    tenant: &TenantId,
    filter: AnalysisFilter,
    after: Option<ListPosition>,
    limit: usize,
) -> Vec<ListedAnalysis> {
    readable(harness.store.list_analyses(tenant, AnalysisQuery { filter, after, limit }).await.unwrap())
}

/// The calls of the tenant acme that match a filter.
async fn calls(harness: &Harness, filter: AnalysisFilter) -> Vec<String> {
    names(&page(harness, &acme(), filter, None, 1000).await)
}

fn names(listed: &[ListedAnalysis]) -> Vec<String> {
    listed.iter().map(|listed| listed.analysis.call_id.to_string()).collect()
}

fn position(listed: &ListedAnalysis) -> ListPosition {
    ListPosition { submitted_at: listed.analysis.submitted_at, call_id: listed.analysis.call_id.to_string() }
}

fn search(text: &str, side: Option<SpeakerSide>) -> AnalysisFilter {
    AnalysisFilter { search: Some(SearchQuery::parse(text, side).unwrap()), ..AnalysisFilter::default() }
}

fn tagged(names: &[&str]) -> AnalysisFilter {
    AnalysisFilter { tags: names.iter().map(|name| TagKey::of(name)).collect(), ..AnalysisFilter::default() }
}

/// A result with these turns and tags.
fn result(turns: &[(&str, &str)], tags: &[&str]) -> Box<VendorResult> {
    let mut obtained = obtained("");
    let turn = obtained.result.transcript.remove(0);
    for (speaker, text) in turns {
        let mut turn = turn.clone();
        (turn.speaker, turn.text) = (Speaker::from_word(speaker), (*text).to_owned());
        obtained.result.transcript.push(turn);
    }
    obtained.result.tags = tags
        .iter()
        .map(|name| Tag {
            name: (*name).to_owned(),
            value: serde_json::Value::Null,
            visible: serde_json::Value::Null,
            r#type: None,
            begin_ms: None,
            end_ms: None,
            match_text: None,
            fragment_id: None,
        })
        .collect();
    obtained
}

/// Adopts a finished call.
async fn adopt(harness: &Harness, call: &str, turns: &[(&str, &str)], tags: &[&str]) {
    let taken = harness.store.adopt(&acme(), &call_id(call), trace(), result(turns, tags)).await.unwrap();
    assert!(taken);
}

pub(crate) async fn a_page_is_limited_and_has_the_newest_first(harness: Harness) {
    for call in ["b", "a", "C"] {
        harness.submit(submission(call)).await;
    }
    harness.advance(1);
    harness.submit(submission("0")).await;
    // Analyses of the same time are sorted by call id, byte by byte.
    assert_eq!(calls(&harness, AnalysisFilter::default()).await, ["0", "b", "a", "C"]);
    let first = page(&harness, &acme(), AnalysisFilter::default(), None, 2).await;
    assert_eq!(names(&first), ["0", "b"]);
    let rest = page(&harness, &acme(), AnalysisFilter::default(), Some(position(&first[1])), 2).await;
    assert_eq!(names(&rest), ["a", "C"]);
    assert_eq!(page(&harness, &acme(), AnalysisFilter::default(), Some(position(&rest[1])), 2).await, []);
}

pub(crate) async fn pages_are_stable_under_writes(harness: Harness) {
    for call in 0..20 {
        harness.submit(submission(&call.to_string())).await;
        harness.advance(1);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    for round in 0.. {
        let listed = page(&harness, &acme(), AnalysisFilter::default(), after, 3).await;
        let Some(last) = listed.last() else { break };
        after = Some(position(last));
        seen.extend(names(&listed));
        // A new analysis, changes on the earlier and the later page, and a deletion.
        harness.submit(submission(&format!("new-{round}"))).await;
        harness.submit(with_metadata("19", &format!("T-{round}"))).await;
        harness.submit(with_metadata("0", &format!("T-{round}"))).await;
        let gone = &seen[0].clone();
        harness.store.delete_analysis(&acme(), &call_id(gone), super::deletion::actor()).await.unwrap();
        harness.submit(submission(gone)).await;
        harness.advance(1);
    }
    let wanted: Vec<String> = (0..20).rev().map(|call| call.to_string()).collect();
    assert_eq!(seen, wanted);
}

pub(crate) async fn tenants_have_their_own_lists(harness: Harness) {
    adopt(&harness, "1", &[("operator", "salom")], &["Приветсвие"]).await;
    harness.store.submit(&globex(), submission("2")).await.unwrap();
    assert_eq!(names(&page(&harness, &globex(), AnalysisFilter::default(), None, 10).await), ["2"]);
    for filter in [search("salom", None), tagged(&["Приветсвие"])] {
        assert_eq!(calls(&harness, filter.clone()).await, ["1"]);
        assert_eq!(page(&harness, &globex(), filter, None, 10).await, []);
    }
}

pub(crate) async fn a_list_has_records_and_result_summaries(harness: Harness) {
    let found = harness.complete(with_metadata("1", "Ўзбекча \u{0}"), "salom").await;
    let listed = page(&harness, &acme(), AnalysisFilter::default(), None, 10).await;
    let summary = found.result.as_ref().map(ResultSummary::of);
    assert_eq!(listed, [ListedAnalysis { analysis: found.analysis, result: summary }]);
    harness.submit(submission("2")).await;
    assert_eq!(page(&harness, &acme(), AnalysisFilter::default(), None, 1).await[0].result, None);
}

pub(crate) async fn analyses_are_filtered_by_status_and_time(harness: Harness) {
    adopt(&harness, "done", &[], &[]).await;
    harness.advance(10);
    harness.submit(submission("failed")).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    let rejected = Step::Submitted(SubmitOutcome::Rejected("the vendor answered 400".to_owned()));
    harness.store.apply(claimed.lease, rejected).await.unwrap();
    harness.advance(10);
    harness.submit(submission("handed-over")).await;
    harness.submit_queued().await;
    harness.submit(submission("queued")).await;
    for (status, wanted) in [
        (Status::Queued, vec!["queued"]),
        (Status::Processing, vec!["handed-over"]),
        (Status::Completed, vec!["done"]),
        (Status::Failed, vec!["failed"]),
    ] {
        let filter = AnalysisFilter { status: Some(status), ..AnalysisFilter::default() };
        assert_eq!(calls(&harness, filter).await, wanted, "{status:?}");
    }
    let second = std::time::Duration::from_secs(1);
    let between = AnalysisFilter {
        submitted_after: Some(START),
        submitted_before: Some(START + second * 20),
        ..AnalysisFilter::default()
    };
    assert_eq!(calls(&harness, between).await, ["failed"], "the bounds are exclusive");
}

pub(crate) async fn analyses_are_filtered_by_all_given_tags(harness: Harness) {
    adopt(&harness, "1", &[], &["Приветсвие", "Цена", "Цена"]).await;
    adopt(&harness, "2", &[], &["Цена", "o'zbek \"tag\" %"]).await;
    assert_eq!(calls(&harness, tagged(&["Цена"])).await, ["2", "1"]);
    assert_eq!(calls(&harness, tagged(&["Цена", "Приветсвие"])).await, ["1"]);
    assert_eq!(calls(&harness, tagged(&["o'zbek \"tag\" %"])).await, ["2"]);
    assert_eq!(calls(&harness, tagged(&["цена"])).await, [""; 0]);
}

pub(crate) async fn words_are_found_in_every_script_and_spelling(harness: Harness) {
    let talks = [
        ("latin", "Assalomu alaykum, o‘zbek oilaviy klinikasi"),
        ("cyrillic", "Ассалому алайкум, ўзбек оилавий клиникаси"),
        ("russian", "Здравствуйте! Ещё раз: моя мать ждёт, café"),
    ];
    for (call, text) in talks {
        adopt(&harness, call, &[("operator", text)], &[]).await;
    }
    for (text, wanted) in [
        ("assalomu", &["latin", "cyrillic"][..]),
        ("АССАЛОМУ алайкум", &["latin", "cyrillic"]),
        ("o'zbek", &["latin", "cyrillic"]),
        ("oʻzbek", &["latin", "cyrillic"]),
        ("ozbek", &["latin", "cyrillic"]),
        ("ўзбек", &["latin", "cyrillic"]),
        ("klinik* oila*", &["latin", "cyrillic"]),
        ("klinik", &[]),
        ("еще", &["russian"]),
        ("ждет МАТЬ", &["russian"]),
        ("мат", &[]),
        ("cafe", &["russian"]),
        ("assalomu café", &[]),
    ] {
        assert_eq!(calls(&harness, search(text, None)).await, wanted, "{text}");
    }
}

pub(crate) async fn operators_of_query_languages_are_searched_as_words(harness: Harness) {
    adopt(&harness, "1", &[("client", "salom OR not near and ' \" ) ( : * ^ - & | !")], &[]).await;
    for text in
        ["salom OR", "\"salom\"", "NOT near", "salom) AND (not", "salom:not*", "-salom", "salom & | ! <-> or"]
    {
        assert_eq!(calls(&harness, search(text, None)).await, ["1"], "{text}");
    }
    assert_eq!(calls(&harness, search("salom OR xayr", None)).await, [""; 0]);
}

pub(crate) async fn a_search_can_be_limited_to_one_speaker(harness: Harness) {
    let turns = [("operator", "narxi qancha"), ("client", "qimmat ekan"), ("robot", "kuting")];
    adopt(&harness, "1", &turns, &[]).await;
    adopt(&harness, "2", &[("client", "narxi")], &[]).await;
    for (text, side, wanted) in [
        ("narxi", Some(SpeakerSide::Operator), &["1"][..]),
        ("narxi", Some(SpeakerSide::Client), &["2"]),
        ("narxi", None, &["2", "1"]),
        ("narxi qimmat", None, &["1"]),
        ("narxi qimmat", Some(SpeakerSide::Client), &[]),
        ("нарх*", Some(SpeakerSide::Operator), &["1"]),
        ("kuting", None, &["1"]),
    ] {
        assert_eq!(calls(&harness, search(text, side)).await, wanted, "{text} {side:?}");
    }
    let speaks = AnalysisFilter {
        search: Some(SearchQuery::spoken_by(SpeakerSide::Operator)),
        ..AnalysisFilter::default()
    };
    assert_eq!(calls(&harness, speaks).await, ["1"]);
}

pub(crate) async fn tags_are_compared_in_one_unicode_form(harness: Harness) {
    let (composed, decomposed) = ("Мой рейтинг ў ç", "Мои\u{306} реи\u{306}тинг у\u{306} c\u{327}");
    adopt(&harness, "1", &[], &[decomposed]).await;
    adopt(&harness, "2", &[], &[composed, decomposed, composed]).await;
    // Normalization makes this name three times as long, too long for a filter.
    let growing = "\u{1D160}".repeat(256);
    adopt(&harness, "3", &[], &["other", &growing]).await;
    for name in [composed, decomposed] {
        assert_eq!(calls(&harness, tagged(&[name])).await, ["2", "1"], "{name}");
    }
    assert_eq!(calls(&harness, tagged(&["Мои рейтинг ў ç"])).await, [""; 0], "another letter");
    assert_eq!(calls(&harness, tagged(&["other"])).await, ["3"]);
    let listed = page(&harness, &acme(), AnalysisFilter::default(), None, 10).await;
    let names: Vec<_> = listed.iter().map(|listed| listed.result.clone().unwrap().tag_names).collect();
    let names: Vec<Vec<&str>> =
        names.iter().map(|names| names.iter().map(String::as_str).collect()).collect();
    assert_eq!(
        names,
        [vec!["other", &growing], vec![composed, decomposed], vec![decomposed]],
        "names are unchanged"
    );
}

pub(crate) async fn filters_combine(harness: Harness) {
    adopt(&harness, "1", &[("operator", "salom")], &["Цена"]).await;
    harness.advance(5);
    adopt(&harness, "2", &[("operator", "salom")], &["Цена"]).await;
    adopt(&harness, "3", &[("operator", "xayr")], &["Цена"]).await;
    adopt(&harness, "4", &[("operator", "salom")], &[]).await;
    let filter = AnalysisFilter {
        status: Some(Status::Completed),
        tags: vec![TagKey::of("Цена")],
        search: Some(SearchQuery::parse("salom", Some(SpeakerSide::Operator)).unwrap()),
        submitted_after: Some(START),
        submitted_before: None,
    };
    assert_eq!(calls(&harness, filter.clone()).await, ["2"]);
    let wider = AnalysisFilter { submitted_after: None, ..filter };
    let first = page(&harness, &acme(), wider.clone(), None, 1).await;
    assert_eq!(names(&first), ["2"]);
    assert_eq!(names(&page(&harness, &acme(), wider, Some(position(&first[0])), 1).await), ["1"]);
}

pub(crate) async fn a_revision_replaces_the_search_entry(harness: Harness) {
    harness.complete(submission("1"), "salom").await;
    harness.submit(reanalysis("1")).await;
    harness.submit_queued().await;
    harness.advance(10);
    let poll = harness.claim_one(Queue::Polls).await;
    let mut revised = result(&[("operator", "xayr")], &["Цена"]);
    revised.vendor_answer = "another".into();
    harness.store.apply(poll.lease, Step::Polled(PollOutcome::Ready(revised))).await.unwrap();
    assert_eq!(calls(&harness, search("salom", None)).await, [""; 0]);
    assert_eq!(calls(&harness, search("xayr", None)).await, ["1"]);
    assert_eq!(calls(&harness, tagged(&["Цена"])).await, ["1"]);

    harness.submit(reanalysis("1")).await;
    harness.submit_queued().await;
    harness.advance(10);
    let poll = harness.claim_one(Queue::Polls).await;
    harness.store.apply(poll.lease, ready("yana salom")).await.unwrap();
    assert_eq!(calls(&harness, tagged(&["Цена"])).await, [""; 0]);
    assert_eq!(calls(&harness, search("salom", None)).await, ["1"]);
}

pub(crate) async fn the_longest_transcript_is_stored_and_found(harness: Harness) {
    let endless: String = (0..60_000).map(|n| format!("so'z{n} ")).collect();
    adopt(&harness, "1", &[("client", &endless)], &["x"; 500]).await;
    assert_eq!(calls(&harness, search("soz0 so'z1", Some(SpeakerSide::Client))).await, ["1"]);
}
