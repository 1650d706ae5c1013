//! The behaviour of the vendor for a call, selected by the call id.
//!
//! A call id has the form `[known-][BEHAVIOUR[-forever]~]ANYTHING`, such as `submit-reset~7`, `result-500-forever~a`,
//! `known-gzip~1` or `1716207617.42`. With `known-`, the vendor has the result without a submit. A fault lasts for the first
//! [`FAULTY_REQUESTS`] requests of its kind for the call; with `-forever` it never ends.

use crate::domain::ids::{CallId, InvalidId};

/// Number of requests that a temporary fault affects.
const FAULTY_REQUESTS: u32 = 2;

macro_rules! behaviours {
    ($($variant:ident $name:literal $description:literal)*) => {
        /// A difference between the vendor's answers and the vendor's documentation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Behaviour {
            $(#[doc = $description] $variant,)*
        }

        impl Behaviour {
            /// All behaviours, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns the name that selects this behaviour in a call id.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns a description in one line.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)* }
            }
        }
    };
}

behaviours! {
    Documented "documented" "Answers as documented; unfinished answers are objects without `stalk`."
    // Forms of unfinished answers.
    NotReadyNull "not-ready-null" "Unfinished: `answer` is null."
    NotReadyMissing "not-ready-missing" "Unfinished: there is no `answer`."
    NotReadyString "not-ready-string" "Unfinished: `answer` is a string."
    NotReadyNoStalk "not-ready-no-stalk" "Unfinished: `answer` is an object without `stalk`."
    NotReadyEmpty "not-ready-empty" "Unfinished: `stalk` and `tags` are empty."
    NotReady202 "not-ready-202" "Unfinished: the status is 202."
    NotReady204 "not-ready-204" "Unfinished: the status is 204, without a body."
    NotReady404 "not-ready-404" "Unfinished: the status is 404, as if the call were unknown."
    NeverReady "never-ready" "The analysis never finishes."
    Silent "silent" "Finished with empty `stalk` and `tags`, because neither party spoke."
    // Content of finished answers.
    TagsLate "tags-late" "Finished; the first answer has no tags, the second one has them."
    TagsMore "tags-more" "Finished; the first answer has one tag, the second one has all."
    TagsLost "tags-lost" "Finished; the second answer has no tags."
    TurnsLost "turns-lost" "Finished; the second answer has only the first turn."
    Emptied "emptied" "Finished; the second answer has neither turns nor tags."
    Changed "changed" "Finished; the second answer has a different text."
    BeginTimeString "begin-time-string" "`begin_time` is a string of digits."
    NumbersAsStrings "numbers-as-strings" "All numbers are strings."
    DirectionOther "direction-other" "Some turns have a `direction` that is neither `operator` nor `client`."
    Unordered "unordered" "Turns are in reverse order, and the first two begin together."
    MissingFields "missing-fields" "Each turn and each tag lacks one field, and it is not always the same field."
    TagTypes "tag-types" "Unknown tag types, values that are not strings, and unknown fields."
    AudioElsewhere "audio-elsewhere" "`stereoaudio` is an absolute URL on another host."
    // Caching and encoding.
    NoEtag "no-etag" "Answers have no `ETag`."
    EtagStale "etag-stale" "All answers have the same `ETag`, and a request with it gets 304."
    EtagIgnored "etag-ignored" "`If-None-Match` is ignored."
    Gzip "gzip" "Results are always compressed."
    // Recordings; these faults never end.
    AudioMissing "audio-404" "The recording's URL answers 404."
    Audio500 "audio-500" "The recording's URL answers 500."
    AudioRedirect "audio-redirect" "The recording's URL redirects to another host."
    AudioTruncated "audio-truncated" "The recording ends at half of its announced length."
    AudioLong "audio-long" "The recording is twenty minutes long, with silence at the end."
    // Faults of both methods.
    Redirect "redirect" "Fault of both methods: redirects with 302 to another host, with the token in the URL."
    // Faults of submit.
    Submit202 "submit-202" "Submit fault: accepts the call and answers 202."
    Submit204 "submit-204" "Submit fault: accepts the call and answers 204 without a body."
    SubmitHtml "submit-html" "Submit fault: accepts the call and answers 200 with a page of HTML."
    SubmitHtmlLost "submit-html-lost" "Submit fault: answers 200 with a page of HTML and does not accept the call."
    SubmitReset "submit-reset" "Submit fault: accepts the call and resets the connection."
    SubmitResetLost "submit-reset-lost" "Submit fault: resets the connection and does not accept the call."
    SubmitHang "submit-hang" "Submit fault: accepts the call and never answers."
    SubmitHangLost "submit-hang-lost" "Submit fault: never answers and does not accept the call."
    Submit500Taken "submit-500-taken" "Submit fault: accepts the call and answers 500."
    Submit500Lost "submit-500-lost" "Submit fault: answers 500 and does not accept the call."
    Submit400 "submit-400" "Submit fault: the status is 400."
    Submit401 "submit-401" "Submit fault: 401, although the token is valid."
    Submit403 "submit-403" "Submit fault: 403, although the token is valid."
    Submit404 "submit-404" "Submit fault: 404, because the recording has not arrived yet."
    Submit429 "submit-429" "Submit fault: 429 with `Retry-After: 1`."
    // Faults of result.
    Result400 "result-400" "Result fault: the status is 400."
    Result401 "result-401" "Result fault: 401, although the token is valid."
    Result403 "result-403" "Result fault: 403, although the token is valid."
    Result404 "result-404" "Result fault: 404, although the call is known."
    Result429 "result-429" "Result fault: 429 with `Retry-After: 1`."
    Result500 "result-500" "Result fault: the status is 500."
    Result503 "result-503" "Result fault: 503 with `Retry-After: 1`."
    Result503Date "result-503-date" "Result fault: 503 with a date in `Retry-After`, two seconds ahead."
    ResultHtml "result-html" "Result fault: 200 with a page of HTML."
    Reset "reset" "Result fault: resets the connection."
    Hang "hang" "Result fault: never answers."
    Truncated "truncated" "Result fault: closes the connection in the middle of the result."
    TruncatedGzip "truncated-gzip" "Result fault: the message has its announced length, but the compressed data is incomplete."
    GzipBomb "gzip-bomb" "Result fault: a megabyte that decompresses to a gigabyte."
    Huge "huge" "Result fault: 100 MiB of JSON without an announced length."
    Drip "drip" "Result fault: one byte at a time, endlessly."
}

