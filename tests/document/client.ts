// The main job by a client whose types openapi-typescript made: submit a call, wait for its analysis, read who said what.
//
//   node client.js BASE_URL TOKEN CALL_ID
import createClient from "openapi-fetch";
import type { components, paths } from "./api";

type Turn = components["schemas"]["Turn"];

const [baseUrl, token, callId] = process.argv.slice(2) as [string, string, string];
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
const path = { call_id: callId };

const submitted = await client.POST("/v1/analyses", { body: { call_id: callId, metadata: { ticket: "T-1" } } });
if (submitted.error) throw new Error(submitted.error.detail);

const got = await client.GET("/v1/analyses/{call_id}", { params: { path, header: { Prefer: "wait=60" } } });
if (got.error) throw new Error(got.error.detail);
const { status, metadata, talk_metrics } = got.data;

const read = await client.GET("/v1/analyses/{call_id}/transcript", { params: { path } });
if (read.error) throw new Error(read.error.detail);
if (typeof read.data === "string") throw new Error("a transcript in another form than JSON");
const turns = read.data.transcript.map((turn: Turn): [string, string] => [turn.speaker, turn.text]);

const unknown = await client.GET("/v1/analyses/{call_id}", { params: { path: { call_id: "submit-404~typescript" } } });

console.log(
  JSON.stringify({
    submitted: [submitted.response.status, submitted.data.status],
    status,
    metadata,
    talk_ms: talk_metrics?.operator.talk_ms,
    turns,
    refused: unknown.error?.code,
  }),
);
