//! The `Authorization` header byte by byte: accepted spellings, ambiguous credentials and malformed lines.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::patience::PATIENCE;
use crate::stage::{EVERY_SCOPE, Stage, token};

/// The head of the response to a request with these header lines. A request that is answered with 503 is repeated, because the machine
/// may be busy.
async fn answer_to(stage: &Stage, target: &str, lines: &str) -> String {
    let began = Instant::now();
    loop {
        let answer = answer_once(stage, target, lines).await;
        if status(&answer) != "503" || began.elapsed() > PATIENCE {
            return answer;
        }
    }
}

async fn answer_once(stage: &Stage, target: &str, lines: &str) -> String {
    let api = stage.gateway.api();
    let mut socket = TcpStream::connect((api.host_str().unwrap(), api.port().unwrap())).await.unwrap();
    let head = format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n{lines}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    answer.split("\r\n\r\n").next().unwrap().to_ascii_lowercase()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

const PATH: &str = "/v1/analyses/known-1";

#[tokio::test]
async fn the_authorization_header_is_accepted_in_any_case_and_spacing() {
    let stage = Stage::start().await;
    let good = token("acme", EVERY_SCOPE);
    for line in [
        format!("Authorization: Bearer {good}"),
        format!("authorization: bearer {good}"),
        format!("AUTHORIZATION: BEARER {good}"),
        format!("Authorization:Bearer {good}"),
        format!("Authorization: \t Bearer {good} \t"),
        format!("Authorization: Bearer    {good}"),
    ] {
        let answer = answer_to(&stage, PATH, &line).await;
        assert_eq!(status(&answer), "200", "{line}");
    }
}

#[tokio::test]
async fn ambiguous_credentials_are_refused() {
    let stage = Stage::start().await;
    let good = token("acme", EVERY_SCOPE);
    let other = token("globex", EVERY_SCOPE);
    for (lines, error) in [
        // Two headers: a proxy may have checked the other one.
        (format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}"), "invalid_request"),
        (format!("Authorization: Bearer {good}\r\nauthorization: Bearer {other}"), "invalid_request"),
        (format!("Authorization: Bearer {good}\r\nAuthorization: Basic YTpi"), "invalid_request"),
        (format!("Authorization: Basic YTpi\r\nAuthorization: Bearer {good}"), "invalid_request"),
        (format!("Authorization: Bearer {good}\r\nAuthorization:"), "invalid_request"),
        (format!("Authorization:\r\nX-Between: 1\r\nAuthorization: Bearer {good}"), "invalid_request"),
        // Two values in one header, as proxies join headers.
        (format!("Authorization: Bearer {good}, Bearer {other}"), "invalid_token"),
        (format!("Authorization: Bearer {good},Bearer {other}"), "invalid_token"),
        (format!("Authorization: Bearer {good},{other}"), "invalid_token"),
        (format!("Authorization: Bearer {good} {other}"), "invalid_token"),
        (format!("Authorization: Bearer {good};"), "invalid_token"),
        (format!("Authorization: Bearer \"{good}\""), "invalid_token"),
        (format!("Authorization: Bearer\u{a0}{good}"), ""),
        (format!("Authorization: Basic YTpi, Bearer {good}"), ""),
        // Another scheme, or another place than the `Authorization` header.
        (format!("Authorization: Bearer\t{good}"), ""),
        (format!("Authorization: Bearer%20{good}"), ""),
        (format!("Authorization: Bearer:{good}"), ""),
        (format!("Authorization: {good}"), ""),
        (format!("Authorization: Token {good}"), ""),
        (format!("Authorization: DPoP {good}"), ""),
        ("Authorization:".to_owned(), ""),
        (format!("Proxy-Authorization: Bearer {good}"), ""),
        (format!("X-Authorization: Bearer {good}"), ""),
        (format!("X-Forwarded-Access-Token: {good}"), ""),
        (format!("Cookie: access_token={good}; token={good}"), ""),
    ] {
        let answer = answer_to(&stage, PATH, &lines).await;
        assert_eq!(status(&answer), "401", "{lines}\n{answer}");
        let challenge = answer.lines().find_map(|line| line.strip_prefix("www-authenticate: ")).unwrap();
        if error.is_empty() {
            assert_eq!(challenge, "bearer", "{lines}");
        } else {
            assert!(challenge.starts_with(&format!("bearer error=\"{error}\"")), "{lines}\n{challenge}");
        }
    }
    for target in [format!("{PATH}?access_token={good}"), format!("{PATH}?token={good}")] {
        assert_eq!(status(&answer_to(&stage, &target, "X-None: 1").await), "401", "{target}");
    }
    assert!(stage.vendor.calls().is_empty(), "no request was authorized");
}

/// RFC 9112, 5.1 and 5.2: servers and proxies disagree about a space before the colon and about folded lines.
#[tokio::test]
async fn malformed_header_lines_are_refused() {
    let stage = Stage::start().await;
    let good = token("acme", EVERY_SCOPE);
    for line in [
        format!("Authorization: Bearer\r\n {good}"),
        format!("Authorization : Bearer {good}"),
        format!(" Authorization: Bearer {good}"),
        format!("Authorization: Bearer {good}\0"),
        format!("Authorization: Bearer {good}\r\rX: 1"),
    ] {
        assert_eq!(status(&answer_to(&stage, PATH, &line).await), "400", "{line:?}");
    }
    assert!(stage.vendor.calls().is_empty(), "no request was authorized");
}
