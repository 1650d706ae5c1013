//! Operations on analyses.

use super::route_table;
use crate::auth::Scope::{AnalysesRead, AnalysesWrite};
use crate::domain::resource::AnalysisResource;
use crate::http::analyses::{Prefer, SubmitAnalysis};
use crate::http::batch::{BatchResults, SubmitAnalyses};
use crate::http::conditional::IfNoneMatch;
use crate::http::list_query::ListQuery;
use crate::http::listing::AnalysisList;
use crate::http::operations::Access::Token;
use crate::http::renderings::PresetList;
use crate::http::shared_problems::{NoResult, NotAcceptable};
use crate::http::transcripts::{TranscriptAnswer, TranscriptQuery};

route_table! { "analyses":
    /// Submit a call
    ///
    /// The gateway sends each call to AloVoice once, and answers when the submission is on disk. A `callback`, a webhook or the
    /// event feed reports the outcome. You can also send GET to the URL in `Location`.
    ///
    /// If the analysis of the call is already finished, the answer is 200, and a new `callback` gets the event of the analysis
    /// at once. If the analysis is in progress, the gateway adds the `callback`. The `metadata` and the facts in `call` that
    /// you send replace the earlier values. With `reanalyze`, AloVoice analyzes the call again if its analysis is finished: see
    /// `reanalysis` and `last_reanalysis`.
    post "/v1/analyses" => analyses::submit_analysis, Token(AnalysesWrite), once OneCall;
    {
        params(Prefer),
        request_body = SubmitAnalysis,
        responses(
            (status = 202, description = "The call is accepted and the analysis is in progress.", body = AnalysisResource,
                headers(("Location" = String, description = "Link to the analysis."),
                        ("Retry-After" = u64, description = "Seconds to wait before the next poll."))),
            (status = 200, description = "The analysis is finished.", body = AnalysisResource,
                headers(("Location" = String, description = "Link to the analysis."))),
        )
    }

    /// Submit a batch of calls
    ///
    /// Submits up to 1,000 calls with one request. Each call is accepted or refused independently of the others, in the
    /// order of the request. The answer is 200 if the batch itself is valid, so check the `status` of each result. The
    /// gateway stores all accepted calls on disk before it answers. If this fails, it stores none and answers 503.
    ///
    /// A batch counts as one request for the rate limit. The size of the body is limited (4 MiB by default).
    post "/v1/analyses/batch" => batch::submit_analyses, Token(AnalysesWrite), once AnyCall;
    {
        request_body = SubmitAnalyses,
        responses((status = 200, description = "One result for each submitted call.", body = BatchResults))
    }

    /// List and search analyses
    ///
    /// Returns summaries, newest first. An analysis must match all filters. Summaries omit the transcript and the places where
    /// tags matched. `get_analysis` returns both.
    ///
    /// Pages are stable: concurrent writes cause no duplicates or gaps. An analysis that is submitted later is newer than the
    /// first page, so it is not on the other pages. Use a cursor only with the filters of the first page; `limit` may change.
    ///
    /// A page of a search examines a bounded number of calls. Such a page can have fewer calls than `limit`, even none, and
    /// still have a `next_cursor`. In this case, `searched_back_to` is the time that the search has reached. The list ends when
    /// `next_cursor` is `null`.
    get "/v1/analyses" => listing::list_analyses, Token(AnalysesRead);
    {
        params(ListQuery),
        responses((status = 200, description = "One page of analyses.", body = AnalysisList))
    }

    /// Get the analysis of a call
    ///
    /// While the analysis is unfinished, `Retry-After` says when to poll again. With `Prefer: wait=N` the gateway
    /// waits up to N seconds (at most 60) for the outcome before it answers. It also waits for the outcome of a new
    /// analysis (`reanalyze`). With `Accept-Encoding: gzip` a finished analysis is usually compressed.
    ///
    /// If the call was never submitted to the gateway, the gateway asks AloVoice for a result. If AloVoice has one, the
    /// gateway stores and returns it, and you need not submit the call.
    get "/v1/analyses/{call_id}" => analyses::get_analysis, Token(AnalysesRead);
    {
        params(Prefer, IfNoneMatch),
        responses(
            (status = 200, description = "The current state of the analysis.", body = AnalysisResource,
                headers(("ETag" = String, description = "Version of the analysis, for `If-None-Match`."),
                        ("Retry-After" = u64,
                            description = "Seconds to wait before the next poll. Only while the analysis is unfinished."))),
            (status = 304, description = "The version in `If-None-Match` is current."),
        )
    }

    /// Refresh the analysis of a call
    ///
    /// Asks AloVoice once more for the result of a call whose analysis is finished, for example after you changed the quality
    /// rules at AloVoice. The call is not submitted again. If the result changed, the analysis gets a new `revision` and an
    /// `analysis.updated` event. If the analysis had failed and AloVoice has a result now, the analysis becomes completed, with
    /// an `analysis.completed` event. Otherwise nothing changes and there is no event. If AloVoice cannot be reached, the gateway
    /// tries three times and `last_error` has the reason.
    ///
    /// While an analysis or a refresh is in progress, the gateway already polls AloVoice, and the request changes nothing.
    /// Two refreshes of a call are at least `vendor.polling.min_interval` apart: if you request one earlier, it is delayed. A
    /// tenant has at most 100 refreshes in progress; the answer to further requests is 429.
    ///
    /// With `Prefer: wait=N` the gateway waits up to N seconds (at most 60) for the end of the refresh. It answers 200 if the
    /// refresh has ended, otherwise 202.
    post "/v1/analyses/{call_id}/refresh" => analyses::refresh_analysis, Token(AnalysesWrite), once OneCall;
    {
        params(Prefer),
        responses(
            (status = 202, description = "The refresh is planned.", body = AnalysisResource,
                headers(("Location" = String, description = "Link to the analysis."),
                        ("Retry-After" = u64, description = "Seconds to wait before the next poll."))),
            (status = 200, description = "The refresh has ended. Only with `Prefer: wait`.", body = AnalysisResource,
                headers(("Location" = String, description = "Link to the analysis."))),
        )
    }

    /// Delete the analysis of a call
    ///
    /// Deletes all data of the call, whether its analysis is finished or not: the analysis, the transcript, the answer
    /// of AloVoice, the events, and all deliveries with their attempts. A delivery that is in progress may still arrive.
    /// The gateway keeps a record of the deletion (call, time, subject of the token) without any content.
    ///
    /// The call stays deleted: `get_analysis` answers 404 and the gateway no longer asks AloVoice for it. If you
    /// submit the call again, it is sent to AloVoice again. The copy at AloVoice is not deleted.
    delete "/v1/analyses/{call_id}" => deletion::delete_analysis, Token(AnalysesWrite);
    {
        responses((status = 204, description = "The analysis is deleted."))
    }

    /// Get the transcript of a call
    ///
    /// Returns the turns in order of time, without the rest of the analysis. Choose the format with the parameter `format`
    /// or with `Accept`: JSON, plain text, Markdown, or subtitles as WebVTT or SubRip. All formats except JSON omit
    /// turns without words and put each turn on one line. Subtitles show a turn without duration for one second.
    get "/v1/analyses/{call_id}/transcript" => transcripts::get_transcript, Token(AnalysesRead);
    {
        params(TranscriptQuery, IfNoneMatch),
        responses(
            (status = 200, description = "The transcript in the chosen format.", content(
                (TranscriptAnswer = "application/json"),
                (String = "text/plain", example = "[0:00:01] Operator: assalomu alaykum\n"),
                (String = "text/markdown", example = "# Call 1716207617.42\n\n- Begin: 2024-05-20T12:20:17Z\n- Duration: 0:00:51\n- Operator: 0:00:30 of talk, 64 %\n- Client: 0:00:17 of talk, 36 %\n\n## Transcript\n\n0:00:01 **Operator:** assalomu alaykum\n"),
                (String = "text/vtt", example = "WEBVTT\n\n00:00:01.120 --> 00:00:06.440\n<v Operator>assalomu alaykum</v>\n"),
                (String = "application/x-subrip", example = "1\n00:00:01,120 --> 00:00:06,440\nOperator: assalomu alaykum\n\n"),
            ), headers(
                ("ETag" = String, description = "Version of the transcript in this format, for `If-None-Match`."),
                ("Content-Disposition" = String, description = "Suggested file name."),
            )),
            (status = 304, description = "The version in `If-None-Match` is current."),
            NotAcceptable, NoResult,
        )
    }

    /// List the presets of renderings
    ///
    /// A preset makes the request body that a CRM, help desk or messenger expects. For each preset, the list has the values
    /// that it needs, its limits and a link to the documentation of the receiver. Use a preset in the `transform` of a webhook
    /// or callback, or read its rendering of a call.
    get "/v1/renderings" => renderings::list_renderings, Token(AnalysesRead);
    {
        responses((status = 200, description = "The list of all presets.", body = PresetList))
    }

    /// Get the rendering of a call for a CRM
    ///
    /// Returns the request body that a webhook with this preset sends for the call. If the call lacks values that the preset
    /// needs, the answer is 422 and `errors` names each missing value.
    get "/v1/analyses/{call_id}/renderings/{preset}" => renderings::get_rendering, Token(AnalysesRead);
    {
        params(IfNoneMatch),
        responses(
            (status = 200, description = "The rendering of the call.", content(
                (Value = "application/json", example = json!({"text": "*Call:* 1716207617.42\n*Duration:* 0:00:02\n\n*0:00:01 Operator:* assalomu alaykum"})),
                (String = "text/markdown", example = "**Call:** 1716207617.42  \n**Duration:** 0:00:02\n"),
                (String = "text/html", example = "<p><b>Call:</b> 1716207617.42<br>\n<b>Duration:</b> 0:00:02</p>\n"),
            ), headers(
                ("ETag" = String, description = "Version of the rendering, for `If-None-Match`."),
                ("Content-Disposition" = String, description = "Suggested file name."),
            )),
            (status = 304, description = "The version in `If-None-Match` is current."),
            NoResult,
        )
    }

    /// Get the original answer of AloVoice
    ///
    /// Returns the JSON that AloVoice sent for this call, byte for byte, including fields that this API does not know.
    /// AloVoice may change this format without notice. If the answer is not valid JSON, the type is
    /// `application/octet-stream`, and the `warnings` of the analysis name the errors.
    get "/v1/analyses/{call_id}/vendor-answer" => vendor_answers::get_vendor_answer, Token(AnalysesRead);
    {
        params(IfNoneMatch),
        responses(
            (status = 200, description = "The answer of AloVoice.", content(
                (HashMap<String, Value> = "application/json"),
                (String = "application/octet-stream"),
            ), headers(("ETag" = String, description = "Version of the answer, for `If-None-Match`."))),
            (status = 304, description = "The version in `If-None-Match` is current."),
            NoResult,
        )
    }
}
