//! Audio links of a real process: a browser plays them, streaming needs little memory, and no log contains them.

use alovoice_gateway::sandbox::receiver::{Receiver, ReceiverOptions};
use serde_json::{Value, json};
use url::Url;

use crate::gateway::{Serving, within};
use crate::peers::{browser, run, text};
use crate::stage::{Stage, send};

/// Bytes per second in the recordings of the vendor stand-in.
const SECOND: f64 = 32_000.0;
const LONG: &str = "known-audio-long~1";

impl Stage {
    /// Prepares a gateway that waits for minutes for each part of a recording, so that a busy machine interrupts no stream.
    async fn for_long_recordings() -> Self {
        let mut stage = Self::set_up().await;
        stage.set("VENDOR__REQUEST_TIMEOUT", "2m");
        stage
    }

    /// Creates an audio link to the recording of a call.
    async fn audio_link(&self, gateway: &Serving, call_id: &str) -> Url {
        let url = gateway.api.join(&format!("v1/analyses/{call_id}/audio-link")).unwrap();
        let answer = send(self.client.post(url).bearer_auth(self.token("audio:read"))).await.unwrap();
        assert_eq!(answer.status(), 201);
        let link: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        gateway.api.join(link["url"].as_str().unwrap()).unwrap()
    }
}

#[tokio::test]
async fn a_browser_plays_a_link_and_seeks_in_it() {
    let stage = Stage::for_long_recordings().await;
    let gateway = stage.serve().await;
    let url = stage.audio_link(&gateway, LONG).await;
    let mut player = browser("audio_player.cjs");
    player.arg(url.as_str()).env("HOME", stage.home.path());
    let output = run(player, "").await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let played: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| played[name].as_f64().unwrap();
    assert!((number("duration") - 1_200.0).abs() < 0.1, "{played}");
    assert!(number("bufferedBefore") < number("target"), "the target was already buffered: {played}");
    assert!(
        number("currentTime") > number("target") && number("currentTime") < number("target") + 60.0,
        "{played}"
    );
    // HAVE_CURRENT_DATA or better.
    assert!(number("readyState") >= 2.0, "{played}");

    let answers = played["answers"].as_array().unwrap();
    assert!(answers.iter().all(|answer| answer["status"] == 206), "{played}");
    let begin = |answer: &Value| -> f64 {
        let range = answer["range"].as_str().unwrap().strip_prefix("bytes=").unwrap();
        range.split('-').next().unwrap().parse().unwrap()
    };
    assert!(answers.iter().any(|answer| begin(answer) == 0.0), "{played}");
    // The seek requests a range near the target, not the whole file up to it.
    let target_byte = number("target") * SECOND;
    assert!(answers.iter().any(|answer| (begin(answer) - target_byte).abs() < 30.0 * SECOND), "{played}");
    for answer in answers {
        assert_eq!((&answer["cookie"], &answer["authorization"]), (&json!(null), &json!(null)), "{played}");
    }
    gateway.stop().await;
}

/// Memory is read from /proc.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_long_recording_is_streamed_and_not_buffered() {
    let peak = |gateway: &Serving| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    let stage = Stage::for_long_recordings().await;
    let gateway = stage.serve().await;
    let short = stage.audio_link(&gateway, "known-1").await;
    let short = stage.client.get(short).send().await.unwrap().bytes().await.unwrap();
    let before = peak(&gateway);

    let url = stage.audio_link(&gateway, LONG).await;
    let mut answer = stage.client.get(url).send().await.unwrap();
    let length = answer.content_length().unwrap();
    let mut received = 0;
    while let Some(piece) = within("a chunk of the recording", answer.chunk()).await.unwrap() {
        received += piece.len() as u64;
    }
    assert_eq!((received, length), (38_400_044, 38_400_044));
    let grown = peak(&gateway).saturating_sub(before);
    assert!(
        grown < length / 4,
        "memory grew by {grown} bytes more than with a recording of {} bytes",
        short.len()
    );
    gateway.stop().await;
}

#[tokio::test]
async fn no_log_or_trace_contains_an_audio_link() {
    for format in ["json", "human"] {
        let mut stage = Stage::set_up().await;
        let collector = Receiver::start(ReceiverOptions::default()).await.unwrap();
        stage.set("TRACES__OTLP_ENDPOINT", collector.hook("ok").as_str());
        stage.set("LOG__FILTER", "trace");
        stage.set("LOG__FORMAT", format);
        let gateway = stage.serve().await;
        let url = stage.audio_link(&gateway, "known-audio-500~1").await;
        let token = url.path().strip_prefix("/v1/audio/").unwrap().to_owned();
        let encoded = format!("v1/%61udio/{token}");
        for (path, status) in [
            (url.path(), 503),
            (&format!("{}/", url.path()), 404),
            (&format!("{}/more", url.path()), 404),
            (&format!("{}?x", url.path()), 422),
            (&encoded, 503),
            (&format!("//v1/audio/{token}"), 404),
            (&format!("/V1/AUDIO/{token}"), 404),
        ] {
            let api = gateway.api.as_str().trim_end_matches('/');
            let url = format!("{api}/{}", path.strip_prefix('/').unwrap_or(path));
            let answer = stage.client.get(url).send().await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
        }
        let metrics = stage.metrics(&gateway).await;
        assert!(metrics.contains("route=\"/v1/audio/{link}\",status=\"503\""), "{metrics}");
        gateway.process.terminate();
        let log = gateway.process.stderr.whole().await;
        assert!(
            log.contains("TRACE") && log.contains("/v1/audio/…"),
            "the log filter must record everything"
        );
        let bodies = collector.received().into_iter().map(|request| request.body);
        let spans = bodies.map(|body| String::from_utf8_lossy(&body).into_owned()).collect::<String>();
        assert!(spans.contains("/v1/audio/…") && spans.contains("/v1/audio/{link}"), "{spans}");
        for text in [&log, &metrics, &spans] {
            assert!(!text.contains(&token), "a log, metric or trace contains the link ({format})");
        }
    }
}
