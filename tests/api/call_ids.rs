//! Call ids with the characters of SIP Call-IDs, in every route, in the vendor's URLs and in links.

use std::collections::HashSet;

use alovoice_gateway::domain::ids::CallId;
use alovoice_gateway::sandbox::stand_in::Operation;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::stage::{Stage, VENDOR_TOKENS, call};

/// Characters of RFC 3261, section 25.1, `word`, without letters, digits and the slash, and the other characters that
/// ids may have.
const MARKS: &str = "-.!%*_+`'~()<>:\\\"[]?{}@=#";

/// Encodes every byte, as some clients do.
fn every_byte(id: &str) -> String {
    id.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Encodes everything except for unreserved characters (RFC 3986, section 2.3), as `encodeURIComponent` does approximately.
fn reserved(id: &str) -> String {
    let encode = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    id.bytes().map(encode).collect()
}

fn shortest(id: &str) -> String {
    call(id).path_segment().to_string()
}

#[tokio::test]
async fn every_route_takes_a_sip_call_id() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let id = "f81d4fae!%2F*`'~()<>:\\\"[]?{}#=-->@10.0.0.1";
    let answer = acme.submit(json!({"call_id": id, "callback": {"url": stage.hook("ok")}})).await;
    assert_eq!((answer.status, answer.json()["call_id"].as_str()), (202, Some(id)));
    let path = answer.header("location").to_owned();
    assert_eq!(path, "/v1/analyses/f81d4fae!%252F*%60'~()%3C%3E:%5C%22%5B%5D%3F%7B%7D%23=--%3E@10.0.0.1");
    let analysis = acme.outcome(path.rsplit('/').next().unwrap()).await;
    assert_eq!((analysis["call_id"].as_str(), analysis["status"].as_str()), (Some(id), Some("completed")));
    assert_eq!(stage.vendor.submits(&call(id)), 1);

    let audio = analysis["audio_url"].as_str().unwrap();
    assert_eq!(audio, format!("{path}/audio"));
    let recording = acme.get(audio).await;
    assert_eq!((recording.status, recording.header("content-type")), (200, "audio/wav"));
    let name = recording.header("content-disposition");
    assert_eq!(name, format!("inline; filename=\"f81d4fae__2F{}--__10.0.0.1.wav\"", "_".repeat(18)));
    let link = acme.post(&format!("{path}/audio-link"), json!({})).await.json();
    assert_eq!(acme.anonymous().send(Method::HEAD, link["url"].as_str().unwrap(), &[], "").await.status, 200);
    for format in ["json", "text", "vtt", "srt", "markdown"] {
        let transcript = acme.get(&format!("{path}/transcript?format={format}")).await;
        assert_eq!(transcript.status, 200, "{format}: {transcript:?}");
    }
    assert_eq!(acme.get(&format!("{path}/vendor-answer")).await.status, 200);

    let callback: serde_json::Value = serde_json::from_slice(&stage.receiver.next().await.body).unwrap();
    assert_eq!(callback["data"]["call_id"], id);
    let deliveries = acme.get(&format!("/v1/deliveries?call_id={}", reserved(id))).await.json();
    assert_eq!(deliveries["deliveries"][0]["call_id"], id);
    assert_eq!(acme.get("/v1/events").await.json()["events"][0]["data"]["call_id"], id);
    let page = acme.get("/v1/analyses?limit=1").await.json();
    assert_eq!(
        (&page["analyses"][0]["call_id"], &page["analyses"][0]["audio_url"]),
        (&json!(id), &json!(audio))
    );
    acme.submit(json!({"call_id": "another"})).await;
    let page = acme.get("/v1/analyses?limit=1").await.json();
    let next = acme
        .get(&format!("/v1/analyses?limit=1&cursor={}", page["next_cursor"].as_str().unwrap()))
        .await
        .json();
    assert_eq!(next["analyses"][0]["call_id"], id, "the cursor holds the id");

    assert_eq!(acme.send(Method::HEAD, &path, &[], "").await.status, 200);
    assert_eq!(acme.send(Method::DELETE, &path, &[], "").await.status, 204);
    acme.get(&path).await.problem(404, "not_found");
}

