//! The public form of an analysis, in answers, events and callbacks.

use serde::Serialize;
use utoipa::ToSchema;

use super::analysis::{
    Analysis, AnalysisResult, Failure, LastError, LastReanalysis, Metadata, Reanalysis, Status,
};
use super::answer_warnings::AnswerWarning;
use super::call_facts::CallFacts;
use super::clock::Timestamp;
use super::ids::CallId;
use super::public_url::PublicUrl;
use super::tags::Tag;
use super::talk_metrics::TalkMetrics;
use super::transcript::Turn;

/// The analysis of one call. Fields without a value are `null`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Analysis)]
pub struct AnalysisResource {
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
    /// Errors in the answer of AloVoice that the gateway tolerated. Usually empty.
    #[schema(max_items = 12)]
    pub warnings: Vec<AnswerWarning>,
    /// The turns of the call, in order of time.
    #[schema(required = true, max_items = 20_000)]
    pub transcript: Option<Vec<Turn>>,
    /// The matches of quality rules.
    #[schema(required = true, max_items = 20_000)]
    pub tags: Option<Vec<Tag>>,
    /// Talk metrics of the call.
    #[schema(required = true)]
    pub talk_metrics: Option<TalkMetrics>,
    /// Link to the recording: a path of this service, or a full URL if the operator configured `server.public_url`.
    #[schema(required = true, example = "/v1/analyses/1716207617.42/audio")]
    pub audio_url: Option<String>,
}

impl AnalysisResource {
    /// Creates the resource of an analysis, with the result if there is one.
    pub fn new(analysis: &Analysis, result: Option<AnalysisResult>, public_url: &PublicUrl) -> Self {
        let mut resource = Self {
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
            warnings: Vec::new(),
            transcript: None,
            tags: None,
            talk_metrics: None,
            audio_url: None,
        };
        if let Some(result) = result {
            resource.talk_metrics = Some(TalkMetrics::of(&result.transcript));
            resource.audio_url = result.audio_path.map(|_| public_url.recording(&analysis.call_id));
            resource.ai_call_id = result.ai_call_id;
            resource.warnings = result.warnings;
            resource.begin_time = result.begin_time;
            resource.transcript = Some(result.transcript);
            resource.tags = Some(result.tags);
        }
        resource
    }
}
