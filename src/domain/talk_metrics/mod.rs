//! Talk metrics: talk time, speed, overtalk, silence, monologues and interruptions.
//!
//! Turns whose end is not after their start are dropped, and negative starts become 0. The intervals of each side are
//! merged, so that overlapping turns of one side count once. Turns of other speakers only extend the duration.

mod intervals;
mod words;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::intervals::{Interval, IntervalSet};
use super::transcript::{Speaker, Turn};

/// Talk metrics of one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TalkMetrics {
    /// The end of the last turn, in milliseconds from the start of the call.
    #[schema(example = 235_880, minimum = 0)]
    pub duration_ms: i64,
    /// Metrics of the operator.
    pub operator: SideMetrics,
    /// Metrics of the client.
    pub client: SideMetrics,
    /// Time during which both speakers talk.
    #[schema(example = 2_310, minimum = 0)]
    pub overtalk_ms: i64,
    /// Time during which no speaker talks.
    #[schema(example = 40_120, minimum = 0)]
    pub silence_ms: i64,
    /// The longest silence.
    #[schema(example = 6_500, minimum = 0)]
    pub longest_silence_ms: i64,
    /// The sum of the silences of more than 3 seconds, the "non-talk time" of Amazon Connect.
    #[schema(example = 12_400, minimum = 0)]
    pub non_talk_ms: i64,
    /// Changes of the speaker per minute of the call.
    #[schema(example = 9.4, minimum = 0.0)]
    pub speaker_switches_per_minute: f64,
    /// The median time from the end of a client turn to the next operator turn; `null` if the operator never answers the client.
    #[schema(required = true, example = 840, minimum = 0)]
    pub median_response_ms: Option<i64>,
    /// The thresholds used for these metrics.
    pub thresholds: Thresholds,
}

/// Talk metrics of one speaker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SideMetrics {
    /// Talk time of this speaker. Overlapping turns are counted once.
    #[schema(example = 120_440, minimum = 0)]
    pub talk_ms: i64,
    /// The share of this speaker in the talk time of both speakers, from 0 to 1.
    #[schema(example = 0.6154, minimum = 0.0, maximum = 1.0)]
    pub talk_share: f64,
    /// Words per minute of talk time.
    #[schema(example = 131.5, minimum = 0.0)]
    pub words_per_minute: f64,
    /// The longest monologue. Pauses of up to 3 seconds and short remarks of the other speaker do not end a monologue.
    #[schema(example = 31_200, minimum = 0)]
    pub longest_monologue_ms: i64,
    /// Number of turns that start while the other speaker talks and overlap by more than 500 ms.
    #[schema(value_type = u64, example = 2)]
    pub interruptions: usize,
}

/// Thresholds of talk metrics, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Thresholds {
    /// Duration above which a silence counts as non-talk time.
    #[schema(example = 3_000)]
    pub non_talk_ms: i64,
    /// Duration above which a pause ends a monologue.
    #[schema(example = 3_000)]
    pub monologue_pause_ms: i64,
    /// Duration below which a remark of the other speaker does not end a monologue.
    #[schema(example = 500)]
    pub backchannel_ms: i64,
    /// Duration above which an overlap counts as an interruption.
    #[schema(example = 500)]
    pub interruption_overlap_ms: i64,
}

/// The thresholds in use.
const THRESHOLDS: Thresholds = Thresholds {
    non_talk_ms: 3_000,
    monologue_pause_ms: 3_000,
    backchannel_ms: 500,
    interruption_overlap_ms: 500,
};

/// The turns of one side, as intervals and as a merged set.
#[derive(Default)]
struct SideTurns {
    turns: Vec<Interval>,
    words: usize,
    talk: IntervalSet,
}

impl TalkMetrics {
    /// Computes the metrics of these turns, in any order.
    pub fn of(turns: &[Turn]) -> Self {
        let (operator, client) =
            (SideTurns::of(turns, &Speaker::Operator), SideTurns::of(turns, &Speaker::Client));
        let duration = turns.iter().filter_map(interval).map(|turn| turn.end).max().unwrap_or(0);
        let both = operator.talk.union(&client.talk);
        let silences = IntervalSet::of(Interval::new(0, duration)).without(&both);
        let lengths = || silences.iter().map(Interval::length);
        Self {
            duration_ms: duration,
            overtalk_ms: operator.talk.length() - operator.talk.without(&client.talk).length(),
            silence_ms: silences.length(),
            longest_silence_ms: lengths().max().unwrap_or(0),
            non_talk_ms: lengths().filter(|length| *length > THRESHOLDS.non_talk_ms).sum(),
            speaker_switches_per_minute: per_minute(switches(&operator, &client), duration),
            median_response_ms: median(responses(&operator.talk, &client.talk)),
            operator: operator.metrics(&client),
            client: client.metrics(&operator),
            thresholds: THRESHOLDS,
        }
    }
}

