//! The conversation of one call. The conversation is derived from the call id, so a call always has the same conversation.

use aws_lc_rs::digest::{SHA256, digest};

use super::dialogues::{DIALOGUES, Dialogue, FAREWELLS, GREETINGS, Party};
use crate::domain::ids::CallId;

/// Start time of the vendor's example call. A call whose id contains no time starts within a month after this time.
const EXAMPLE_BEGIN: i64 = 1_716_207_617;
const MONTH_SECONDS: u64 = 30 * 24 * 60 * 60;

const MILLIS_PER_LETTER: i64 = 65;
/// Silence after the last word of the recording.
const TAIL_MILLIS: i64 = 800;

/// One line of the conversation, with its start and end times.
pub(super) struct SpokenTurn {
    pub(super) party: Party,
    pub(super) text: &'static str,
    pub(super) begin_ms: i64,
    pub(super) end_ms: i64,
    pub(super) fragment_id: String,
}

/// The result of one of the vendor's rules for a call.
pub(super) struct RuleResult {
    pub(super) name: &'static str,
    pub(super) value: &'static str,
    /// The turn and the words that matched, if the rule is about words.
    pub(super) location: Option<(usize, &'static str)>,
}

/// The conversation of a call.
pub(super) struct Talk {
    /// Start time of the call in seconds since the epoch.
    pub(super) begin_time: i64,
    pub(super) turns: Vec<SpokenTurn>,
    pub(super) tags: Vec<RuleResult>,
}

impl Talk {
    /// Creates the conversation of this call.
    pub(super) fn of(call_id: &CallId) -> Self {
        let seed = Seed::of(call_id);
        let which = usize::from(seed.byte(0)) % DIALOGUES.len();
        let dialogue = &DIALOGUES[which];
        let turns = timed_turns(dialogue, &seed);
        let tags = rule_results(dialogue, &turns);
        Self { begin_time: begin_time(call_id, &seed), turns, tags }
    }

    /// Returns the length of the recording in milliseconds.
    pub(super) fn duration_ms(&self) -> i64 {
        self.turns.iter().map(|turn| turn.end_ms).max().unwrap_or(0) + TAIL_MILLIS
    }
}

/// Returns an id of 24 hexadecimal digits for this call and purpose.
pub(super) fn hex_id(call_id: &CallId, purpose: &str) -> String {
    let digest = digest(&SHA256, format!("{purpose} {call_id}").as_bytes());
    digest.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// Pseudo-random numbers derived from a call id.
struct Seed([u8; 32]);

impl Seed {
    fn of(call_id: &CallId) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, call_id.as_str().as_bytes()).as_ref());
        Self(bytes)
    }

    fn byte(&self, index: usize) -> u8 {
        self.0[index % self.0.len()]
    }

    fn number(&self) -> u64 {
        self.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// Returns the start time of the call. It comes from the call id if Asterisk generated the id; otherwise it is
/// pseudo-random.
fn begin_time(call_id: &CallId, seed: &Seed) -> i64 {
    let digits = call_id.as_str().split('.').next().filter(|digits| digits.len() == 10);
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| {
        let offset = seed.number() % MONTH_SECONDS;
        EXAMPLE_BEGIN.saturating_add_unsigned(offset)
    })
}

/// Assigns times to the lines: usually with a short pause between them, sometimes with an overlap.
fn timed_turns(dialogue: &Dialogue, seed: &Seed) -> Vec<SpokenTurn> {
    let mut ids = FragmentIds::of(seed);
    let mut end_ms = 0;
    let mut last_party = None;
    let mut turns = Vec::with_capacity(dialogue.lines.len());
    for (index, &(party, text)) in dialogue.lines.iter().enumerate() {
        let chance = i64::from(seed.byte(index + 1));
        let pause = match chance % 8 {
            _ if last_party.is_none() => 1_120,
            _ if last_party == Some(party) => 4_000 + chance * 10, // the party looks something up
            0 => -700,                                             // an interruption
            1 => -300,
            2 => 3_200,
            _ => 240 + chance * 4,
        };
        let letters = i64::try_from(text.chars().count()).unwrap_or(0);
        // The vendor's times are multiples of 40 ms.
        let begin_ms = (end_ms + pause) / 40 * 40;
        end_ms = (begin_ms + 400 + letters * MILLIS_PER_LETTER) / 40 * 40;
        last_party = Some(party);
        turns.push(SpokenTurn { party, text, begin_ms, end_ms, fragment_id: ids.next() });
    }
    turns
}

