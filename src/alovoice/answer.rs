//! Parses the answers of `callgetairesult`. The parser is lenient: it reads the fields that are valid and omits the others, and
//! it tolerates unambiguous errors. The parser counts these deviations as warnings of the result.
//!
//! The size of the answer bounds the memory that the parser uses: [`super::json`] builds no tree of values, and the number of
//! turns and the number of tags are limited.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use url::Url;

use super::document::{document, nested};
use super::encoding::decode;
use super::faults::quoted;
use super::json::{Json, TooMany};
use super::words;
use crate::domain::analysis::{AnalysisResult, VendorResult};
use crate::domain::answer_warnings::{AnswerWarnings, WarningCode};
use crate::domain::clock::Timestamp;
use crate::domain::lifecycle::PollOutcome;
use crate::domain::tags::Tag;
use crate::domain::transcript::{Speaker, Turn};
use crate::domain::vendor_token::VendorToken;

/// Maximum number of turns of a call. The limit suffices for a call of sixteen hours with one turn every three seconds.
const MAX_TURNS: usize = 20_000;
/// Maximum number of tags of a call.
const MAX_TAGS: usize = 20_000;
/// Maximum total size of the lists and objects among the tag values of a call. Values beyond this limit are kept as text.
const MAX_NESTED_BYTES: usize = 1 << 20;
/// Maximum length of a recording's path in bytes. A longer path is ignored.
const MAX_PATH_BYTES: usize = 8 << 10;

/// Returns whether a body confirms a submit, which means that the body has the documented `answer.aicallid`. The body may have
/// the errors that [`AnswerReader`] tolerates.
pub(super) fn is_acceptance(body: &[u8], content_type: Option<&str>) -> bool {
    let mut warnings = AnswerWarnings::default();
    let text = decode(body, content_type, &mut warnings);
    let Some(json) = document(&text, usize::MAX, &mut warnings) else { return false };
    let answer = Json::parse(&json).and_then(|json| json.members(["answer"], &mut warnings));
    let answer = answer.and_then(|[answer]| answer);
    let encoded_twice = answer.and_then(|answer| nested(answer, usize::MAX, &mut warnings));
    let answer = encoded_twice.as_deref().map_or(answer, Json::parse);
    let id = answer.and_then(|answer| answer.members(["aicallid"], &mut warnings)).and_then(|[id]| id);
    id.is_some_and(|id| id.number().is_some() || id.string().is_some_and(|id| !id.trim().is_empty()))
}

/// Removes the vendor token from an answer, because answers are stored and returned to callers.
pub(super) fn without_token(body: Bytes, token: &VendorToken) -> Bytes {
    token.erased_from(&body).map_or(body, Bytes::from)
}

/// Reads the bodies of answers with status 200.
#[derive(Debug, Clone, Copy)]
pub struct AnswerReader<'a> {
    /// The vendor's URL. Paths of recordings on other hosts are omitted.
    pub base_url: &'a Url,
    /// The token that is removed from texts that quote the vendor.
    pub token: &'a VendorToken,
    /// Maximum size in bytes of an answer's text after conversion to UTF-8.
    pub max_bytes: usize,
}

impl AnswerReader<'_> {
    /// Reads a body. `content_type` may declare its encoding.
    ///
    /// # Errors
    /// Returns an error if the body is too large or not JSON, if no turn can be read, or if there are too many turns or tags. The
    /// error is a text for people.
    pub fn read(
        &self,
        body: &Bytes,
        content_type: Option<&str>,
        etag: Option<String>,
    ) -> Result<PollOutcome, String> {
        let mut warnings = AnswerWarnings::default();
        let text = decode(body, content_type, &mut warnings);
        if text.trim().is_empty() {
            return Ok(PollOutcome::NotReady { etag, retry_after: None, detail: None });
        }
        if text.len() > self.max_bytes {
            return Err("the vendor's answer is larger than vendor.max_response_bytes".to_owned());
        }
        let Some(json) = document(&text, self.max_bytes, &mut warnings) else {
            return Err(quoted("the vendor's answer is not JSON", words::of_body(&text, self.token)));
        };
        let Some(result) = self.result(&json, warnings)? else {
            let words = words::of_answer(&json, self.token);
            let detail = words.map(|words| quoted("the vendor answered without a result", Some(words)));
            return Ok(PollOutcome::NotReady { etag, retry_after: None, detail });
        };
        let is_silent = result.transcript.is_empty();
        // A silent call is not an error. An error must not be read as a silent call.
        if is_silent && let Some(words) = words::of_error(&json, self.token) {
            let detail = Some(quoted("the vendor answered without a result", Some(words)));
            return Ok(PollOutcome::NotReady { etag, retry_after: None, detail });
        }
        let obtained = Box::new(VendorResult { result, vendor_answer: body.clone(), etag });
        Ok(if is_silent { PollOutcome::Empty(obtained) } else { PollOutcome::Ready(obtained) })
    }

    /// Extracts the result that the vendor's document contains. Returns `None` if the document has no result yet.
    fn result(&self, json: &str, mut warnings: AnswerWarnings) -> Result<Option<AnalysisResult>, String> {
        let document = Json::parse(json).ok_or("the vendor's answer is not JSON")?;
        let answer = document.members(["answer"], &mut warnings).and_then(|[answer]| answer);
        let encoded_twice = answer.and_then(|answer| nested(answer, self.max_bytes, &mut warnings));
        let answer = encoded_twice.as_deref().map_or(answer, Json::parse);
        let names = ["stalk", "tags", "aicallid", "begin_time", "stereoaudio"];
        let Some([stalk, tags, ai_call_id, begin_time, audio]) =
            answer.and_then(|it| it.members(names, &mut warnings))
        else {
            return Ok(None);
        };
        let stalk_encoded_twice = stalk.and_then(|stalk| nested(stalk, self.max_bytes, &mut warnings));
        let stalk = stalk_encoded_twice.as_deref().map_or(stalk, Json::parse);
        let Some(fragments) = stalk.and_then(|stalk| stalk.objects(MAX_TURNS, &mut warnings)) else {
            return Ok(None);
        };
        let (fragments, all) = fragments.map_err(|TooMany| "the vendor's answer has too many turns")?;
        if fragments.is_empty() && all > 0 {
            return Err("no turn in the vendor's answer can be read".to_owned());
        }
        warnings.add(WarningCode::OmittedTurns, all - fragments.len());
        let mut transcript = turns(fragments, &mut warnings);
        // The sort is stable, so turns with the same start stay in the vendor's order.
        transcript.sort_by_key(|turn| turn.begin_ms);
        let tags_encoded_twice = tags.and_then(|tags| nested(tags, self.max_bytes, &mut warnings));
        let tags = tags_encoded_twice.as_deref().map_or(tags, Json::parse);
        let tags = read_tags(tags, &mut warnings)?;
        warnings.add(WarningCode::InvalidCharacters, replacements(&transcript, &tags));
        Ok(Some(AnalysisResult {
            ai_call_id: ai_call_id.and_then(Json::text),
            begin_time: begin_time.and_then(Json::number).and_then(unix_seconds),
            transcript,
            tags,
            audio_path: audio.and_then(Json::string).and_then(|path| own_path(self.base_url, &path)),
            warnings: warnings.into_list(),
        }))
    }
}

