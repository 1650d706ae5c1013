//! Reads `callgetairesult`, leniently: what is there is taken, what is not is left out, nothing is invented.

use bytes::Bytes;
use serde_json::{Map, Value};
use url::Url;

use crate::domain::analysis::{AnalysisResult, Obtained};
use crate::domain::clock::Timestamp;
use crate::domain::lifecycle::PollOutcome;
use crate::domain::secrets::VendorToken;
use crate::domain::tags::Tag;
use crate::domain::transcript::{Speaker, Turn};

/// Whether a body is JSON at all.
pub(super) fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// Takes the token out of an answer that repeats it: what the vendor says is kept and shown.
pub(super) fn without_token(body: Bytes, token: &VendorToken) -> Bytes {
    std::str::from_utf8(&body).ok().and_then(|text| token.erased_from(text)).map_or(body, Bytes::from)
}

/// What an answer of status 200 says.
///
/// # Errors
/// If it is not JSON, or holds talk in no known form.
pub(super) fn read(body: Bytes, etag: Option<String>, base_url: &Url) -> Result<PollOutcome, &'static str> {
    if body.is_empty() {
        return Ok(not_ready(etag));
    }
    let value: Value = serde_json::from_slice(&body).map_err(|_| "the vendor's answer is not JSON")?;
    let Some(answer) = value.get("answer").and_then(Value::as_object) else {
        return Ok(not_ready(etag));
    };
    let Some(stalk) = answer.get("stalk").and_then(Value::as_array) else {
        return Ok(not_ready(etag));
    };
    let mut transcript: Vec<Turn> = stalk.iter().filter_map(Value::as_object).map(turn).collect();
    if transcript.is_empty() && !stalk.is_empty() {
        return Err("the vendor's stalk holds no fragment that can be read");
    }
    // Stable: fragments that begin together stay in the vendor's order.
    transcript.sort_by_key(|turn| turn.begin_ms);
    let tags = answer.get("tags").and_then(Value::as_array);
    let silent = transcript.is_empty();
    let result = AnalysisResult {
        ai_call_id: text(answer, "aicallid"),
        begin_time: answer.get("begin_time").and_then(number).and_then(unix_seconds),
        transcript,
        tags: tags.into_iter().flatten().filter_map(Value::as_object).map(tag).collect(),
        audio_path: answer
            .get("stereoaudio")
            .and_then(Value::as_str)
            .and_then(|path| own_path(base_url, path)),
    };
    let obtained = Box::new(Obtained { result, vendor_answer: body, etag });
    Ok(if silent { PollOutcome::Empty(obtained) } else { PollOutcome::Ready(obtained) })
}

fn not_ready(etag: Option<String>) -> PollOutcome {
    PollOutcome::NotReady { etag, retry_after: None }
}

fn turn(fragment: &Map<String, Value>) -> Turn {
    let begin_ms = millis(fragment, "begin").unwrap_or(0);
    Turn {
        fragment_id: text(fragment, "fragment_id"),
        speaker: Speaker::from_word(&text(fragment, "direction").unwrap_or_default()),
        begin_ms,
        end_ms: millis(fragment, "end").unwrap_or(begin_ms),
        text: text(fragment, "text").unwrap_or_default(),
    }
}

fn tag(tag: &Map<String, Value>) -> Tag {
    Tag {
        name: text(tag, "name").unwrap_or_default(),
        value: tag.get("value").cloned().unwrap_or_default(),
        visible: tag.get("visible").cloned().unwrap_or_default(),
        r#type: text(tag, "tag_type"),
        begin_ms: millis(tag, "begin"),
        end_ms: millis(tag, "end"),
        match_text: text(tag, "match_text"),
        fragment_id: text(tag, "fragment_id"),
    }
}