/// Generates ascending ids, as in the vendor's examples.
struct FragmentIds {
    prefix: u64,
    counter: u32,
}

impl FragmentIds {
    fn of(seed: &Seed) -> Self {
        Self { prefix: seed.number(), counter: u32::from(seed.byte(9)) << 16 | u32::from(seed.byte(10)) }
    }

    fn next(&mut self) -> String {
        self.counter += 1;
        format!("{:016x}{:08x}", self.prefix, self.counter)
    }
}

/// Applies the rules. Their names are those of the vendor, including the vendor's spelling errors.
fn rule_results(dialogue: &Dialogue, turns: &[SpokenTurn]) -> Vec<RuleResult> {
    let mut tags = Vec::new();
    if !dialogue.company_is_named {
        tags.push(RuleResult {
            name: "Нет представления компании", value: "", location: None
        });
    }
    if !dialogue.more_is_offered {
        tags.push(RuleResult {
            name: "Нет дополнительной информации", value: "", location: None
        });
    }
    for (name, value, phrases) in
        [("Приветсвие", "Приветствие", GREETINGS), ("Прощание", "Прощание", FAREWELLS)]
    {
        let of_operator = turns.iter().enumerate().filter(|(_, turn)| turn.party == Party::Operator);
        for (index, turn) in of_operator {
            let matches = phrases.iter().filter(|phrase| has_words(turn.text, phrase));
            tags.extend(matches.map(|phrase| RuleResult { name, value, location: Some((index, *phrase)) }));
        }
    }
    tags
}

/// Returns whether the text contains these words as whole words: "xayrli kun" does not contain "xayr".
fn has_words(text: &str, words: &str) -> bool {
    format!(" {text} ").contains(&format!(" {words} "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialogue_is_plausible() {
        for (index, dialogue) in DIALOGUES.iter().enumerate() {
            let seed = Seed([u8::try_from(index).unwrap() * 37; 32]);
            let turns = timed_turns(dialogue, &seed);
            assert!((10..=20).contains(&turns.len()));
            assert!(turns.iter().all(|turn| turn.begin_ms >= 0 && turn.end_ms > turn.begin_ms));
            assert!(turns.windows(2).all(|pair| pair[0].begin_ms < pair[1].begin_ms));
            let tags = rule_results(dialogue, &turns);
            assert!(tags.iter().any(|tag| tag.name == "Приветсвие"), "dialogue {index}");
            assert!(
                tags.iter()
                    .filter_map(|tag| tag.location)
                    .all(|(turn, text)| turns[turn].text.contains(text))
            );
        }
    }

    #[test]
    fn a_call_begins_at_the_time_in_its_id() {
        let talk = Talk::of(&CallId::parse("1716209468.7").unwrap());
        assert_eq!(talk.begin_time, 1_716_209_468);
        let other = Talk::of(&CallId::parse("a").unwrap());
        assert!((EXAMPLE_BEGIN..EXAMPLE_BEGIN + 2_592_000).contains(&other.begin_time));
    }

    #[test]
    fn talks_differ_between_calls_and_some_overlap() {
        let talks: Vec<_> =
            (0..60).map(|n| Talk::of(&CallId::parse(&format!("call-{n}")).unwrap())).collect();
        let lengths: std::collections::BTreeSet<_> = talks.iter().map(Talk::duration_ms).collect();
        assert!(lengths.len() > 30);
        let overlaps = |talk: &Talk| talk.turns.windows(2).any(|pair| pair[1].begin_ms < pair[0].end_ms);
        assert!(talks.iter().any(overlaps) && !talks.iter().all(overlaps));
        assert!(talks.iter().all(|talk| talk.duration_ms() < 130_000), "the recording stays under 4 MB");
    }
}
