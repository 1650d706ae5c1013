//! The README's examples, run as they stand against a fresh sandbox, in their order.
//!
//! Every fenced block of `sh` that begins with `curl` counts. Of it, only the address is changed. What comes next tells
//! the status: a block that begins with `HTTP/1.1 …`, or a problem with its `"status"`; otherwise it is a 200.

use std::process::Command;

use crate::sandbox::Sandbox;
use crate::stage::Stage;

const README: &str = include_str!("../../README.md");
/// The sandbox's address, if nobody chooses another.
const BASE: &str = "http://127.0.0.1:8080";

struct Example {
    script: String,
    status: String,
}

/// The fenced blocks, each with its language.
fn blocks(text: &str) -> Vec<(&str, String)> {
    let mut blocks: Vec<(&str, String)> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) if !is_open => blocks.push((language, String::new())),
            None if is_open => blocks.last_mut().unwrap().1 += &format!("{line}\n"),
            _ => {}
        }
        is_open ^= line.starts_with("```");
    }
    blocks
}

fn examples() -> Vec<Example> {
    let blocks = blocks(README);
    let follows = |place: usize| blocks.get(place + 1).filter(|(language, _)| language.is_empty());
    let curls =
        blocks.iter().enumerate().filter(|(_, (kind, text))| *kind == "sh" && text.starts_with("curl "));
    let example = |(place, (_, script)): (usize, &(&str, String))| {
        let answer = follows(place).map_or("", |(_, answer)| answer);
        let told = answer.strip_prefix("HTTP/1.1 ").or_else(|| {
            answer.starts_with("{\"type\":\"/problems/").then(|| answer.split("\"status\":").nth(1)).flatten()
        });
        Example { script: script.clone(), status: told.map_or("200", |told| &told[..3]).to_owned() }
    };
    curls.map(example).collect()
}

#[tokio::test]
async fn its_examples_are_answered_as_it_says() {
    let examples = examples();
    assert!(examples.len() >= 9, "the README's examples were not found");
    let stage = Stage::set_up().await;
    let sandbox = Sandbox::start(&stage).await;
    for Example { script, status } in examples {
        let script = script.replace(BASE, sandbox.base());
        // A stream has no end of its own: 28 is curl's word for time that is up.
        let script = format!(
            "TOKEN={}\ncurl() {{\n  command curl --max-time 70 -w '%{{stderr}}status %{{http_code}}\\n' \"$@\"\n}}\n{}",
            sandbox.token(),
            if script.contains("text/event-stream") {
                script.replace("curl ", "curl --max-time 3 ")
            } else {
                script
            }
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(stage.home.path()).env("no_proxy", "*");
        let output = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        let statuses: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("status ")).collect();
        let answered = String::from_utf8_lossy(&output.stdout);
        assert!(!statuses.is_empty(), "{script}\n{told}\nIs curl on this machine?");
        assert!(
            statuses.iter().all(|given| *given == status),
            "{script}\n{status}, not {statuses:?}\n{answered}"
        );
        assert!(matches!(output.status.code(), Some(0 | 28)), "{script}\n{told}");
    }
    sandbox.process.stop().await;
}
