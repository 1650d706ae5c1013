//! Lists of analyses: order, pages, filters and search.

use std::time::Instant;

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
use crate::patience::PATIENCE;
use crate::rows::readable;

/// One page of a tenant's list.
pub(super) async fn page(
    harness: &Harness,
    tenant: &TenantId,
    filter: AnalysisFilter,
    after: Option<ListPosition>,
    limit: usize,
) -> Vec<ListedAnalysis> {
    let query = AnalysisQuery { filter, after, limit };
    readable(harness.store.list_analyses(tenant, query).await.unwrap().analyses)
}

/// A page of the calls of the tenant acme that did not end early. On a busy machine, the time of a page may be over before.
pub(crate) async fn whole_page(harness: &Harness, filter: AnalysisFilter) -> Vec<String> {
    let began = Instant::now();
    loop {
        let query = AnalysisQuery { filter: filter.clone(), after: None, limit: 100 };
        let page = harness.store.list_analyses(&acme(), query).await.unwrap();
        if page.searched_to.is_none() {
            return names(&readable(page.analyses));
        }
        assert!(began.elapsed() < PATIENCE, "each page ends early: {filter:?}");
    }
}

/// The calls of the tenant acme that match a filter.
pub(super) async fn calls(harness: &Harness, filter: AnalysisFilter) -> Vec<String> {
    names(&page(harness, &acme(), filter, None, 1000).await)
}

pub(super) fn names(listed: &[ListedAnalysis]) -> Vec<String> {
    listed.iter().map(|listed| listed.analysis.call_id.to_string()).collect()
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
    let rest = page(&harness, &acme(), AnalysisFilter::default(), Some(first[1].position()), 2).await;
    assert_eq!(names(&rest), ["a", "C"]);
    assert_eq!(page(&harness, &acme(), AnalysisFilter::default(), Some(rest[1].position()), 2).await, []);
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
        after = Some(last.position());
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
    harness.store.apply(claimed.lease, rejected.into()).await.unwrap();
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
        attributes: Vec::new(),
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
    assert_eq!(names(&page(&harness, &acme(), wider, Some(first[0].position()), 1).await), ["1"]);
}

pub(crate) async fn a_revision_replaces_the_search_entry(harness: Harness) {
    harness.complete(submission("1"), "salom").await;
    harness.submit(reanalysis("1")).await;
    harness.submit_queued().await;
    harness.advance(10);
    let poll = harness.claim_one(Queue::Polls).await;
    let mut revised = result(&[("operator", "xayr")], &["Цена"]);
    revised.vendor_answer = "another".into();
    harness.store.apply(poll.lease, Step::Polled(PollOutcome::Ready(revised)).into()).await.unwrap();
    assert_eq!(calls(&harness, search("salom", None)).await, [""; 0]);
    assert_eq!(calls(&harness, search("xayr", None)).await, ["1"]);
    assert_eq!(calls(&harness, tagged(&["Цена"])).await, ["1"]);

    harness.submit(reanalysis("1")).await;
    harness.submit_queued().await;
    harness.advance(10);
    let poll = harness.claim_one(Queue::Polls).await;
    harness.store.apply(poll.lease, ready("yana salom").into()).await.unwrap();
    assert_eq!(calls(&harness, tagged(&["Цена"])).await, [""; 0]);
    assert_eq!(calls(&harness, search("salom", None)).await, ["1"]);
}

pub(crate) async fn the_longest_transcript_is_stored_and_found(harness: Harness) {
    let endless: String = (0..60_000).map(|n| format!("so'z{n} ")).collect();
    adopt(&harness, "1", &[("client", &endless)], &["x"; 500]).await;
    assert_eq!(calls(&harness, search("soz0 so'z1", Some(SpeakerSide::Client))).await, ["1"]);
}

