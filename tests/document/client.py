"""The main job by a client that openapi-generator made: submit a call, wait for its analysis, read who said what.

    python client.py FOLDER_OF_THE_CLIENT BASE_URL TOKEN CALL_ID
"""

import json
import sys

folder, base_url, token, call_id = sys.argv[1:]
sys.path.insert(0, folder)

import alovoice  # noqa: E402

configuration = alovoice.Configuration(host=base_url, access_token=token)
with alovoice.ApiClient(configuration) as client:
    analyses = alovoice.AnalysesApi(client)
    submission = alovoice.SubmitAnalysis(call_id=call_id, metadata={"ticket": "T-1"})
    submitted = analyses.submit_analysis_with_http_info(submission)
    analysis = analyses.get_analysis(call_id, prefer="wait=60")
    transcript = analyses.get_transcript(call_id)
    try:
        analyses.get_analysis("submit-404~python")
        refused = None
    except alovoice.exceptions.NotFoundException as error:
        refused = json.loads(error.body)["code"]

told = {
    "submitted": [submitted.status_code, submitted.data.status],
    "status": analysis.status,
    "metadata": analysis.metadata,
    "talk_ms": analysis.talk_metrics.operator.talk_ms,
    "turns": [[turn.speaker, turn.text] for turn in transcript.transcript],
    "refused": refused,
}
print(json.dumps(told))
