//! Attributes: calls are found by their facts and by their metadata.

use std::time::Duration;

use alovoice_gateway::domain::analysis::{Metadata, Status, Submission};
use alovoice_gateway::domain::attributes::{Attribute, AttributeSource};
use alovoice_gateway::domain::call_facts::CallFacts;
use alovoice_gateway::domain::listing::{AnalysisFilter, AnalysisQuery, ListedAnalysis};
use alovoice_gateway::domain::search::SearchQuery;
use alovoice_gateway::domain::tags::TagKey;
use serde_json::{Map, Value, json};

use super::listings::{MANY, calls, fill, names, page, whole_page};
use crate::harness::{Harness, START, acme, call_id, globex, ready, submission, with_metadata};
use crate::rows::readable;

/// A submission with call facts and metadata.
fn with_facts(call: &str, facts: Value, metadata: Value) -> Submission {
    let facts: CallFacts = serde_json::from_value(facts).unwrap();
    let metadata: Option<Map<String, Value>> = serde_json::from_value(metadata).unwrap();
    let metadata = metadata.map(|object| Metadata::parse(object).unwrap());
    Submission { call: facts, metadata, ..submission(call) }
}

pub(crate) fn having(attributes: &[(AttributeSource<'_>, &str)]) -> AnalysisFilter {
    let attributes = attributes.iter().map(|(source, value)| Attribute::new(*source, value).unwrap());
    AnalysisFilter { attributes: attributes.collect(), ..AnalysisFilter::default() }
}

fn ticket(ticket: &str) -> AnalysisFilter {
    having(&[(AttributeSource::Metadata("ticket"), ticket)])
}

async fn attribute_rows(harness: &Harness) -> u64 {
    harness.rows.number("SELECT count(*) FROM attributes").await
}

pub(crate) async fn calls_are_found_by_facts_and_metadata(harness: Harness) {
    use AttributeSource::{Agent, Crm, Direction, Metadata, Phone, Queue};
    let facts = json!({
        "direction": "inbound", "agent": {"id": "17", "name": "Дилноза"}, "phone": "+998901234567",
        "queue": "support", "crm": {"lead": "42"},
    });
    let found =
        harness.submit(with_facts("1", facts.clone(), json!({"ticket": "T-1", "client": {"id": 7}}))).await;
    assert_eq!(serde_json::to_value(&found.analysis.call).unwrap()["phone"], "+998901234567");
    assert_eq!(harness.find("1").await, found);
    harness
        .submit(with_facts(
            "2",
            json!({"direction": "inbound", "agent": {"id": "18", "name": null}}),
            json!({"lead": "42"}),
        ))
        .await;
    let theirs = with_facts("3", facts, json!({"ticket": "T-1"}));
    harness.store.submit(&globex(), theirs).await.unwrap();

    for attribute in [
        (Agent, "17"),
        (Agent, "Дилноза"),
        (Phone, "+998901234567"),
        (Queue, "support"),
        (Crm("lead"), "42"),
        (Metadata("ticket"), "T-1"),
        (Metadata("client.id"), "7"),
    ] {
        assert_eq!(calls(&harness, having(&[attribute])).await, ["1"], "{attribute:?}");
        assert_eq!(
            calls(&harness, having(&[attribute, (Direction, "inbound")])).await,
            ["1"],
            "{attribute:?}"
        );
        assert_eq!(
            calls(&harness, having(&[attribute, (Direction, "outbound")])).await,
            [""; 0],
            "{attribute:?}"
        );
    }
    assert_eq!(calls(&harness, having(&[(Direction, "inbound")])).await, ["2", "1"]);
    assert_eq!(calls(&harness, having(&[(Metadata("lead"), "42")])).await, ["2"]);
    for attribute in
        [(Agent, "1"), (Agent, "дилноза"), (Queue, "support "), (Crm("lead"), "4"), (Metadata("client"), "7")]
    {
        assert_eq!(calls(&harness, having(&[attribute])).await, [""; 0], "{attribute:?}");
    }
}

pub(crate) async fn attributes_combine_with_other_filters(harness: Harness) {
    let agent = |status| AnalysisFilter { status, ..having(&[(AttributeSource::Agent, "17")]) };
    let facts = || json!({"agent": {"id": "17", "name": null}});
    harness.complete(with_facts("done", facts(), Value::Null), "salom").await;
    harness.complete(submission("other"), "salom").await;
    harness.submit(with_facts("waiting", facts(), Value::Null)).await;
    assert_eq!(calls(&harness, agent(None)).await, ["waiting", "done"]);
    assert_eq!(calls(&harness, agent(Some(Status::Completed))).await, ["done"]);
    assert_eq!(calls(&harness, agent(Some(Status::Queued))).await, ["waiting"]);
    assert_eq!(calls(&harness, agent(Some(Status::Failed))).await, [""; 0]);
    let search = Some(SearchQuery::parse("salom", None).unwrap());
    assert_eq!(calls(&harness, AnalysisFilter { search, ..agent(None) }).await, ["done"]);
    let tags = vec![TagKey::of("Цена")];
    assert_eq!(calls(&harness, AnalysisFilter { tags, ..agent(None) }).await, [""; 0]);
    let submitted_after = Some(START + Duration::from_secs(5));
    assert_eq!(calls(&harness, AnalysisFilter { submitted_after, ..agent(None) }).await, ["waiting"]);
    let submitted_before = Some(START + Duration::from_secs(5));
    assert_eq!(calls(&harness, AnalysisFilter { submitted_before, ..agent(None) }).await, ["done"]);
}

pub(crate) async fn a_resubmission_replaces_facts_and_attributes(harness: Harness) {
    use AttributeSource::{Agent, Crm, Queue};
    let first = json!({"agent": {"id": "17", "name": "Dilnoza"}, "queue": "support", "crm": {"lead": "1"}});
    harness.complete(with_facts("1", first, json!({"ticket": "T-1"})), "salom").await;
    let second = json!({"agent": {"id": "18", "name": null}, "crm": {"deal": "2"}});
    let found = harness.submit(with_facts("1", second, Value::Null)).await;
    let expected = json!({
        "direction": null, "agent": {"id": "18", "name": null}, "phone": null, "queue": "support", "started_at": null,
        "crm": {"deal": "2"},
    });
    assert_eq!(serde_json::to_value(&found.analysis.call).unwrap(), expected);
    assert_eq!(harness.find("1").await, found);
    let submitted = harness.store.find_submitted_data(&acme(), &call_id("1")).await.unwrap().unwrap();
    assert_eq!((&submitted.call, &submitted.metadata), (&found.analysis.call, &found.analysis.metadata));
    assert_eq!(harness.store.find_submitted_data(&globex(), &call_id("1")).await.unwrap(), None);
    for gone in [(Agent, "17"), (Agent, "Dilnoza"), (Crm("lead"), "1")] {
        assert_eq!(calls(&harness, having(&[gone])).await, [""; 0], "{gone:?}");
    }
    assert_eq!(
        calls(&harness, having(&[(Agent, "18"), (Crm("deal"), "2"), (Queue, "support")])).await,
        ["1"]
    );
    assert_eq!(calls(&harness, ticket("T-1")).await, ["1"]);
    harness.submit(with_metadata("1", "T-2")).await;
    assert_eq!(calls(&harness, ticket("T-1")).await, [""; 0]);
    assert_eq!(calls(&harness, ticket("T-2")).await, ["1"]);

    // A step of the work keeps the facts, and its event has them.
    harness.advance(1000);
    let poll = harness.claim_one(alovoice_gateway::store::Queue::Polls).await;
    let applied = harness.store.apply(poll.lease, ready("salom").into()).await.unwrap();
    assert_eq!(applied.analysis.call, found.analysis.call);
    assert_eq!(calls(&harness, ticket("T-2")).await, ["1"]);
}

pub(crate) async fn calls_of_a_batch_have_facts_and_attributes(harness: Harness) {
    let facts = |agent: &str| json!({"agent": {"id": agent, "name": null}});
    harness.submit(with_facts("old", facts("17"), Value::Null)).await;
    let batch = vec![
        with_facts("new", facts("17"), json!({"ticket": "T-1"})),
        with_facts("old", facts("18"), Value::Null),
        with_facts("new", facts("19"), Value::Null),
        submission("plain"),
    ];
    let found = harness.store.submit_all(&acme(), batch).await.unwrap();
    assert_eq!((&found[1], &found[2]), (&harness.find("old").await, &harness.find("new").await));
    let of = |agent: &'static str| having(&[(AttributeSource::Agent, agent)]);
    assert_eq!(calls(&harness, of("17")).await, [""; 0]);
    assert_eq!(calls(&harness, of("18")).await, ["old"]);
    assert_eq!(calls(&harness, of("19")).await, ["new"]);
    assert_eq!(calls(&harness, ticket("T-1")).await, ["new"]);
}

pub(crate) async fn a_deleted_call_leaves_no_attributes(harness: Harness) {
    harness.submit(with_metadata("1", "T-1")).await;
    harness.submit(with_metadata("2", "T-1")).await;
    assert_eq!(attribute_rows(&harness).await, 2);
    harness.store.delete_analysis(&acme(), &call_id("1"), super::deletion::actor()).await.unwrap();
    assert_eq!(
        (attribute_rows(&harness).await, calls(&harness, ticket("T-1")).await),
        (1, vec!["2".to_owned()])
    );
}

pub(crate) async fn metadata_of_an_earlier_version_is_indexed(harness: Harness) {
    for number in 0..5 {
        harness.submit(with_metadata(&number.to_string(), "T-1")).await;
        harness.advance(1);
    }
    harness.submit(submission("plain")).await;
    // An earlier version writes no call facts and no attributes.
    harness.rows.execute("DELETE FROM attributes").await;
    harness.rows.change("UPDATE analyses SET call_facts = NULL", 6).await;
    // A step of the work does not hide the rows from the indexer.
    harness.submit_queued().await;
    harness.rows.change("UPDATE analyses SET metadata = '{' WHERE call_id = '3'", 1).await;
    assert_eq!(harness.find("plain").await.analysis.call, CallFacts::default());
    assert_eq!(calls(&harness, ticket("T-1")).await, [""; 0]);
    assert_eq!(harness.store.index_attributes_across_tenants(2).await.unwrap(), 2);
    assert_eq!(harness.store.index_attributes_across_tenants(10).await.unwrap(), 3);
    assert_eq!(harness.store.index_attributes_across_tenants(10).await.unwrap(), 0);
    assert_eq!(calls(&harness, ticket("T-1")).await, ["4", "2", "1", "0"]);
    assert_eq!(attribute_rows(&harness).await, 4);
}

pub(crate) async fn attributes_follow_a_corrected_time(harness: Harness) {
    harness.submit(with_metadata("1", "T-1")).await;
    harness.advance(1);
    harness.submit(with_metadata("2", "T-1")).await;
    assert_eq!(calls(&harness, ticket("T-1")).await, ["2", "1"]);
    harness
        .rows
        .change("UPDATE analyses SET submitted_at = submitted_at + 5000 WHERE call_id = '1'", 1)
        .await;
    assert_eq!(calls(&harness, ticket("T-1")).await, ["1", "2"]);
    let first = page(&harness, &acme(), ticket("T-1"), None, 1).await;
    let rest = page(&harness, &acme(), ticket("T-1"), Some(first[0].position()), 10).await;
    assert_eq!(names(&rest), ["2"]);
}

/// Gives an attribute to the calls of [`fill`] that meet a condition.
pub(crate) async fn give(harness: &Harness, name: &str, value: &str, condition: &str) {
    harness
        .rows
        .execute(&format!(
            "INSERT INTO attributes (analysis, tenant, call_id, submitted_at, name, value) \
             SELECT id, tenant, call_id, submitted_at, '{name}', '{value}' FROM analyses WHERE {condition}"
        ))
        .await;
}

pub(crate) async fn pages_along_an_attribute_have_every_call_once(harness: Harness) {
    fill(&harness).await;
    let (oldest, start) = (2_500, START.as_millis());
    give(&harness, "agent", "17", &format!("submitted_at <= {start} + {oldest}")).await;
    give(&harness, "queue", "support", "revision > 0").await;
    give(&harness, "direction", "inbound", "revision > 0").await;
    let wanted: Vec<String> = (1..=oldest).rev().map(|number| format!("c{number:05}")).collect();
    use AttributeSource::{Agent, Direction, Queue};
    for attributes in [
        &[(Agent, "17")][..],
        &[(Agent, "17"), (Queue, "support")],
        &[(Queue, "support"), (Direction, "inbound"), (Agent, "17")],
    ] {
        for status in [None, Some(Status::Completed)] {
            let filter = AnalysisFilter { status, ..having(attributes) };
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let query = AnalysisQuery { filter: filter.clone(), after, limit: 200 };
                let page = harness.store.list_analyses(&acme(), query).await.unwrap();
                let analyses = readable(page.analyses);
                found.extend(names(&analyses));
                let last = analyses.last().map(ListedAnalysis::position).filter(|_| analyses.len() == 200);
                after = page.searched_to.or(last);
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, wanted, "{filter:?}");
        }
    }
}

pub(crate) async fn a_rare_attribute_is_found_in_one_page(harness: Harness) {
    fill(&harness).await;
    give(&harness, "queue", "support", "revision > 0").await;
    give(&harness, "phone", "+998901234567", "call_id IN ('c00007', 'c24000')").await;
    use AttributeSource::{Phone, Queue};
    let phone = (Phone, "+998901234567");
    for attributes in [&[phone][..], &[phone, (Queue, "support")], &[(Queue, "support"), phone]] {
        let filter = having(attributes);
        assert_eq!(whole_page(&harness, filter.clone()).await, ["c24000", "c00007"], "{filter:?}");
        let tagged = AnalysisFilter { tags: vec![TagKey::of("Цена")], ..filter };
        assert_eq!(whole_page(&harness, tagged.clone()).await, ["c00007"], "{tagged:?}");
        let failed = AnalysisFilter { tags: Vec::new(), status: Some(Status::Failed), ..tagged };
        assert_eq!(whole_page(&harness, failed.clone()).await, [""; 0], "{failed:?}");
    }
    let absent = having(&[(Phone, "+998900000000"), (Queue, "support")]);
    assert_eq!(whole_page(&harness, absent).await, [""; 0]);
    let newest = whole_page(&harness, having(&[(Queue, "support")])).await;
    assert_eq!((newest.len(), newest[0].as_str()), (100, format!("c{MANY}").as_str()));
}
