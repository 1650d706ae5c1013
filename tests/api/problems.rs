//! The format of problems, their codes, and request IDs.

use alovoice_gateway::http::problem::ALL;
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::{EVERY_SCOPE, Stage, token};

#[tokio::test]
async fn unknown_paths_are_not_found() {
    let stage = Stage::start().await;
    for path in [
        "/v1",
        "/v1/",
        "/v1/analyses/",
        "/v1/analysis",
        "/v2/analyses",
        "/v1/analyses/1/audio/x",
        "/problems/made-up",
    ] {
        stage.acme().get(path).await.problem(404, "not_found");
        stage.acme().anonymous().get(path).await.problem(404, "not_found");
    }
    let answer = stage.acme().get_with("/none", &[("x-request-id", "req-7")]).await;
    insta::assert_json_snapshot!(answer.json(), @r#"
    {
      "code": "not_found",
      "detail": "there is no such path",
      "request_id": "req-7",
      "status": 404,
      "title": "Not found",
      "type": "/problems/not_found"
    }
    "#);
}

#[tokio::test]
async fn unsupported_methods_are_refused_with_allow() {
    let stage = Stage::start().await;
    for (path, refused, allowed) in [
        ("/v1/analyses", "PUT", "GET, HEAD, POST"),
        ("/v1/analyses/batch", "PUT", "POST"),
        ("/v1/analyses/1", "POST", "GET, HEAD, DELETE"),
        ("/v1/analyses/1", "BREW", "GET, HEAD, DELETE"),
        ("/v1/analyses/1/transcript", "PATCH", "GET, HEAD"),
        ("/v1/analyses/1/vendor-answer", "DELETE", "GET, HEAD"),
        ("/v1/analyses/1/audio-link", "GET", "POST"),
        ("/v1/audio/x", "POST", "GET, HEAD"),
        ("/problems/internal", "POST", "GET, HEAD"),
    ] {
        let method = Method::from_bytes(refused.as_bytes()).unwrap();
        let answer = stage.acme().send(method, path, &[], "").await;
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allowed, "{refused} {path}");
    }
}

#[tokio::test]
async fn every_problem_code_has_a_page() {
    let stage = Stage::start().await;
    for kind in ALL {
        let page = stage.acme().anonymous().get(&format!("/problems/{}", kind.code)).await;
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, "text/html; charset=utf-8"),
            "{}",
            kind.code
        );
        for part in [kind.code, kind.title, kind.status.as_str()] {
            assert!(page.text().contains(part), "{part} in {}", page.text());
        }
    }
}

#[tokio::test]
async fn the_type_of_a_problem_is_the_url_of_its_page() {
    let stage = Stage::start().await;
    let problems = [
        stage.acme().get("/none").await,
        stage.acme().get("/v1/analyses/1").await,
        stage.acme().get("/v1/analyses/a,b").await,
        stage.acme().anonymous().get("/v1/analyses/1").await,
        stage.acme().send(Method::PUT, "/v1/analyses", &[], "").await,
        stage.acme().post_with(&[], "").await,
    ];
    for problem in problems {
        let page = stage.acme().anonymous().get(problem.json()["type"].as_str().unwrap()).await;
        assert_eq!(page.status, 200, "{problem:?}");
    }
}

#[tokio::test]
async fn a_request_keeps_its_id_or_gets_one() {
    let stage = Stage::start().await;
    let id_of = async |headers: &[(&str, &str)]| {
        let answer = stage.acme().get_with("/none", headers).await;
        answer.problem(404, "not_found")["request_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(id_of(&[("x-request-id", "a1_.-:+/=@")]).await, "a1_.-:+/=@");
    let long = "x".repeat(129);
    for unfit in ["", "a b", "<script>", "a\"b", long.as_str()] {
        let id = id_of(&[("x-request-id", unfit)]).await;
        assert!(id.starts_with("req_"), "{id} for {unfit:?}");
    }
    assert_ne!(id_of(&[]).await, id_of(&[]).await);
    let good = stage.acme().get_with("/v1/analyses/known-1", &[("x-request-id", "req-7")]).await;
    assert_eq!((good.status, good.header("x-request-id")), (200, "req-7"));
}

/// Sends a raw request on a new connection. Returns the whole response.
async fn say(stage: &Stage, request: &str) -> String {
    let api = stage.gateway.api();
    let mut socket = TcpStream::connect((api.host_str().unwrap(), api.port().unwrap())).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_body_with_a_too_large_content_length_is_refused_before_it_arrives() {
    let stage = Stage::start().await;
    let request = format!(
        "POST /v1/analyses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 999999999\r\nconnection: close\r\n\r\n{{",
        token("acme", EVERY_SCOPE)
    );
    let answer = say(&stage, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"code\":\"body_too_large\""), "{answer}");
}

#[tokio::test]
async fn a_too_large_chunked_body_is_refused() {
    let stage = Stage::with(&[("SERVER__MAX_BODY_BYTES", "1KiB")]).await;
    let chunk = format!("100\r\n{}\r\n", "x".repeat(0x100));
    let request = format!(
        "POST /v1/analyses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n{}0\r\n\r\n",
        token("acme", EVERY_SCOPE),
        chunk.repeat(5),
    );
    let answer = say(&stage, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"code\":\"body_too_large\""), "{answer}");
}

#[tokio::test]
async fn malformed_http_is_refused() {
    let stage = Stage::start().await;
    for request in [
        "nonsense\r\n\r\n",
        "GET /v1/analyses/1 HTTP/1.1\r\nbad header\r\n\r\n",
        "POST /v1/analyses HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/analyses HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
    ] {
        let answer = say(&stage, request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer:?}");
    }
}

#[tokio::test]
async fn two_authorization_headers_are_refused() {
    let stage = Stage::start().await;
    let bearer = format!("authorization: Bearer {}\r\n", token("acme", EVERY_SCOPE));
    let request =
        format!("GET /v1/analyses/1 HTTP/1.1\r\nhost: x\r\n{bearer}{bearer}connection: close\r\n\r\n");
    let answer = say(&stage, &request).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(
        answer.to_ascii_lowercase().contains("www-authenticate: bearer error=\"invalid_request\""),
        "{answer}"
    );
}