pub(crate) async fn a_prefix_of_many_words_finds_every_call(harness: Harness) {
    let call = |number: usize| format!("{number:02}");
    for number in 0..50 {
        // Words of several lengths, each in one call.
        let word = format!("so{}{number}", "z".repeat(number % 3));
        adopt(&harness, &call(number), &[("operator", &word)], &[]).await;
    }
    adopt(&harness, "other", &[("operator", "salom"), ("client", "nosoz")], &[]).await;
    let wanted: Vec<String> = (0..50).rev().map(call).collect();
    assert_eq!(calls(&harness, search("so*", None)).await, wanted);
    assert_eq!(calls(&harness, search("so* soz4*", None)).await, ["49", "46", "43", "40", "04"]);
    assert_eq!(calls(&harness, search("so* sa*", None)).await, [""; 0]);
    assert_eq!(calls(&harness, search("so*", Some(SpeakerSide::Client))).await, [""; 0]);
    let first = page(&harness, &acme(), search("so*", None), None, 40).await;
    let rest = page(&harness, &acme(), search("so*", None), Some(first[39].position()), 40).await;
    assert_eq!([names(&first), names(&rest)].concat(), wanted);
}

/// Number of calls that [`fill`] creates.
pub(super) const MANY: usize = 25_000;
/// Number of the oldest of these calls that have the tag and the word, besides the newest call.
const OLD: usize = 2_500;

/// Fills the store with calls of the tenant acme, `c00001` first.
pub(crate) async fn fill(harness: &Harness) {
    let start = START.as_millis();
    let trace = "{\"trace_id\":101518349412345678901234567890,\"flags\":0}";
    let numbers = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {MANY})"
    );
    let rows = &harness.rows;
    rows.execute(&format!(
        "{numbers} INSERT INTO analyses (tenant, call_id, status, revision, submitted_at, finished_at, metadata, trace) \
         SELECT 'acme', 'c' || substr(CAST(100000 + n AS text), 2), 'completed', 1, {start} + n, {start} + n, '{{}}', '{trace}' \
         FROM numbers"
    ))
    .await;
    let matching = format!("submitted_at <= {start} + {OLD} OR submitted_at = {start} + {MANY}");
    rows.execute(&format!(
        "INSERT INTO tags (tenant, name, analysis) SELECT 'acme', 'Цена', id FROM analyses WHERE {matching}"
    ))
    .await;
    rows.index_words("t_acme o_ salom o_salom", "revision > 0").await;
    rows.index_words("t_acme o_ salom o_salom narxi o_narxi", &matching).await;
}

pub(crate) async fn a_page_that_ends_early_has_a_position_to_continue_from(harness: Harness) {
    fill(&harness).await;
    let wanted: Vec<String> =
        std::iter::once(MANY).chain((1..=OLD).rev()).map(|number| format!("c{number:05}")).collect();
    for filter in
        [tagged(&["Цена"]), search("narxi", None), search("salom narx*", Some(SpeakerSide::Operator))]
    {
        let (mut found, mut early_pages, mut after) = (Vec::new(), 0, None);
        loop {
            let query = AnalysisQuery { filter: filter.clone(), after, limit: 100 };
            let page = harness.store.list_analyses(&acme(), query).await.unwrap();
            let analyses = readable(page.analyses);
            found.extend(names(&analyses));
            let is_full = analyses.len() == 100;
            assert!(!(is_full && page.searched_to.is_some()), "a full page has not ended early");
            early_pages += usize::from(page.searched_to.is_some());
            let last = analyses.last().map(ListedAnalysis::position).filter(|_| is_full);
            after = page.searched_to.or(last);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, wanted, "{filter:?}");
        assert!(early_pages > 0, "no page ended early: {filter:?}");
    }
}

pub(crate) async fn rare_matches_are_found_in_one_page(harness: Harness) {
    fill(&harness).await;
    let rare = "submitted_at = 1716207617007";
    harness
        .rows
        .execute(&format!(
            "INSERT INTO tags (tenant, name, analysis) SELECT 'acme', 'rare', id FROM analyses WHERE {rare}"
        ))
        .await;
    harness.rows.index_words("t_acme o_ qimmat o_qimmat", rare).await;
    for filter in [
        tagged(&["rare"]),
        tagged(&["Цена", "rare"]),
        search("qimmat", None),
        search("qimma*", None),
        AnalysisFilter { status: Some(Status::Completed), ..search("qimmat", Some(SpeakerSide::Operator)) },
    ] {
        assert_eq!(whole_page(&harness, filter).await, ["c00007"]);
    }
    for filter in [tagged(&["absent"]), search("absent", None), search("absent*", None)] {
        assert_eq!(whole_page(&harness, filter).await, [""; 0]);
    }
}
