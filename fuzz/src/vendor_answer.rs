//! Answers of the vendor.

use alovoice_gateway::alovoice::AnswerReader;
use alovoice_gateway::domain::analysis::{Analysis, AnalysisResult, Submission};
use alovoice_gateway::domain::call_facts::CallFacts;
use alovoice_gateway::domain::clock::Timestamp;
use alovoice_gateway::domain::ids::{CallId, TenantId};
use alovoice_gateway::domain::lifecycle::PollOutcome;
use alovoice_gateway::domain::public_url::PublicUrl;
use alovoice_gateway::domain::resource::AnalysisResource;
use alovoice_gateway::domain::trace::TraceContext;
use alovoice_gateway::domain::vendor_token::VendorToken;
use bytes::Bytes;
use serde_json::Value;
use url::Url;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// An answer is accepted or refused. An accepted answer can be stored, read back and shown.
pub fn check(input: &[u8]) {
    let base_url = Url::parse("https://cld.alovoice.uz/prefix").unwrap();
    let token = VendorToken::parse("s3cr3t-t0ken").unwrap();
    let reader = AnswerReader { base_url: &base_url, token: &token, max_bytes: 16 << 20 };
    let outcome = reader.read(&Bytes::copy_from_slice(input), None, None);
    if let Ok(PollOutcome::NotReady { detail: Some(detail), .. }) | Err(detail) = &outcome {
        assert!(detail.chars().count() <= 300 && !detail.contains(char::is_control), "{detail:?}");
    }
    let Ok(PollOutcome::Ready(obtained) | PollOutcome::Empty(obtained)) = outcome else { return };
    assert_eq!(obtained.vendor_answer, input, "the answer is stored unchanged");
    let result = obtained.result;
    assert!(result.transcript.is_sorted_by_key(|turn| turn.begin_ms), "turns are sorted by begin");
    if let Some(path) = &result.audio_path {
        assert!(path.starts_with('/'), "a path of the vendor's own host: {path}");
    }
    if let Ok(tree) = serde_json::from_slice(input) {
        as_the_tree_says(&result, &tree);
    }
    let stored = serde_json::to_string(&result).unwrap();
    assert_eq!(
        serde_json::from_str::<AnalysisResult>(&stored).unwrap(),
        result,
        "the stored result can be read back"
    );
    shown(result);
}

/// An independent count, from a tree of values.
fn as_the_tree_says(result: &AnalysisResult, tree: &Value) {
    for (read, list) in [(result.transcript.len(), "stalk"), (result.tags.len(), "tags")] {
        // Strings and objects may hold a list, too.
        if let Some(elements) = tree["answer"][list].as_array() {
            assert_eq!(read, elements.iter().filter(|element| element.is_object()).count(), "{list}");
        }
    }
}

fn shown(result: AnalysisResult) {
    let submission = Submission {
        call_id: CallId::parse("1").unwrap(),
        callback: None,
        metadata: None,
        call: CallFacts::default(),
        reanalyze: false,
        trace: TraceContext::parse(TRACE).unwrap(),
    };
    let analysis = Analysis::begin(TenantId::parse("acme").unwrap(), submission, Timestamp::from_millis(0));
    let resource = AnalysisResource::new(&analysis, Some(result), &PublicUrl::default());
    let metrics = resource.talk_metrics.as_ref().unwrap();
    for side in [&metrics.operator, &metrics.client] {
        assert!((0..=metrics.duration_ms).contains(&side.talk_ms), "{metrics:?}");
        assert!((0.0..=1.0).contains(&side.talk_share) && side.words_per_minute >= 0.0, "{metrics:?}");
        assert!((0..=metrics.duration_ms).contains(&side.longest_monologue_ms), "{metrics:?}");
    }
    assert!((0..=metrics.duration_ms).contains(&metrics.silence_ms), "{metrics:?}");
    assert!(metrics.non_talk_ms <= metrics.silence_ms && metrics.longest_silence_ms <= metrics.silence_ms);
    let json = serde_json::to_vec(&resource).unwrap();
    serde_json::from_slice::<Value>(&json).unwrap();
}
