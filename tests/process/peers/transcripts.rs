//! Third-party parsers of subtitles and Markdown read the gateway's renderings.

use alovoice_gateway::domain::call_facts::CallFacts;
use alovoice_gateway::domain::ids::CallId;
use alovoice_gateway::domain::renderings::captions::{Caption, captions};
use alovoice_gateway::domain::renderings::{markdown, subrip, webvtt};
use alovoice_gateway::domain::transcript::{Speaker, Transcript, Turn};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::{python, run, text};
use crate::stage::{SCOPES, Stage};

/// Unusual text of the vendor: every string with a meaning in one of the formats, and arbitrary text.
fn odd_text() -> impl Strategy<Value = String> {
    let mark = prop::sample::select(vec![
        "-->",
        "<",
        ">",
        "&",
        "&lt;",
        "</v>",
        "<v Client>",
        "<i>",
        "{",
        "}",
        "\n",
        "\n\n",
        "\r",
        "\r\n\r\n",
        "\u{2028}",
        "\u{85}",
        "\u{b}",
        "\u{0}",
        "\u{feff}",
        "1",
        "00:00:01.000 --> 00:00:02.000",
        "WEBVTT",
        "NOTE ",
        "STYLE",
        "00:00:01,000 --> 00:00:02,000",
        "*",
        "_",
        "**",
        "`",
        "```",
        "~~",
        "[a](b)",
        "![",
        "]",
        "#",
        "# ",
        "- ",
        "1. ",
        "> ",
        "|",
        "---",
        "\\",
        "\\n",
        "<b>",
        "<!--",
        "&#42;",
        "https://x.uz",
        "www.x.uz",
        ":",
        ": ",
        "oʻ",
        "салом",
        " ",
    ])
    .prop_map(str::to_owned);
    prop::collection::vec(prop_oneof![4 => mark, 1 => any::<String>()], 0..8).prop_map(|parts| parts.concat())
}

fn odd_transcript() -> impl Strategy<Value = Transcript> {
    // At most 400 hours, because the parsers limit the length of a day.
    let moment = || -1_000..1_440_000_000_i64;
    let speaker =
        prop_oneof![Just("operator".to_owned()), Just("client".to_owned()), Just(String::new()), odd_text(),];
    let turn = (speaker, moment(), moment(), odd_text()).prop_map(|(speaker, begin_ms, end_ms, text)| Turn {
        fragment_id: None,
        speaker: Speaker::from_word(&speaker),
        begin_ms,
        end_ms,
        text,
    });
    prop::collection::vec(turn, 0..12).prop_map(|turns| Transcript {
        call_id: CallId::parse("a_b~c@1.x").unwrap(),
        revision: 1,
        begin_time: None,
        call: CallFacts::default(),
        turns,
    })
}

/// Returns `count` values of a strategy, the same values in every run.
pub(super) fn samples<T>(strategy: &impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// A part of a Markdown block: its marks and its text.
type Piece = (String, String);

/// The text as the SubRip rendering writes it. SubRip has no escapes.
fn tagless(text: &str) -> String {
    text.replace('<', "‹").replace('>', "›").replace('{', "(").replace('}', ")")
}

#[tokio::test]
async fn webvtt_py_and_srt_read_the_rendered_turns() {
    let transcripts = samples(&odd_transcript(), 500);
    let files: Vec<_> = transcripts.iter().map(|it| (webvtt::render(it), subrip::render(it))).collect();
    let output = run(python("read_subtitles.py"), json!(files).to_string()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let read: Vec<[Vec<Value>; 2]> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read.len(), transcripts.len());
    let mut compared = 0;
    for ((transcript, files), [of_webvtt, of_subrip]) in transcripts.iter().zip(&files).zip(&read) {
        let captions = captions(&transcript.turns);
        let as_webvtt = |Caption { begin_ms, end_ms, speaker, text }: &Caption| json!({"begin_ms": begin_ms, "end_ms": end_ms, "speaker": speaker, "text": text});
        assert_eq!(*of_webvtt, captions.iter().map(as_webvtt).collect::<Vec<_>>(), "{}", files.0);
        let as_subrip = |Caption { begin_ms, end_ms, speaker, text }: &Caption| {
            let line = tagless(&format!("{}: {text}", speaker.as_deref().unwrap_or("Unknown")));
            json!({"begin_ms": begin_ms, "end_ms": end_ms, "line": line})
        };
        assert_eq!(*of_subrip, captions.iter().map(as_subrip).collect::<Vec<_>>(), "{}", files.1);
        compared += captions.len();
    }
    assert!(compared > 1_000, "{compared} captions");
}

#[tokio::test]
async fn markdown_it_parses_transcript_text_as_plain_text() {
    let transcripts = samples(&odd_transcript(), 500);
    let pages: Vec<_> = transcripts.iter().map(markdown::render).collect();
    let output = run(python("read_markdown.py"), json!(pages).to_string()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let read: Vec<Vec<(String, Vec<Piece>)>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read.len(), transcripts.len());
    for ((transcript, page), blocks) in transcripts.iter().zip(&pages).zip(&read) {
        let text = |pieces: &[Piece], mark: &str| -> String {
            pieces.iter().filter(|(marks, _)| marks == mark).map(|(_, text)| text.as_str()).collect()
        };
        let said: Vec<_> = blocks.iter().skip_while(|(_, pieces)| text(pieces, "") != "Transcript").collect();
        assert_eq!(
            (blocks[0].0.as_str(), text(&blocks[0].1, "")),
            ("h1", "Call a_b~c@1.x".to_owned()),
            "{page}"
        );
        assert_eq!(said[0].0, "h2", "{page}");
        let mut said = said[1..].iter();
        for turn in &transcript.turns {
            let one = captions(std::slice::from_ref(turn));
            let [Caption { speaker, text: words, .. }] = one.as_slice() else { continue };
            let (tag, pieces) = said.next().unwrap();
            assert_eq!(tag, "p", "{page}");
            assert!(pieces.iter().all(|(marks, _)| marks.is_empty() || marks == "strong"), "{page}");
            assert_eq!(
                text(pieces, "strong"),
                format!("{}:", speaker.as_deref().unwrap_or("Unknown")),
                "{page}"
            );
            let plain = text(pieces, "");
            assert!(plain.starts_with(|c: char| c.is_ascii_digit()), "{page}");
            assert_eq!(plain.split_once(' ').unwrap().1.trim_start(), words.trim_start(), "{page}");
        }
        assert!(said.next().is_none(), "{page}");
    }
}

#[tokio::test]
async fn served_subtitles_contain_the_turns_of_the_call() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let mut files = Vec::new();
    for format in ["vtt", "srt"] {
        let url = gateway.api.join(&format!("v1/analyses/known-1/transcript?format={format}")).unwrap();
        let answer = stage.client.get(url).bearer_auth(stage.token(SCOPES)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        files.push(answer.text().await.unwrap());
    }
    let analysis = stage.analysis(&gateway, "known-1").await;
    gateway.stop().await;
    let output = run(python("read_subtitles.py"), json!([files]).to_string()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let read: Vec<[Vec<Value>; 2]> = serde_json::from_slice(&output.stdout).unwrap();
    for subtitles in &read[0] {
        let times = |value: &Value| (value["begin_ms"].as_i64(), value["end_ms"].as_i64());
        let turns = analysis["transcript"].as_array().unwrap();
        assert!(turns.len() > 5);
        assert_eq!(
            subtitles.iter().map(times).collect::<Vec<_>>(),
            turns.iter().map(times).collect::<Vec<_>>()
        );
    }
}