#[tokio::test]
async fn an_id_is_decoded_exactly_once_however_a_client_encodes_it() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let mut ids: Vec<String> =
        MARKS.chars().flat_map(|mark| [format!("a{mark}b"), mark.to_string().repeat(3)]).collect();
    ids.extend(
        [
            "%41",
            "%2F",
            "%252F",
            "%25",
            "%2e%2e",
            "..%2f",
            "a%",
            "%%34%31",
            "+",
            "a+b",
            "-->",
            "' OR 1=1--",
            "<b>",
        ]
        .map(|id| id.replace(' ', "")),
    );
    let mut runner = TestRunner::deterministic();
    let any = "[A-Za-z0-9._~:@+=!\"#%'()*<>?\\[\\\\\\]`{}-]{1,128}";
    ids.extend((0..60).map(|_| any.new_tree(&mut runner).unwrap().current()));
    ids.retain(|id| CallId::parse(id).is_ok());
    let mut seen = HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    let items: Vec<_> = ids.iter().map(|id| json!({"call_id": id})).collect();
    let batch = acme.post("/v1/analyses/batch", json!({"analyses": items})).await.json();
    for (id, result) in ids.iter().zip(batch["results"].as_array().unwrap()) {
        assert_eq!(
            (result["call_id"].as_str(), &result["status"]),
            (Some(id.as_str()), &json!(202)),
            "{result}"
        );
    }
    for id in &ids {
        for encoded in [shortest(id), reserved(id), every_byte(id)] {
            assert_eq!(acme.outcome(&encoded).await["call_id"].as_str(), Some(id.as_str()), "{encoded}");
        }
    }
    // Polls include the probe for unknown calls, which has another id.
    let calls = stage.vendor.calls();
    let submits = calls.iter().filter(|request| request.operation == Operation::Submit);
    let submitted: HashSet<_> = submits.map(|request| request.call_id.to_string()).collect();
    assert_eq!(submitted, seen, "the vendor gets the same ids and no others");
}

#[tokio::test]
async fn an_invalid_segment_of_a_path_is_refused() {
    let stage = Stage::start().await;
    for (segment, words) in [
        ("a%2Fb", "has the character '/'"),
        ("%2f", "has the character '/'"),
        ("a%00b", "has the character"),
        ("a%0Ab", "has the character"),
        ("a%20b", "has the character ' '"),
        ("a%c3%a9", "has the character 'é'"),
        ("a%ff", "has the character"),
        ("a%26b", "has the character '&'"),
        ("a%", "must be percent-encoded"),
        ("a%4", "must be percent-encoded"),
        ("a%zz", "must be percent-encoded"),
        ("%%34%31", "must be percent-encoded"),
        ("a,b", "has the character ','"),
    ] {
        for path in [format!("/v1/analyses/{segment}"), format!("/v1/analyses/{segment}/audio")] {
            let answer = stage.acme().get(&path).await;
            assert_eq!(answer.pointers(), ["{call_id}"], "{path}");
            let detail = answer.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(words), "{path}: {detail}");
        }
    }
    assert!(stage.vendor.calls().is_empty());
}

#[tokio::test]
async fn the_vendors_url_has_only_characters_that_a_path_may_have() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/api", listener.local_addr().unwrap());
    let vendor = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    });
    let stage = Stage::with(&[("VENDOR__BASE_URL", &base_url)]).await;
    let id = format!("a%2F..{MARKS}");
    stage.acme().analysis(&every_byte(&id)).await.problem(404, "not_found");
    let head = vendor.await.unwrap();
    let wanted = format!(
        "GET /api/callgetairesult/{}/a%252F..-.!%25*_+%60'~()%3C%3E:%5C%22%5B%5D%3F%7B%7D@=%23 HTTP/1.1",
        VENDOR_TOKENS[0]
    );
    assert_eq!(head.lines().next().unwrap(), wanted);
}