impl Behaviour {
    /// Returns a call id with this behaviour.
    ///
    /// # Errors
    /// Returns an error if `rest` makes the id invalid.
    pub fn call_id(self, rest: &str) -> Result<CallId, InvalidId> {
        CallId::parse(&format!("{}~{rest}", self.name()))
    }
}

/// The behaviour that a call id selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// Whether the vendor has the result without a submit.
    pub is_known: bool,
    /// Difference between the answers and the vendor's documentation.
    pub behaviour: Behaviour,
    /// Whether a fault never ends.
    pub is_forever: bool,
}

impl Scenario {
    /// Parses a call id. If the id names no behaviour, the behaviour is [`Behaviour::Documented`].
    pub fn parse(call_id: &CallId) -> Self {
        let text = call_id.as_str();
        let (is_known, text) = text.strip_prefix("known-").map_or((false, text), |rest| (true, rest));
        let name = text.split_once('~').map_or("", |(name, _)| name);
        let (is_forever, name) = name.strip_suffix("-forever").map_or((false, name), |name| (true, name));
        let behaviour = Behaviour::ALL.iter().copied().find(|behaviour| behaviour.name() == name);
        Self { is_known, behaviour: behaviour.unwrap_or(Behaviour::Documented), is_forever }
    }

    /// Whether the fault affects this request; `number` counts from one.
    pub(super) fn is_faulty(self, number: u32) -> bool {
        self.is_forever || number <= FAULTY_REQUESTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (bool, Behaviour, bool) {
        let scenario = Scenario::parse(&CallId::parse(text).unwrap());
        (scenario.is_known, scenario.behaviour, scenario.is_forever)
    }

    #[test]
    fn the_call_id_selects_the_behaviour() {
        for behaviour in Behaviour::ALL {
            let scenario = Scenario::parse(&behaviour.call_id("1").unwrap());
            assert_eq!(scenario, Scenario { is_known: false, behaviour: *behaviour, is_forever: false });
        }
        assert_eq!(parse("1716207617.42"), (false, Behaviour::Documented, false));
        assert_eq!(parse("known-1"), (true, Behaviour::Documented, false));
        assert_eq!(parse("known-gzip~1"), (true, Behaviour::Gzip, false));
        assert_eq!(parse("result-500-forever~1~2"), (false, Behaviour::Result500, true));
        assert_eq!(parse("gzip"), (false, Behaviour::Documented, false));
    }
}
