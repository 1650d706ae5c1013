//! The form of an analysis in lists: without the transcript, so that a page stays small.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::analysis::{
    Analysis, AnalysisResult, Failure, LastError, LastReanalysis, Metadata, Reanalysis, Status,
};
use super::call_facts::CallFacts;
use super::clock::Timestamp;
use super::ids::CallId;
use super::public_url::PublicUrl;
use super::tags::TagKey;
use super::talk_metrics::TalkMetrics;

/// Maximum number of tags per analysis that lists show and that the filter by tag finds.
const MAX_TAGS: usize = 100;

/// The parts of a result that lists show. The store keeps a summary beside each result, so that lists read no
/// transcripts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultSummary {
    /// The id of the analysis at AloVoice.
    pub ai_call_id: Option<String>,
    /// Start time of the call.
    pub begin_time: Option<Timestamp>,
    /// Names of the tags, each once.
    pub tag_names: Vec<String>,
    /// Talk metrics of the call.
    pub talk_metrics: TalkMetrics,
    /// Whether the call has a recording.
    pub has_audio: bool,
}

impl ResultSummary {
    /// Returns the summary of a result.
    pub fn of(result: &AnalysisResult) -> Self {
        Self {
            ai_call_id: result.ai_call_id.clone(),
            begin_time: result.begin_time,
            tag_names: tag_names(result),
            talk_metrics: TalkMetrics::of(&result.transcript),
            has_audio: result.audio_path.is_some(),
        }
    }

    /// Returns the keys under which the filter by tag finds the analysis, each once.
    pub fn tag_keys(&self) -> impl Iterator<Item = TagKey> {
        let keys: BTreeSet<_> = self.tag_names.iter().map(|name| TagKey::of(name)).collect();
        // A few names get longer by normalization, and PostgreSQL bounds the size of an index entry.
        keys.into_iter().filter(|key| key.as_str().chars().nth(MAX_TAG_CHARS).is_none())
    }
}

/// Maximum length of a tag name in a filter, in characters.
pub const MAX_TAG_CHARS: usize = 256;

/// Returns each name once, in the order of the tags. Omits names that are longer than [`MAX_TAG_CHARS`], and names
/// with a NUL, which PostgreSQL cannot store.
fn tag_names(result: &AnalysisResult) -> Vec<String> {
    let mut seen = HashSet::new();
    let names = result.tags.iter().map(|tag| tag.name.as_str());
    let fit = |name: &&str| name.chars().nth(MAX_TAG_CHARS).is_none() && !name.contains('\0');
    names.filter(fit).filter(|name| seen.insert(*name)).take(MAX_TAGS).map(str::to_owned).collect()
}

/// A summary of an analysis. It omits the transcript and the places where tags matched; `get_analysis` returns them.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AnalysisSummary {
    /// The CALL_ID of AloVoice.
    #[schema(value_type = String, example = "1716207617.42")]
    pub call_id: CallId,
    /// The status of the analysis.
    pub status: Status,
    /// Version number of the result: 0 without a result. The number increases with each change and with each result of a
    /// reanalysis.
    pub revision: u32,
    /// The id of the analysis at AloVoice.
    #[schema(required = true, example = "664b400ccccc3235a7cd17f")]
    pub ai_call_id: Option<String>,
    /// Start time of the call according to AloVoice.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    pub begin_time: Option<Timestamp>,
    /// Time of the first submission.
    #[schema(value_type = String, format = DateTime)]
    pub submitted_at: Timestamp,
    /// Time when the gateway received the result of the analysis or of its latest reanalysis. Late tags and refreshes do not
    /// change this time.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    pub completed_at: Option<Timestamp>,
    /// The `metadata` of the latest submission that had `metadata`.
    #[schema(value_type = HashMap<String, Value>)]
    pub metadata: Metadata,
    /// Facts of the call from its submissions.
    pub call: CallFacts,
    /// The reason why the analysis failed.
    #[schema(required = true)]
    pub error: Option<Failure>,
    /// While the gateway retries: the error of its last request to AloVoice. After a failed reanalysis or refresh: the reason for
    /// the failure.
    #[schema(required = true)]
    pub last_error: Option<LastError>,
    /// The reanalysis in progress, which a submission with `reanalyze` started, or `null`. A completed analysis keeps its result
    /// until a new result arrives.
    #[schema(required = true)]
    pub reanalysis: Option<Reanalysis>,
    /// The latest reanalysis that has ended, or `null`.
    #[schema(required = true)]
    pub last_reanalysis: Option<LastReanalysis>,
    /// The distinct names of the matched quality rules, at most the first 100. Names of more than 256 characters are omitted.
    #[schema(required = true, max_items = 100, example = json!(["Приветсвие"]))]
    pub tag_names: Option<Vec<String>>,
    /// Talk metrics of the call.
    #[schema(required = true)]
    pub talk_metrics: Option<TalkMetrics>,
    /// Link to the recording: a path of this service, or a full URL if the operator configured `server.public_url`.
    #[schema(required = true, example = "/v1/analyses/1716207617.42/audio")]
    pub audio_url: Option<String>,
}

impl AnalysisSummary {
    /// Creates the summary of an analysis, with the result if there is one.
    pub fn new(analysis: &Analysis, result: Option<ResultSummary>, public_url: &PublicUrl) -> Self {
        let mut summary = Self {
            call_id: analysis.call_id.clone(),
            status: analysis.status,
            revision: analysis.revision,
            ai_call_id: None,
            begin_time: None,
            submitted_at: analysis.submitted_at,
            completed_at: analysis.finished_at.filter(|_| analysis.status == Status::Completed),
            metadata: analysis.metadata.clone(),
            call: analysis.call.clone(),
            error: analysis.failure.clone(),
            last_error: analysis.last_error.clone(),
            reanalysis: analysis.reanalysis(),
            last_reanalysis: analysis.last_reanalysis,
            tag_names: None,
            talk_metrics: None,
            audio_url: None,
        };
        if let Some(result) = result {
            summary.audio_url = result.has_audio.then(|| public_url.recording(&analysis.call_id));
            summary.ai_call_id = result.ai_call_id;
            summary.begin_time = result.begin_time;
            summary.tag_names = Some(result.tag_names);
            summary.talk_metrics = Some(result.talk_metrics);
        }
        summary
    }
}
