//! The content and the caching of results.

use std::collections::BTreeSet;

use alovoice_gateway::sandbox::stand_in::Behaviour;
use serde_json::Value;

use crate::play::Play;

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn documented_answers_have_the_fields_of_the_vendors_examples() {
    let play = Play::start().await;
    let submitted = play.answer("callsendai", "1716209468.1").await;
    assert_eq!(names(&submitted), BTreeSet::from(["begin_time", "aicallid", "stereoaudio"]));
    assert_eq!(submitted["begin_time"], 1_716_209_468);
    assert_eq!(submitted["stereoaudio"], "/stereo/1716209468.1");

    let answer = play.finished("1716209468.1").await;
    assert_eq!(names(&answer), BTreeSet::from(["begin_time", "aicallid", "stalk", "tags", "stereoaudio"]));
    assert_ne!(answer["aicallid"], submitted["aicallid"]);
    assert_eq!(answer["aicallid"].as_str().unwrap().len(), 24);
    let stalk = answer["stalk"].as_array().unwrap();
    for turn in stalk {
        assert_eq!(names(turn), BTreeSet::from(["begin", "end", "direction", "text", "fragment_id"]));
    }
    let unmatched = BTreeSet::from(["name", "value", "visible", "tag_type"]);
    let found = BTreeSet::from(["begin", "end", "match_text", "fragment_id"]);
    for tag in answer["tags"].as_array().unwrap() {
        if names(tag) == unmatched {
            continue;
        }
        assert_eq!(names(tag), &unmatched | &found);
        let turn = stalk.iter().find(|turn| turn["fragment_id"] == tag["fragment_id"]).unwrap();
        assert_eq!((&turn["begin"], &turn["end"]), (&tag["begin"], &tag["end"]));
        assert!(turn["text"].as_str().unwrap().contains(tag["match_text"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn changed_answers_show_the_behaviour_in_the_call_id() {
    let play = Play::start().await;
    assert!(play.finished("begin-time-string~1").await["begin_time"].is_string());
    let quoted = play.finished("numbers-as-strings~1").await;
    assert!(quoted["begin_time"].is_string() && quoted["stalk"][0]["end"].is_string());
    assert_eq!(play.finished("direction-other~1").await["stalk"][1]["direction"], "robot");
    let unordered = play.finished("unordered~1").await;
    let begins: Vec<_> =
        unordered["stalk"].as_array().unwrap().iter().map(|turn| turn["begin"].as_i64().unwrap()).collect();
    assert!(
        begins.is_sorted_by(|one, next| one >= next)
            && begins.iter().collect::<BTreeSet<_>>().len() < begins.len()
    );
    let partial = play.finished("missing-fields~1").await;
    assert!(partial["stalk"][0].get("fragment_id").is_none() && partial["stalk"][4].get("text").is_none());
    assert!(partial["tags"][0].get("value").is_none());
    let surprising = play.finished("tag-types~1").await;
    assert_eq!(surprising["tags"][0]["value"], 3);
    assert!(surprising["tags"].as_array().unwrap().iter().any(|tag| tag["tag_type"] == "neural"));
    assert!(surprising["score"].is_object() && surprising["stalk"][0]["emotion"].is_string());
    let elsewhere = play.finished("audio-elsewhere~1").await;
    assert!(elsewhere["stereoaudio"].as_str().unwrap().starts_with("http://localhost:"));
}

#[tokio::test]
async fn some_answers_change_after_the_first() {
    let play = Play::start().await;
    let first = play.finished("tags-more~1").await;
    let second = play.finished("tags-more~1").await;
    assert_eq!(first["tags"].as_array().unwrap().len(), 1);
    assert!(second["tags"].as_array().unwrap().len() > 1);
    let first = play.finished("changed~1").await;
    let second = play.finished("changed~1").await;
    assert_ne!(first["stalk"][0]["text"], second["stalk"][0]["text"]);
    assert_eq!(second, play.finished("changed~1").await);
}

#[tokio::test]
async fn answers_have_the_documented_headers_and_support_revalidation() {
    let play = Play::start().await;
    let response = play.get("callgetairesult", "known-1").await;
    let headers = response.headers().clone();
    for (name, value) in [
        ("server", "nginx"),
        ("content-type", "application/json; charset=utf-8"),
        ("x-powered-by", "Express"),
        ("access-control-allow-origin", "*"),
        ("x-frame-options", "ALLOWALL"),
    ] {
        assert_eq!(headers[name], value);
    }
    let etag = headers["etag"].to_str().unwrap().to_owned();
    let body = response.bytes().await.unwrap();
    let (length, hash) =
        etag.strip_prefix("W/\"").unwrap().strip_suffix('"').unwrap().split_once('-').unwrap();
    assert_eq!(usize::from_str_radix(length, 16).unwrap(), body.len());
    assert_eq!(hash.len(), 27);

    let revalidate = async |call_id: &str, etag: &str| {
        let url = play.url("callgetairesult", call_id);
        play.client.get(url).header("if-none-match", etag).send().await.unwrap()
    };
    let unchanged = revalidate("known-1", &etag).await;
    assert_eq!(unchanged.status(), 304);
    assert_eq!(unchanged.bytes().await.unwrap(), "");
    assert_eq!(play.vendor.calls().last().unwrap().if_none_match.as_deref(), Some(etag.as_str()));

    let ignoring = format!("known-{}~1", Behaviour::EtagIgnored.name());
    let etag = play.get("callgetairesult", &ignoring).await.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(revalidate(&ignoring, &etag).await.status(), 200);
    assert!(!play.get("callgetairesult", "known-no-etag~1").await.headers().contains_key("etag"));
}

#[tokio::test]
async fn compressed_answers_are_compressed() {
    let play = Play::start().await;
    let plain = reqwest::Client::builder().no_gzip().no_proxy().build().unwrap();
    let response = plain.get(play.url("callgetairesult", "known-gzip~1")).send().await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(response.bytes().await.unwrap().starts_with(&[0x1f, 0x8b]));
    assert!(play.finished("gzip~1").await["stalk"].is_array());
}

#[tokio::test]
async fn unknown_tokens_and_paths_are_refused() {
    let play = Play::start().await;
    let base = play.vendor.base_url();
    let status = async |path: &str| play.client.get(base.join(path).unwrap()).send().await.unwrap().status();
    assert_eq!(status("callsendai/wrong/1").await, 401);
    assert_eq!(status("callgetairesult/wrong/known-1").await, 401);
    assert!(play.vendor.calls().iter().all(|request| !request.token_ok));
    assert_eq!(play.poll("1").await, "404 error");
    let page = play.client.get(base.join("nowhere").unwrap()).send().await.unwrap();
    assert_eq!(page.status(), 404);
    assert!(page.text().await.unwrap().contains("Cannot GET /nowhere"));

    play.vendor.set_tokens(vec!["rotated".to_owned()]);
    assert_eq!(play.poll("known-1").await, "401 error");
    assert_eq!(status("callgetairesult/rotated/known-1").await, 200);
}
