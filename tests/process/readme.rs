//! The README's examples, run as they stand against a fresh sandbox, in their order.
//!
//! Every fenced block of `sh` that calls one of the sandbox's addresses counts; one shell runs them all, so that a block may use what
//! an earlier one has put into a variable. Only the addresses are changed. What comes next tells the status of the block's last
//! request: a block that begins with `HTTP/1.1 …`, or a problem with its `"status"`; otherwise it is a 200. Those before
//! it are to be good.

use std::process::Command;

use crate::blocks::{Block, blocks};
use crate::sandbox::Sandbox;
use crate::stage::Stage;

const README: &str = include_str!("../../README.md");
/// The sandbox's address, if nobody chooses another.
const BASE: &str = "http://127.0.0.1:8080";
const ADMIN: &str = "http://127.0.0.1:9090";

struct Example {
    script: String,
    status: String,
}

fn examples() -> Vec<Example> {
    let blocks = blocks(README);
    let follows = |place: usize| blocks.get(place + 1).filter(|block| block.language.is_empty());
    let is_example = |Block { language, text, .. }: &Block| {
        let calls = text.contains("curl ") && [BASE, ADMIN].iter().any(|base| text.contains(base));
        *language == "sh" && calls && !text.contains("alovoice-gateway ")
    };
    let curls = blocks.iter().enumerate().filter(|(_, block)| is_example(block));
    let example = |(place, Block { text: script, .. }): (usize, &Block)| {
        let answer = follows(place).map_or("", |block| &block.text);
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
    let mut script = format!(
        "TOKEN={}\ncurl() {{ command curl --max-time ${{PATIENCE:-70}} -w '%{{stderr}}status %{{http_code}}\\n' \"$@\"; }}\n",
        sandbox.token()
    );
    for Example { script: block, .. } in &examples {
        // A stream has no end of its own.
        let patience = if block.contains("text/event-stream") { "3" } else { "70" };
        let block = block.replace(BASE, sandbox.base()).replace(ADMIN, sandbox.admin());
        script += &format!("PATIENCE={patience}\n{block}\necho; echo block; echo \"block $?\" >&2\n");
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(stage.home.path()).env("no_proxy", "*");
    let output = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
    let (told, answered) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    let (told, answered): (Vec<_>, Vec<_>) =
        (told.split("block 0\n").collect(), answered.split("\nblock\n").collect());
    assert_eq!(told.len(), examples.len() + 1, "Is curl on this machine? {told:?}");
    for (Example { script, status }, (told, answered)) in examples.iter().zip(told.iter().zip(answered)) {
        let statuses: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("status ")).collect();
        let (last, before) = statuses.split_last().unwrap_or_else(|| panic!("{script}\n{told}"));
        assert_eq!(last, status, "{script}\n{told}\n{answered}");
        let good = if status.starts_with('2') {
            before.iter().all(|status| status.starts_with('2'))
        } else {
            before.is_empty()
        };
        assert!(good, "{script}\n{statuses:?}\n{answered}");
    }
    sandbox.process.stop().await;
}

/// The method and the path of every request of a script, without the query.
fn requests(script: &str) -> Vec<(&'static str, String)> {
    let whole = script.replace("\\\n", " ");
    let request = |line: &str| {
        let path = line.split_once(BASE)?.1.split(['"', ' ', '?', ')']).next()?.to_owned();
        let method = match line.split_once(" -X ").and_then(|(_, rest)| rest.split(' ').next()) {
            Some("DELETE") => "delete",
            Some("PATCH") => "patch",
            Some(_) => "post",
            None if line.contains(" -d ") && !line.contains("curl -sG") => "post",
            None => "get",
        };
        Some((method, path))
    };
    whole.lines().filter(|line| line.contains("curl ")).filter_map(request).collect()
}

#[tokio::test]
async fn every_operation_has_an_example() {
    let stage = Stage::set_up().await;
    let document: serde_json::Value =
        serde_json::from_slice(&stage.command(&["openapi"]).output().unwrap().stdout).unwrap();
    let shown: Vec<_> = examples().iter().flat_map(|example| requests(&example.script)).collect();
    let fits = |template: &str, path: &str| {
        // A link is a path in a variable.
        let path = path.replace("$LINK", "/v1/audio/$LINK");
        let (wanted, given) = (template.split('/'), path.split('/'));
        wanted.clone().count() == given.clone().count()
            && wanted.zip(given).all(|(wanted, given)| wanted == given || wanted.starts_with('{'))
    };
    let mut missing = Vec::new();
    for (template, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let is_shown = shown.iter().any(|(shown, path)| shown == method && fits(template, path));
            missing.extend((!is_shown).then(|| format!("{method} {template}")));
        }
    }
    assert!(missing.is_empty(), "the README does not show {missing:?}");
}
