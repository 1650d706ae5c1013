//! The transcript in each format, selected by `Accept` or by `?format=`.

use reqwest::Method;
use serde_json::json;

use crate::stage::Stage;

const PATH: &str = "/v1/analyses/known-1/transcript";

/// The value of `format`, its media type, the `Content-Type` of the response, and the beginning of the body.
const FORMS: [(&str, &str, &str, &str); 5] = [
    ("json", "application/json", "application/json", "{\"call_id\":\"known-1\","),
    ("text", "text/plain", "text/plain; charset=utf-8", "[0:00:"),
    ("markdown", "text/markdown", "text/markdown; charset=utf-8", "# Call known-1\n\n- Begin: 20"),
    ("vtt", "text/vtt", "text/vtt; charset=utf-8", "WEBVTT\n\n00:00:"),
    ("srt", "application/x-subrip", "application/x-subrip; charset=utf-8", "1\n00:00:"),
];

#[tokio::test]
async fn each_format_is_available_by_accept_and_by_parameter() {
    let stage = Stage::start().await;
    let mut tags = Vec::new();
    for (format, accepted, media_type, begin) in FORMS {
        let by_type = stage.acme().get_with(PATH, &[("accept", accepted)]).await;
        assert_eq!((by_type.status, by_type.header("content-type")), (200, media_type));
        assert!(by_type.text().starts_with(begin), "{}", by_type.text());
        assert_eq!(by_type.header("vary"), "Accept, Authorization");
        assert_eq!(by_type.header("cache-control"), "private, no-cache");
        let extension = match format {
            "text" => "txt",
            "markdown" => "md",
            other => other,
        };
        let name = format!("inline; filename=\"known-1.{extension}\"");
        assert_eq!(by_type.header("content-disposition"), name);

        // The parameter takes precedence over the header.
        let path = format!("{PATH}?format={format}");
        for other in ["application/json", "text/vtt", "image/png"] {
            let by_name = stage.acme().get_with(&path, &[("accept", other)]).await;
            assert_eq!((by_name.status, &by_name.body), (200, &by_type.body), "{format} {other}");
            assert_eq!(by_name.header("etag"), by_type.header("etag"));
        }
        let head = stage.acme().send(Method::HEAD, &path, &[], "").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        for same in ["etag", "content-type", "content-length", "content-disposition", "vary"] {
            assert_eq!(head.header(same), by_type.header(same), "{same} of {format}");
        }
        tags.push(by_type.header("etag").to_owned());
    }
    for (place, (format, ..)) in FORMS.iter().enumerate() {
        // The entity tag of one format does not match another format.
        for (other, tag) in tags.iter().enumerate() {
            let path = format!("{PATH}?format={format}");
            let answer = stage.acme().get_with(&path, &[("if-none-match", tag)]).await;
            let status = if other == place { 304 } else { 200 };
            assert_eq!((answer.status, answer.header("etag")), (status, tags[place].as_str()), "{format}");
        }
    }
}

#[tokio::test]
async fn the_preferred_format_is_returned() {
    let stage = Stage::start().await;
    for (accept, media_type) in [
        ("*/*", "application/json"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("text/*", "text/plain; charset=utf-8"),
        ("text/vtt;q=0.9, application/x-subrip;q=0.8", "text/vtt; charset=utf-8"),
        ("application/json;q=0, */*;q=0.1", "text/plain; charset=utf-8"),
    ] {
        let answer = stage.acme().get_with(PATH, &[("accept", accept)]).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, media_type), "{accept}");
    }
}

#[tokio::test]
async fn an_unacceptable_format_is_refused_with_the_available_ones() {
    let stage = Stage::start().await;
    for accept in ["image/png", "text/html", "application/json;q=0"] {
        let problem = stage.acme().get_with(PATH, &[("accept", accept)]).await.problem(406, "not_acceptable");
        assert_eq!(
            problem["detail"],
            "Accept excludes all available types: application/json, text/plain, text/markdown, text/vtt, \
             application/x-subrip"
        );
    }
    // An unacceptable format causes no request to the vendor.
    assert!(stage.vendor.calls().is_empty());
    let wrong = stage.acme().get(&format!("{PATH}?format=pdf")).await;
    assert_eq!(wrong.pointers(), ["?format"]);
    assert_eq!(stage.acme().get(&format!("{PATH}?form=vtt")).await.pointers(), ["?form"]);
}

#[tokio::test]
async fn every_format_has_the_turns_of_the_analysis() {
    let stage = Stage::start().await;
    let analysis = stage.acme().analysis("known-1").await.json();
    let turns = analysis["transcript"].as_array().unwrap();
    assert!(turns.len() > 5);
    for (format, mark) in [("text", "] "), ("markdown", ":** "), ("vtt", "</v>"), ("srt", ": ")] {
        let answer = stage.acme().get(&format!("{PATH}?format={format}")).await;
        let lines: Vec<_> = answer.text().lines().filter(|line| line.contains(mark)).collect();
        assert_eq!(lines.len(), turns.len(), "{format}: {}", answer.text());
        for (line, turn) in lines.iter().zip(turns) {
            assert!(line.contains(turn["text"].as_str().unwrap()), "{format}: {line} for {turn}");
        }
    }
}

#[tokio::test]
async fn without_a_result_no_format_is_available() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "never-ready~1"})).await;
    for (format, ..) in FORMS {
        let path = format!("/v1/analyses/never-ready~1/transcript?format={format}");
        stage.acme().get(&path).await.problem(409, "no_result");
    }
}
