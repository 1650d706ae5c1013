//! Compares the contents of two results of a call. AloVoice's answer can be temporarily incomplete, even after it was complete.

use std::fmt;

use super::AnalysisResult;

/// Content that a result lacks compared with an earlier result of the same call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingContent {
    now: Amount,
    before: Amount,
}

/// Amount of content in a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Amount {
    turns: usize,
    tags: usize,
    /// Number of bytes of the texts of all turns.
    text: usize,
}

impl AnalysisResult {
    /// Returns the missing content if this result has fewer turns, fewer tags or less than half of the text of the earlier
    /// result. Returns `None` otherwise. Used shortly after completion, when a result should only gain content.
    pub fn lacks_any_of(&self, earlier: &Self) -> Option<MissingContent> {
        let (now, before) = (self.amount(), earlier.amount());
        let is_less = now.turns < before.turns || now.tags < before.tags;
        (is_less || 2 * now.text < before.text).then_some(MissingContent { now, before })
    }

    /// Returns the missing content if this result has less than half of the earlier result's turns, text or tags. Returns
    /// `None` otherwise. The result of a refresh may have somewhat less content.
    pub fn lacks_most_of(&self, earlier: &Self) -> Option<MissingContent> {
        let (now, before) = (self.amount(), earlier.amount());
        (now.is_less_than_half_the_talk(&before) || 2 * now.tags < before.tags)
            .then_some(MissingContent { now, before })
    }

    /// Returns the missing content if this result has less than half of the earlier result's turns or text. Returns `None`
    /// otherwise. The function ignores tags, because a reanalysis often finds other tags.
    pub fn lacks_most_talk_of(&self, earlier: &Self) -> Option<MissingContent> {
        let (now, before) = (self.amount(), earlier.amount());
        now.is_less_than_half_the_talk(&before).then_some(MissingContent { now, before })
    }

    fn amount(&self) -> Amount {
        let text = self.transcript.iter().map(|turn| turn.text.len()).sum();
        Amount { turns: self.transcript.len(), tags: self.tags.len(), text }
    }
}

impl Amount {
    const fn is_less_than_half_the_talk(&self, before: &Self) -> bool {
        2 * self.turns < before.turns || 2 * self.text < before.text
    }
}

/// Writes one sentence for logs and for callers.
impl fmt::Display for MissingContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { now, before } = self;
        write!(
            f,
            "the vendor's answer has less content than the stored result: {} of {} turns, {} of {} tags, {} of {} bytes of text",
            now.turns, before.turns, now.tags, before.tags, now.text, before.text
        )
    }
}