impl SideTurns {
    fn of(turns: &[Turn], speaker: &Speaker) -> Self {
        let mut side = Self::default();
        for turn in turns.iter().filter(|turn| turn.speaker == *speaker) {
            if let Some(interval) = interval(turn) {
                side.turns.push(interval);
                side.words += words::count(&turn.text);
            }
        }
        side.talk = IntervalSet::of(side.turns.iter().copied());
        side
    }

    fn metrics(&self, other: &Self) -> SideMetrics {
        let talk = self.talk.length();
        SideMetrics {
            talk_ms: talk,
            talk_share: share(talk, other.talk.length()),
            words_per_minute: per_minute(self.words, talk),
            longest_monologue_ms: longest_monologue(&self.talk, &other.talk),
            interruptions: self.turns.iter().filter(|turn| interrupts(**turn, &other.talk)).count(),
        }
    }
}

fn interval(turn: &Turn) -> Option<Interval> {
    Interval::new(turn.begin_ms, turn.end_ms)
}

/// Whether the turn interrupts the other side. A turn that starts at the same time as the other side does not interrupt.
fn interrupts(turn: Interval, other: &IntervalSet) -> bool {
    other.at(turn.begin).is_some_and(|spoken| {
        spoken.begin < turn.begin
            && turn.end.min(spoken.end) - turn.begin > THRESHOLDS.interruption_overlap_ms
    })
}

/// Returns the number of speaker changes between consecutive turns, sorted by start.
fn switches(operator: &SideTurns, client: &SideTurns) -> usize {
    let operators = operator.turns.iter().map(|turn| (*turn, Speaker::Operator.as_str()));
    let clients = client.turns.iter().map(|turn| (*turn, Speaker::Client.as_str()));
    let mut order: Vec<_> = operators.chain(clients).collect();
    order.sort_unstable();
    order.windows(2).filter(|pair| pair[0].1 != pair[1].1).count()
}

/// Returns the response times: the silences from the end of the client's speech to the start of the operator's speech. A silence
/// of 0 ms counts.
///
/// There is no response if the operator is already speaking when the client stops, or if the client speaks again before the
/// operator.
fn responses(operator: &IntervalSet, client: &IntervalSet) -> Vec<i64> {
    client
        .iter()
        .filter_map(|asked| {
            let answer = operator.from(asked.end).filter(|_| {
                // The operator must not be speaking already. Speech that starts at this time is an answer.
                operator.at(asked.end).is_none_or(|spoken| spoken.begin == asked.end)
            })?;
            let goes_on = client.from(asked.end).is_some_and(|next| next.begin < answer.begin);
            (!goes_on).then_some(answer.begin - asked.end)
        })
        .collect()
}

/// Returns the length of the side's longest monologue, in milliseconds.
///
/// The first pass ignores all short remarks. It shows which remarks lie wholly inside a monologue. In the second pass, all other
/// remarks end a monologue.
fn longest_monologue(side: &IntervalSet, other: &IntervalSet) -> i64 {
    let (short, long): (Vec<_>, Vec<_>) =
        other.iter().partition(|remark| remark.length() < THRESHOLDS.backchannel_ms);
    let lenient = IntervalSet::of(runs(side, &IntervalSet::of(long.iter().copied())));
    let outside =
        short.into_iter().filter(|remark| !lenient.at(remark.begin).is_some_and(|run| run.contains(*remark)));
    let breaks = IntervalSet::of(long.into_iter().chain(outside));
    runs(side, &breaks).into_iter().map(Interval::length).max().unwrap_or(0)
}

/// Returns the intervals in which the side speaks, without the times in `breaks`. Joins two intervals if the pause between them
/// is short and contains no break.
fn runs(side: &IntervalSet, breaks: &IntervalSet) -> Vec<Interval> {
    let mut runs: Vec<Interval> = Vec::new();
    for piece in side.without(breaks).iter() {
        match runs.last_mut() {
            Some(run)
                if piece.begin - run.end <= THRESHOLDS.monologue_pause_ms
                    && breaks.from(run.end).is_none_or(|next| next.begin >= piece.begin) =>
            {
                run.end = piece.end;
            }
            _ => runs.push(piece),
        }
    }
    runs
}

/// Returns the middle value, or the mean of the two middle values, rounded down.
fn median(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { values[middle - 1].midpoint(upper) })
}

/// Returns the share of `part` in `part + rest`, rounded to four decimals; 0 if both are 0.
#[expect(clippy::cast_precision_loss, reason = "the result has four decimals")]
fn share(part: i64, rest: i64) -> f64 {
    let whole = part as f64 + rest as f64;
    if whole == 0.0 { 0.0 } else { (part as f64 / whole * 1e4).round() / 1e4 }
}

/// Returns the rate per minute, rounded to one decimal; 0 for a duration of 0.
#[expect(clippy::cast_precision_loss, reason = "the result has one decimal")]
fn per_minute(count: usize, ms: i64) -> f64 {
    if ms == 0 { 0.0 } else { (count as f64 * 60_000.0 / ms as f64 * 10.0).round() / 10.0 }
}

#[cfg(test)]
mod tests;
