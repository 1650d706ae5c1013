//! Parses the answers of `callgetairesult`. The parser is lenient: it takes the fields that it can read and omits the others.
//!
//! The memory it uses is bounded by the size of the answer: [`super::json`] builds no tree of values, and the numbers of
//! turns and tags are limited.

use bytes::Bytes;
use url::Url;

use super::json::{Json, TooMany};
use crate::domain::analysis::{AnalysisResult, VendorResult};
use crate::domain::clock::Timestamp;
use crate::domain::lifecycle::PollOutcome;
use crate::domain::secrets::VendorToken;
use crate::domain::tags::Tag;
use crate::domain::transcript::{Speaker, Turn};

/// Maximum number of turns of a call. It suffices for one turn every three seconds for sixteen hours.
const MAX_TURNS: usize = 20_000;
/// Maximum number of tags of a call.
const MAX_TAGS: usize = 20_000;
/// Maximum total size of the lists and objects among the tag values of a call. Values beyond it are kept as text.
const MAX_NESTED_BYTES: usize = 1 << 20;
/// Maximum length of a recording's path in bytes. A longer path is ignored.
const MAX_PATH_BYTES: usize = 8 << 10;

/// Whether a body is JSON.
pub(super) fn is_json(body: &[u8]) -> bool {
    Json::parse(body).is_some()
}

/// Removes the vendor token from an answer that repeats it, because answers are stored and returned to callers.
pub(super) fn without_token(body: Bytes, token: &VendorToken) -> Bytes {
    std::str::from_utf8(&body).ok().and_then(|text| token.erased_from(text)).map_or(body, Bytes::from)
}

/// Parses the body of an answer with status 200.
///
/// # Errors
/// If the body is not JSON, has turns in an unknown form, or has too many turns or tags.
pub fn read_answer(body: Bytes, etag: Option<String>, base_url: &Url) -> Result<PollOutcome, &'static str> {
    if body.is_empty() {
        return Ok(not_ready(etag));
    }
    let document = Json::parse(&body).ok_or("the vendor's answer is not JSON")?;
    let answer = document.members(["answer"]).and_then(|[answer]| answer);
    let names = ["stalk", "tags", "aicallid", "begin_time", "stereoaudio"];
    let Some([stalk, tags, ai_call_id, begin_time, audio]) = answer.and_then(|it| it.members(names)) else {
        return Ok(not_ready(etag));
    };
    let Some(fragments) = stalk.and_then(|stalk| stalk.objects(MAX_TURNS)) else {
        return Ok(not_ready(etag));
    };
    let (fragments, all) = fragments.map_err(|TooMany| "the vendor's answer has too many turns")?;
    if fragments.is_empty() && all > 0 {
        return Err("no turn in the vendor's answer can be read");
    }
    let mut transcript: Vec<Turn> = fragments.into_iter().filter_map(turn).collect();
    // The sort is stable, so turns with the same start stay in the vendor's order.
    transcript.sort_by_key(|turn| turn.begin_ms);
    let silent = transcript.is_empty();
    let result = AnalysisResult {
        ai_call_id: ai_call_id.and_then(Json::text),
        begin_time: begin_time.and_then(Json::number).and_then(unix_seconds),
        transcript,
        tags: read_tags(tags)?,
        audio_path: audio.and_then(Json::string).and_then(|path| own_path(base_url, &path)),
    };
    let obtained = Box::new(VendorResult { result, vendor_answer: body, etag });
    Ok(if silent { PollOutcome::Empty(obtained) } else { PollOutcome::Ready(obtained) })
}

fn not_ready(etag: Option<String>) -> PollOutcome {
    PollOutcome::NotReady { etag, retry_after: None }
}

fn turn(fragment: Json<'_>) -> Option<Turn> {
    let [id, direction, begin, end, text] =
        fragment.members(["fragment_id", "direction", "begin", "end", "text"])?;
    let begin_ms = begin.and_then(millis).unwrap_or(0);
    Some(Turn {
        fragment_id: id.and_then(Json::text),
        speaker: Speaker::from_word(&direction.and_then(Json::text).unwrap_or_default()),
        begin_ms,
        end_ms: end.and_then(millis).unwrap_or(begin_ms),
        text: text.and_then(Json::text).unwrap_or_default(),
    })
}

