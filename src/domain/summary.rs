//! An analysis as lists show it: without the transcript, so that a page of many stays small.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::analysis::{Analysis, AnalysisResult, Failure, LastError, Metadata, Status};
use super::clock::Timestamp;
use super::ids::CallId;
use super::talk_metrics::TalkMetrics;

/// The most tags that are shown in a list, and that an analysis can be found by.
const MAX_TAGS: usize = 100;

/// What lists show of a result; kept beside it, so that no list has to read transcripts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultSummary {
    /// The vendor's own id of the analysis.
    pub ai_call_id: Option<String>,
    /// When the call began.
    pub begin_time: Option<Timestamp>,
    /// The tags' names.
    pub tag_names: Vec<String>,
    /// How the talk went.
    pub talk_metrics: TalkMetrics,
    /// Whether there is a recording.
    pub has_audio: bool,
}

impl ResultSummary {
    /// Sums up a result.
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

/// The longest name of a tag that can be asked for, in characters.
pub const MAX_TAG_CHARS: usize = 256;

/// Each name once, in the order of the tags. A name that is longer than [`MAX_TAG_CHARS`], or has a NUL in it, which not
/// every store can hold, is left out.
fn tag_names(result: &AnalysisResult) -> Vec<String> {
    let mut seen = HashSet::new();
    let names = result.tags.iter().map(|tag| tag.name.as_str());
    let fit = |name: &&str| name.chars().nth(MAX_TAG_CHARS).is_none() && !name.contains('\0');
    names.filter(fit).filter(|name| seen.insert(*name)).take(MAX_TAGS).map(str::to_owned).collect()
}

/// An analysis in a list: everything but the transcript and the matches of its tags, which are at
/// `/v1/analyses/{call_id}`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AnalysisSummary {
    /// The call, as the vendor names it.
    #[schema(value_type = String, example = "1716207617.42")]
    pub call_id: CallId,
    /// How far it has come.
    pub status: Status,
    /// 0 until there is a result, then counted up with every change of it.
    pub revision: u32,
    /// The vendor's own id of the analysis.
    #[schema(required = true, example = "664b400ccccc3235a7cd17f")]
    pub ai_call_id: Option<String>,
    /// When the call began.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    pub begin_time: Option<Timestamp>,
    /// When it was first submitted.
    #[schema(value_type = String, format = DateTime)]
    pub submitted_at: Timestamp,
    /// When the result came.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    pub completed_at: Option<Timestamp>,
    /// What was given along with the submission.
    #[schema(value_type = HashMap<String, Value>)]
    pub metadata: Metadata,
    /// Why there will be no result.
    #[schema(required = true)]
    pub error: Option<Failure>,
    /// What went wrong at the last try.
    #[schema(required = true)]
    pub last_error: Option<LastError>,
    /// The names of the quality rules that matched, each once; the first 100 of up to 256 characters.
    #[schema(required = true, max_items = 100, example = json!(["Приветсвие"]))]
    pub tag_names: Option<Vec<String>>,
    /// How the talk went.
    #[schema(required = true)]
    pub talk_metrics: Option<TalkMetrics>,
    /// Where the recording is, relative to this service.
    #[schema(required = true, example = "/v1/analyses/1716207617.42/audio")]
    pub audio_url: Option<String>,
}

impl AnalysisSummary {
    /// What lists show of `analysis`, with its result if there is one.
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
