//! `/v1/analyses/{call_id}/transcript`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::authorized::{AnalysesRead, Authorized};
use super::input::{CallPath, StrictQuery};
use super::negotiation::negotiate;
use super::observe::RequestTrace;
use super::parameters::{CallParameter, KnownState};
use super::problem::{ApiError, Problem};
use super::problem_responses::{CallProblems, CommonProblems, ResultProblems};
use super::state::ApiState;
use super::tagged::{File, tagged_file};
use crate::domain::clock::Timestamp;
use crate::domain::ids::CallId;
use crate::domain::renderings::{markdown, subrip, text, webvtt};
use crate::domain::transcript::{Transcript, Turn};

/// A call's talk.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transcript)]
pub struct TranscriptResource {
    /// The call, as the vendor names it.
    #[schema(value_type = String, example = "1716207617.42")]
    call_id: CallId,
    /// Counted up with every change of the result.
    revision: u32,
    /// When the call began.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    begin_time: Option<Timestamp>,
    /// Who said what, in the order of time.
    #[schema(max_items = 20_000)]
    transcript: Vec<Turn>,
}

impl From<Transcript> for TranscriptResource {
    fn from(transcript: Transcript) -> Self {
        let Transcript { call_id, revision, begin_time, turns } = transcript;
        Self { call_id, revision, begin_time, transcript: turns }
    }
}

/// A form of the transcript.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TranscriptFormat {
    /// JSON, with everything that is known of each turn.
    Json,
    /// Plain text, a line for each turn.
    Text,
    /// Markdown, with the facts of the call.
    Markdown,
    /// WebVTT, with the speakers as voices.
    Vtt,
    /// SubRip.
    Srt,
}

impl TranscriptFormat {
    /// Every form, the most welcome first.
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

    /// What the name of such a file ends in.
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

/// In which form.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TranscriptQuery {
    /// The form of the answer, whatever `Accept` says. Without it, `Accept` chooses; without both it is JSON.
    #[param(inline)]
    format: Option<TranscriptFormat>,
}

/// Get the transcript of a call
///
/// Who said what, in the order of time, without the rest of the analysis: as JSON, plain text, Markdown, or as subtitles
/// in WebVTT or SubRip. `format` or `Accept` says which. Other forms than JSON leave out turns without words, put each
/// turn on one line, and show a turn without length for a second.
#[utoipa::path(
    get, path = "/v1/analyses/{call_id}/transcript", operation_id = "get_transcript", tag = "analyses",
    params(CallParameter, TranscriptQuery, KnownState),
    responses(
        (status = 200, description = "The transcript", content(
            (TranscriptResource = "application/json"),
            (String = "text/plain", example = "[0:00:01] Operator: assalomu alaykum\n"),
            (String = "text/markdown", example = "# Call 1716207617.42\n\n- Begin: 2024-05-20T12:20:17Z\n- Duration: 0:00:51\n- Operator: 0:00:30 of talk, 64 %\n- Client: 0:00:17 of talk, 36 %\n\n## Transcript\n\n0:00:01 **Operator:** assalomu alaykum\n"),
            (String = "text/vtt", example = "WEBVTT\n\n00:00:01.120 --> 00:00:06.440\n<v Operator>assalomu alaykum</v>\n"),
            (String = "application/x-subrip", example = "1\n00:00:01,120 --> 00:00:06,440\nOperator: assalomu alaykum\n\n"),
        ), headers(
            ("ETag" = String, description = "Names this state, in this form"),
            ("Content-Disposition" = String, description = "A name for the file"),
        )),
        (status = 304, description = "As known"),
        (status = 406, description = "`Accept` refuses all that there is; `detail` lists it", body = Problem, content_type = "application/problem+json"),
        CallProblems, ResultProblems, CommonProblems,
    ),
    security(("bearer" = ["analyses:read"]))
)]
pub async fn get_transcript(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Authorized<AnalysesRead>,
    trace: RequestTrace,
    call: CallPath,
    query: StrictQuery<TranscriptQuery>,
) -> Result<HttpResponse, ApiError> {
    let format = match query.0.format {
        Some(format) => format,
        None => {
            TranscriptFormat::ALL
                [negotiate(&request, &TranscriptFormat::ALL.map(TranscriptFormat::media_type))?]
        }
    };
    let transcript = state.analyses.transcript(&caller.tenant, &call.0, trace.0).await?;
    let body = format
        .render(transcript)
        .map_err(|error| ApiError::new(super::problem::INTERNAL, error.to_string()))?;
    let file = File { media_type: format.media_type(), stem: call.0.as_str(), extension: format.extension() };
    Ok(tagged_file(&request, &file, body.into()))
}