fn read_tags(tags: Option<Json<'_>>) -> Result<Vec<Tag>, &'static str> {
    let Some(tags) = tags.and_then(|tags| tags.objects(MAX_TAGS)) else { return Ok(Vec::new()) };
    let (tags, _) = tags.map_err(|TooMany| "the vendor's answer has too many tags")?;
    let mut nested_bytes = MAX_NESTED_BYTES;
    Ok(tags.into_iter().filter_map(|json| tag(json, &mut nested_bytes)).collect())
}

fn tag(tag: Json<'_>, nested_bytes: &mut usize) -> Option<Tag> {
    let [name, value, visible, r#type, begin, end, match_text, fragment_id] =
        tag.members(["name", "value", "visible", "tag_type", "begin", "end", "match_text", "fragment_id"])?;
    Some(Tag {
        name: name.and_then(Json::text).unwrap_or_default(),
        value: value.map(|value| value.value(nested_bytes)).unwrap_or_default(),
        visible: visible.map(|visible| visible.value(nested_bytes)).unwrap_or_default(),
        r#type: r#type.and_then(Json::text),
        begin_ms: begin.and_then(millis),
        end_ms: end.and_then(millis),
        match_text: match_text.and_then(Json::text),
        fragment_id: fragment_id.and_then(Json::text),
    })
}

fn millis(json: Json<'_>) -> Option<i64> {
    let whole = json.number()?.round();
    // Up to this value JSON numbers represent every integer exactly (RFC 8259, 6).
    (whole.abs() <= 9_007_199_254_740_991.0).then_some(whole as i64)
}

/// Converts seconds since the epoch. Returns `None` outside the years 1970 to 9999.
fn unix_seconds(seconds: f64) -> Option<Timestamp> {
    const END_OF_9999: f64 = 253_402_300_799.0;
    (0.0..=END_OF_9999).contains(&seconds).then(|| Timestamp::from_millis((seconds * 1000.0) as i64))
}

/// Returns the path of a recording on the vendor's own host; `None` for any other host.
fn own_path(base_url: &Url, path: &str) -> Option<String> {
    if path.len() > MAX_PATH_BYTES {
        return None;
    }
    let url = base_url.join(path).ok()?;
    let own = url.origin() == base_url.origin() && url.username().is_empty() && url.password().is_none();
    own.then(|| url[url::Position::BeforePath..url::Position::AfterQuery].to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read_text(json: &str) -> Result<PollOutcome, &'static str> {
        let base_url = Url::parse("https://cld.alovoice.uz").unwrap();
        read_answer(Bytes::copy_from_slice(json.as_bytes()), None, &base_url)
    }

    fn ready(json: &str) -> AnalysisResult {
        match read_text(json) {
            Ok(PollOutcome::Ready(obtained) | PollOutcome::Empty(obtained)) => obtained.result,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_without_turns_and_tags_is_not_ready() {
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
    fn numbers_may_be_strings_and_turns_are_sorted() {
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
    fn a_malformed_field_does_not_affect_the_others() {
        let result = ready(
            r#"{"x": 1e400, "answer": {"aicallid": "\ud83d", "stalk": [{"begin": 1e400, "text": "cut \ud83d"}],
                "tags": [{"value": 1e400}, {"value": [[[]]], "visible": "\udc00"}], "stereoaudio": "\ud800"}}"#,
        );
        assert_eq!((result.transcript[0].begin_ms, result.transcript[0].text.as_str()), (0, "cut \u{fffd}"));
        assert_eq!(result.tags[0].value, "1e400");
        assert_eq!(
            (&result.tags[1].value, &result.tags[1].visible),
            (&serde_json::json!([[[]]]), &"\u{fffd}".into())
        );
    }

    #[test]
    fn too_many_turns_or_tags_are_refused() {
        let of = |stalk: usize, tags: usize| {
            let list = |length| vec!["{}"; length].join(",");
            read_text(&format!(r#"{{"answer": {{"stalk": [{}], "tags": [{}]}}}}"#, list(stalk), list(tags)))
        };
        assert!(matches!(of(MAX_TURNS, MAX_TAGS), Ok(PollOutcome::Ready(_))));
        assert_eq!(of(MAX_TURNS + 1, 0), Err("the vendor's answer has too many turns"));
        assert_eq!(of(1, MAX_TAGS + 1), Err("the vendor's answer has too many tags"));
    }

    #[test]
    fn a_recording_on_another_host_is_ignored() {
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
    fn a_token_in_an_answer_is_removed() {
        let token = VendorToken::parse("s3cr3t").unwrap();
        let body = Bytes::from_static(br#"{"url": "/x/s3cr3t/y"}"#);
        assert_eq!(without_token(body, &token), &br#"{"url": "/x/[token]/y"}"#[..]);
    }
}
