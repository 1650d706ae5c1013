//! The analysis as lists show it: without the transcript, so that pages stay small.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::analysis::{Analysis, AnalysisResult, Failure, LastError, Metadata, Status};
use super::clock::Timestamp;
use super::ids::CallId;
use super::talk_metrics::TalkMetrics;

/// Maximum number of tags that lists show and that the filter by tag finds.
const MAX_TAGS: usize = 100;

/// The parts of a result that lists show. The store keeps it beside the result, so that lists read no transcripts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultSummary {
    /// The vendor's id of the analysis.
    pub ai_call_id: Option<String>,
    /// Start of the call.
    pub begin_time: Option<Timestamp>,
    /// Names of the tags, each once.
    pub tag_names: Vec<String>,
    /// Metrics of the conversation.
    pub talk_metrics: TalkMetrics,
    /// Whether the call has a recording.
    pub has_audio: bool,
}

impl ResultSummary {
    /// The summary of a result.
    pub fn of(result: &AnalysisResult) -> Self {
        Self {
            ai_call_id: result.ai_call_id.clone(),
            begin_time: result.begin_time,
            tag_names: tag_names(result),
            talk_metrics: TalkMetrics::of(&result.transcript),
            has_audio: result.audio_path.is_some(),
        }
    }
}

/// Maximum length of a tag name in a filter, in characters.
pub const MAX_TAG_CHARS: usize = 256;

/// Each name once, in the order of the tags. Names that are longer than [`MAX_TAG_CHARS`] and names with a NUL are left
/// out: PostgreSQL cannot store a NUL.
fn tag_names(result: &AnalysisResult) -> Vec<String> {
    let mut seen = HashSet::new();
    let names = result.tags.iter().map(|tag| tag.name.as_str());
    let fit = |name: &&str| name.chars().nth(MAX_TAG_CHARS).is_none() && !name.contains('\0');
    names.filter(fit).filter(|name| seen.insert(*name)).take(MAX_TAGS).map(str::to_owned).collect()
}

/// Analysis in a list. It has no transcript and no tag matches; read those from `/v1/analyses/{call_id}`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AnalysisSummary {
    /// Id of the call at the vendor.
    #[schema(value_type = String, example = "1716207617.42")]
    pub call_id: CallId,
    /// Status of the analysis.
    pub status: Status,
    /// Revision of the result: 0 without a result, then incremented by every change.
    pub revision: u32,
    /// The vendor's id of the analysis.
    #[schema(required = true, example = "664b400ccccc3235a7cd17f")]
    pub ai_call_id: Option<String>,
    /// Start of the call.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    pub begin_time: Option<Timestamp>,
    /// Time of the first submission.
    #[schema(value_type = String, format = DateTime)]
    pub submitted_at: Timestamp,
    /// Time at which the analysis completed.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    pub completed_at: Option<Timestamp>,
    /// Metadata of the submission.
    #[schema(value_type = HashMap<String, Value>)]
    pub metadata: Metadata,
    /// Reason of the failure, if the analysis failed.
    #[schema(required = true)]
    pub error: Option<Failure>,
    /// Most recent error, if the last request to the vendor failed.
    #[schema(required = true)]
    pub last_error: Option<LastError>,
    /// Names of the quality rules that matched, each once: the first 100 names of up to 256 characters.
    #[schema(required = true, max_items = 100, example = json!(["Приветсвие"]))]
    pub tag_names: Option<Vec<String>>,
    /// Metrics of the conversation.
    #[schema(required = true)]
    pub talk_metrics: Option<TalkMetrics>,
    /// Path of the recording on this service. `null` if the call has no recording.
    #[schema(required = true, example = "/v1/analyses/1716207617.42/audio")]
    pub audio_url: Option<String>,
}

impl AnalysisSummary {
    /// The summary of an analysis, with the result if there is one.
    pub fn new(analysis: &Analysis, result: Option<ResultSummary>) -> Self {
        let mut summary = Self {
            call_id: analysis.call_id.clone(),
            status: analysis.status,
            revision: analysis.revision,
            ai_call_id: None,
            begin_time: None,
            submitted_at: analysis.submitted_at,
            completed_at: analysis.finished_at.filter(|_| analysis.status == Status::Completed),
            metadata: analysis.metadata.clone(),
            error: analysis.failure.clone(),
            last_error: analysis.last_error.clone(),
            tag_names: None,
            talk_metrics: None,
            audio_url: None,
        };
        if let Some(result) = result {
            summary.audio_url = result.has_audio.then(|| format!("/v1/analyses/{}/audio", analysis.call_id));
            summary.ai_call_id = result.ai_call_id;
            summary.begin_time = result.begin_time;
            summary.tag_names = Some(result.tag_names);
            summary.talk_metrics = Some(result.talk_metrics);
        }
        summary
    }
}