/// A text, or anything else but `null` in its JSON form.
fn text(object: &Map<String, Value>, field: &str) -> Option<String> {
    match object.get(field)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn millis(object: &Map<String, Value>, field: &str) -> Option<i64> {
    let whole = number(object.get(field)?)?.round();
    // The bounds of exact whole numbers in JSON (RFC 8259, section 6); nothing real comes near.
    (whole.abs() <= 9_007_199_254_740_991.0).then_some(whole as i64)
}

/// A number, or a text that is one.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

/// The years 1970 to 9999.
fn unix_seconds(seconds: f64) -> Option<Timestamp> {
    const END_OF_9999: f64 = 253_402_300_799.0;
    (0.0..=END_OF_9999).contains(&seconds).then(|| Timestamp::from_millis((seconds * 1000.0) as i64))
}

/// The path of a recording on the vendor's own host; `None` for any other place.
fn own_path(base_url: &Url, path: &str) -> Option<String> {
    let url = base_url.join(path).ok()?;
    let own = url.origin() == base_url.origin() && url.username().is_empty() && url.password().is_none();
    own.then(|| url[url::Position::BeforePath..url::Position::AfterQuery].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(json: &str) -> Result<PollOutcome, &'static str> {
        let base_url = Url::parse("https://cld.alovoice.uz").unwrap();
        read(Bytes::copy_from_slice(json.as_bytes()), None, &base_url)
    }

    fn ready(json: &str) -> AnalysisResult {
        match read_text(json) {
            Ok(PollOutcome::Ready(obtained) | PollOutcome::Empty(obtained)) => obtained.result,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_form_of_not_ready_is_not_ready() {
        for json in [
            "",
            "{}",
            "null",
            "[]",
            "\"wait\"",
            r#"{"answer": null}"#,
            r#"{"answer": "processing"}"#,
            r#"{"answer": {}}"#,
            r#"{"answer": {"stalk": null}}"#,
            r#"{"answer": []}"#,
        ] {
            assert_eq!(read_text(json), Ok(not_ready(None)), "{json}");
        }
        for json in ["<html>", "{\"answer\": {\"stalk\": [", "{\"answer\": {\"stalk\": [1]}}"] {
            assert!(read_text(json).is_err(), "{json}");
        }
        assert!(matches!(read_text(r#"{"answer": {"stalk": [], "tags": []}}"#), Ok(PollOutcome::Empty(_))));
    }

    #[test]
    fn takes_numbers_as_texts_and_sorts() {
        let result = ready(
            r#"{"answer": {"begin_time": "1716207617", "stalk": [
                {"begin": "4720", "end": "6280.4", "direction": "client", "text": "b", "fragment_id": 7},
                {"begin": 1120, "direction": "robot"}], "tags": [{"name": "x", "value": 5, "begin": "10"}]}}"#,
        );
        assert_eq!(result.begin_time, Some(Timestamp::from_millis(1_716_207_617_000)));
        let begins: Vec<_> = result.transcript.iter().map(|turn| (turn.begin_ms, turn.end_ms)).collect();
        assert_eq!(begins, [(1120, 1120), (4720, 6280)]);
        assert_eq!(result.transcript[0].speaker, Speaker::Other("robot".into()));
        assert_eq!(result.transcript[1].fragment_id.as_deref(), Some("7"));
        assert_eq!((result.tags[0].value.clone(), result.tags[0].begin_ms), (Value::from(5), Some(10)));
    }

    #[test]
    fn a_recording_elsewhere_is_no_recording() {
        let path = |audio: &str| {
            let json = format!(r#"{{"answer": {{"stalk": [{{}}], "stereoaudio": "{audio}"}}}}"#);
            ready(&json).audio_path
        };
        assert_eq!(path("/stereo/1").as_deref(), Some("/stereo/1"));
        assert_eq!(path("https://cld.alovoice.uz/stereo/1").as_deref(), Some("/stereo/1"));
        for elsewhere in [
            "https://evil.example/1",
            "//evil.example/1",
            "http://cld.alovoice.uz/1",
            "https://u@cld.alovoice.uz/1",
        ] {
            assert_eq!(path(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_token_in_an_answer_is_taken_out() {
        let token = VendorToken::parse("s3cr3t").unwrap();
        let body = Bytes::from_static(br#"{"url": "/x/s3cr3t/y"}"#);
        assert_eq!(without_token(body, &token), &br#"{"url": "/x/[token]/y"}"#[..]);
    }
}
