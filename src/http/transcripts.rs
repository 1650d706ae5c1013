//! The handler of `GET /v1/analyses/{call_id}/transcript`.

use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer_body::taken;
use super::negotiation::negotiate;
use super::problem::{ApiError, INTERNAL};
use super::request::ApiRequest;
use super::tagged::{File, tagged_file};
use crate::domain::clock::Timestamp;
use crate::domain::ids::CallId;
use crate::domain::renderings::{markdown, subrip, text, webvtt};
use crate::domain::transcript::{Transcript, Turn};

/// The transcript of a call.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transcript)]
pub struct TranscriptResource {
    /// The CALL_ID of AloVoice.
    #[schema(value_type = String, example = "1716207617.42")]
    call_id: CallId,
    /// Version number of the result. It increases with each change and with each result of a reanalysis.
    revision: u32,
    /// Start time of the call.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    begin_time: Option<Timestamp>,
    /// The turns, in order of time.
    #[schema(max_items = 20_000)]
    transcript: Vec<Turn>,
}

/// The transcript: an object in JSON, a text in the other formats. The schema of JSON includes both forms, because clients of
/// openapi-generator parse every format with the schema of the first one.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum TranscriptAnswer {
    /// The transcript in JSON.
    Json(TranscriptResource),
    /// The transcript in another format.
    Text(String),
}

impl From<Transcript> for TranscriptResource {
    fn from(transcript: Transcript) -> Self {
        let Transcript { call_id, revision, begin_time, turns, call: _ } = transcript;
        Self { call_id, revision, begin_time, transcript: turns }
    }
}

/// A format of the transcript.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TranscriptFormat {
    /// JSON with all fields of each turn.
    Json,
    /// Plain text with one line for each turn.
    Text,
    /// Markdown with a heading and the facts of the call.
    Markdown,
    /// WebVTT subtitles with the speakers as voices.
    Vtt,
    /// SubRip subtitles with the speaker before each text.
    Srt,
}

impl TranscriptFormat {
    /// All formats, in the order in which the gateway prefers them.
    const ALL: [Self; 5] = [Self::Json, Self::Text, Self::Markdown, Self::Vtt, Self::Srt];

    const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Vtt => "text/vtt",
            Self::Srt => "application/x-subrip",
        }
    }

    /// Returns the file name extension.
    const fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "txt",
            Self::Markdown => "md",
            Self::Vtt => "vtt",
            Self::Srt => "srt",
        }
    }

    fn render(self, transcript: Transcript) -> Result<Vec<u8>, serde_json::Error> {
        Ok(match self {
            Self::Json => serde_json::to_vec(&TranscriptResource::from(transcript))?,
            Self::Text => text::render(&transcript).into_bytes(),
            Self::Markdown => markdown::render(&transcript).into_bytes(),
            Self::Vtt => webvtt::render(&transcript).into_bytes(),
            Self::Srt => subrip::render(&transcript).into_bytes(),
        })
    }
}

/// Choice of the format of a transcript.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TranscriptQuery {
    /// Format of the answer. It takes precedence over `Accept`. If you send neither, the answer is JSON.
    #[param(inline)]
    format: Option<TranscriptFormat>,
}

/// Returns the transcript in the format that the caller asks for.
pub(super) async fn get_transcript(
    http: HttpRequest,
    request: ApiRequest<CallId, TranscriptQuery>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, trace, path: call_id, query, .. } = request;
    let format = match query.format {
        Some(format) => format,
        None => {
            let offered = TranscriptFormat::ALL.map(TranscriptFormat::media_type);
            TranscriptFormat::ALL[negotiate(&http, &offered, 0)?]
        }
    };
    let (transcript, memory) = state.analyses.transcript(&tenant, &call_id, trace).await?;
    let body = format.render(transcript).map_err(|error| ApiError::new(INTERNAL, error.to_string()))?;
    let file =
        File { media_type: format.media_type(), stem: call_id.as_str(), extension: format.extension() };
    Ok(taken(tagged_file(&http, &file, body.into()), memory))
}
