//! Lists and searches in pages.

use serde_json::{Value, json};

use crate::caller::Caller;
use crate::stage::Stage;

async fn list(caller: &Caller, query: &str) -> Value {
    let answer = caller.get(&format!("/v1/analyses{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    answer.json()
}

fn calls(list: &Value) -> Vec<&str> {
    list["analyses"].as_array().unwrap().iter().map(|entry| entry["call_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_summary_is_the_analysis_without_its_transcript() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    assert_eq!(list(&acme, "").await, json!({"analyses": [], "next_cursor": null}));
    acme.submitted(json!({"call_id": "1716207617.42", "metadata": {"ticket": "T-1"}})).await;
    let mut whole = acme.outcome("1716207617.42").await;
    let listed = list(&acme, "").await;
    assert_eq!(listed["next_cursor"], Value::Null);
    let mut names: Vec<Value> = Vec::new();
    for tag in whole["tags"].take().as_array().unwrap() {
        if !names.contains(&tag["name"]) {
            names.push(tag["name"].clone());
        }
    }
    let fields = whole.as_object_mut().unwrap();
    for left_out in ["transcript", "tags", "warnings"] {
        fields.remove(left_out);
    }
    fields.insert("tag_names".to_owned(), names.into());
    assert_eq!(listed["analyses"], json!([whole]));
}

#[tokio::test]
async fn filters_combine_within_one_tenant() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    for call in ["1716207617.42", "submit-400~1"] {
        acme.submitted(json!({"call_id": call})).await;
        acme.outcome(call).await;
    }
    for (query, wanted) in [
        ("?status=completed", &["1716207617.42"][..]),
        ("?status=failed", &["submit-400~1"]),
        ("?status=queued", &[]),
        ("?q=assalomu%20KLINIKA", &["1716207617.42"]),
        ("?q=%D0%B0%D1%81%D1%81%D0%B0%D0%BB%D0%BE%D0%BC%D1%83", &["1716207617.42"]),
        ("?q=assalomu&speaker=operator&status=completed", &["1716207617.42"]),
        ("?q=qabulxonasi&speaker=client", &[]),
        ("?q=qabul*", &["1716207617.42"]),
        ("?speaker=client", &["1716207617.42"]),
        ("?tag=%D0%9F%D1%80%D0%B8%D0%B2%D0%B5%D1%82%D1%81%D0%B2%D0%B8%D0%B5", &["1716207617.42"]),
        ("?tag=nothing-of-the-kind", &[]),
        ("?submitted_after=2024-01-01T00:00:00Z&submitted_before=2024-01-02T00:00:00Z", &[]),
        ("?submitted_after=2024-01-01T00:00:00Z&limit=1", &["submit-400~1"]),
        ("?submitted_after=2024-01-01T00:00:00+05:00&limit=1", &["submit-400~1"]),
        ("?submitted_before=2024-01-01T00:00:00+05:00", &[]),
    ] {
        assert_eq!(calls(&list(&acme, query).await), wanted, "{query}");
        assert_eq!(calls(&list(&stage.globex(), query).await), [""; 0], "{query}");
    }
}

#[tokio::test]
async fn pages_contain_every_analysis_once() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    for call in 0..7 {
        acme.submit(json!({"call_id": format!("never-ready~{call}")})).await;
    }
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    for round in 0.. {
        let page = list(&acme, &query).await;
        seen.extend(calls(&page).into_iter().map(str::to_owned));
        acme.submit(json!({"call_id": format!("never-ready~later-{round}")})).await;
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..7).map(|call| format!("never-ready~{call}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn invalid_list_parameters_are_named() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    for call in ["1", "2"] {
        acme.submit(json!({"call_id": call})).await;
    }
    let page = list(&acme, "?limit=1").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let elsewhere = format!("?limit=1&status=completed&cursor={cursor}");
    for (query, pointer) in [
        ("?limit=0", "?limit"),
        ("?limit=201", "?limit"),
        ("?limit=some", "?limit"),
        ("?status=done", "?status"),
        ("?q=%20", "?q"),
        ("?q=a*", "?q"),
        ("?speaker=robot", "?speaker"),
        ("?tag=", "?tag"),
        ("?submitted_after=yesterday", "?submitted_after"),
        ("?cursor=made-up", "?cursor"),
        ("?cursor=", "?cursor"),
        (&format!("?cursor={}", &cursor[1..]), "?cursor"),
        (&elsewhere, "?cursor"),
        ("?page=2", "?page"),
    ] {
        let answer = acme.get(&format!("/v1/analyses{query}")).await;
        assert_eq!(answer.pointers(), [pointer], "{query}");
    }
    let foreign = stage.globex().get(&format!("/v1/analyses?cursor={cursor}")).await;
    assert_eq!(foreign.pointers(), ["?cursor"]);
}