fn turns(fragments: Vec<Json<'_>>, warnings: &mut AnswerWarnings) -> Vec<Turn> {
    let names = ["fragment_id", "direction", "begin", "end", "text"];
    let (mut turns, mut unknown_times, mut before) = (Vec::with_capacity(fragments.len()), 0, 0);
    for fragment in fragments {
        let Some([id, direction, begin, end, text]) = fragment.members(names, warnings) else { continue };
        let (begin_ms, end_ms) = match (begin.and_then(millis), end.and_then(millis)) {
            (Some(begin), Some(end)) => (begin, end),
            (one, other) => {
                // The turn has no length, because any length would be a guess. If the turn has no time at all, it stays behind
                // the previous turn.
                unknown_times += 1;
                let time = one.or(other).unwrap_or(before);
                (time, time)
            }
        };
        before = begin_ms;
        turns.push(Turn {
            fragment_id: id.and_then(Json::text),
            speaker: Speaker::from_word(&direction.and_then(Json::text).unwrap_or_default()),
            begin_ms,
            end_ms,
            text: text.and_then(Json::text).unwrap_or_default(),
        });
    }
    warnings.add(WarningCode::UnknownTimes, unknown_times);
    turns
}

/// Returns the number of characters that the vendor or the decoder replaced with U+FFFD.
fn replacements(turns: &[Turn], tags: &[Tag]) -> usize {
    let texts = turns.iter().map(|turn| &turn.text[..]);
    let names = tags.iter().map(|tag| &tag.name[..]);
    let matches = tags.iter().filter_map(|tag| tag.match_text.as_deref());
    let values = tags.iter().filter_map(|tag| tag.value.as_str());
    let all = texts.chain(names).chain(matches).chain(values);
    all.map(|text| text.matches(char::REPLACEMENT_CHARACTER).count()).sum()
}

fn read_tags(tags: Option<Json<'_>>, warnings: &mut AnswerWarnings) -> Result<Vec<Tag>, &'static str> {
    let Some(tags) = tags.and_then(|tags| tags.objects(MAX_TAGS, warnings)) else { return Ok(Vec::new()) };
    let (tags, all) = tags.map_err(|TooMany| "the vendor's answer has too many tags")?;
    warnings.add(WarningCode::OmittedTags, all - tags.len());
    let mut nested_bytes = MAX_NESTED_BYTES;
    Ok(tags.into_iter().filter_map(|json| tag(json, &mut nested_bytes, warnings)).collect())
}

fn tag(tag: Json<'_>, nested_bytes: &mut usize, warnings: &mut AnswerWarnings) -> Option<Tag> {
    let names = ["name", "value", "visible", "tag_type", "begin", "end", "match_text", "fragment_id"];
    let [name, value, visible, r#type, begin, end, match_text, fragment_id] = tag.members(names, warnings)?;
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

/// Returns the path of a recording on the vendor's host. Returns `None` if the path is too long, is invalid or leads to another
/// host.
fn own_path(base_url: &Url, path: &str) -> Option<String> {
    if path.len() > MAX_PATH_BYTES {
        return None;
    }
    let url = base_url.join(path).ok()?;
    let own = url.origin() == base_url.origin() && url.username().is_empty() && url.password().is_none();
    own.then(|| url[url::Position::BeforePath..url::Position::AfterQuery].to_owned())
}
