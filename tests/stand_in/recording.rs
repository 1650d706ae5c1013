//! The recording is real audio and supports ranges.

use std::io::Cursor;

use crate::play::Play;

impl Play {
    async fn stereo(&self, range: Option<&str>) -> reqwest::Response {
        let request = self.client.get(self.vendor.base_url().join("stereo/known-1").unwrap());
        let request = match range {
            Some(range) => request.header("range", range),
            None => request,
        };
        request.send().await.unwrap()
    }
}

#[tokio::test]
async fn each_party_is_on_its_own_channel_while_it_speaks() {
    let play = Play::start().await;
    let response = play.stereo(None).await;
    assert_eq!(response.headers()["content-type"], "audio/wav");
    let bytes = response.bytes().await.unwrap();
    assert!(bytes.len() < 4 << 20);
    let mut wav = hound::WavReader::new(Cursor::new(bytes)).unwrap();
    let spec = wav.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 8_000, 16));

    let answer = play.finished("1").await;
    let turns = answer["stalk"].as_array().unwrap();
    let millis = |turn: &serde_json::Value, name: &str| turn[name].as_u64().unwrap();
    let last_end = turns.iter().map(|turn| millis(turn, "end")).max().unwrap();
    let duration_ms = u64::from(wav.duration()) * 1_000 / 8_000;
    assert_eq!(duration_ms, last_end + 800);

    let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
    for (channel, side) in [(0, "operator"), (1, "client")] {
        let speaks = |ms: u64| {
            turns.iter().any(|turn| {
                turn["direction"] == side && (millis(turn, "begin")..millis(turn, "end")).contains(&ms)
            })
        };
        let is_silent = |ms: u64| {
            let first = usize::try_from(ms * 8).unwrap();
            (first..first + 8).all(|frame| samples[frame * 2 + channel] == 0)
        };
        assert!((0..duration_ms).all(|ms| speaks(ms) || is_silent(ms)), "{side}");
        for turn in turns.iter().filter(|turn| turn["direction"] == side) {
            let loud = (millis(turn, "begin")..millis(turn, "end")).filter(|ms| !is_silent(*ms)).count();
            assert!(loud as u64 * 10 > (millis(turn, "end") - millis(turn, "begin")) * 9, "{side}");
        }
    }
}

#[tokio::test]
async fn ranges_are_parts_of_the_recording() {
    let play = Play::start().await;
    let whole = play.stereo(None).await.bytes().await.unwrap();
    let length = whole.len();
    for (range, expected) in [
        ("bytes=0-0".to_owned(), 0..1),
        ("bytes=10-60".to_owned(), 10..61),
        ("bytes=43-44".to_owned(), 43..45),
        ("bytes=16383-49153".to_owned(), 16_383..49_154),
        ("bytes=-7".to_owned(), length - 7..length),
        (format!("bytes={}-", length - 33_333), length - 33_333..length),
    ] {
        let response = play.stereo(Some(&range)).await;
        assert_eq!(response.status(), 206);
        let content_range = format!("bytes {}-{}/{length}", expected.start, expected.end - 1);
        assert_eq!(response.headers()["content-range"], content_range);
        assert!(response.bytes().await.unwrap() == whole[expected], "{range}");
    }
    let beyond = play.stereo(Some(&format!("bytes={length}-"))).await;
    assert_eq!(beyond.status(), 416);
    assert_eq!(beyond.headers()["content-range"], format!("bytes */{length}"));
    assert_eq!(play.vendor.calls()[1].range.as_deref(), Some("bytes=0-0"));
}

#[tokio::test]
async fn the_recording_has_a_size_and_supports_revalidation() {
    let play = Play::start().await;
    let url = play.vendor.base_url().join("stereo/known-1").unwrap();
    let head = play.client.head(url.clone()).send().await.unwrap();
    let length: usize = head.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(length, play.stereo(None).await.bytes().await.unwrap().len());
    assert_eq!(head.headers()["accept-ranges"], "bytes");
    let etag = &head.headers()["etag"];
    let conditional = play.client.get(url.clone()).header("if-none-match", etag);
    assert_eq!(conditional.send().await.unwrap().status(), 304);
    let changed = play.client.get(url).header("range", "bytes=0-0").header("if-range", "\"other\"");
    assert_eq!(changed.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn recordings_show_the_fault_in_the_call_id() {
    let play = Play::start().await;
    for (call_id, status) in [("audio-404~1", 404), ("audio-500~1", 500), ("audio-redirect~1", 302)] {
        let url = play.vendor.base_url().join(&format!("stereo/{call_id}")).unwrap();
        assert_eq!(play.client.get(url).send().await.unwrap().status(), status);
    }
    let url = play.vendor.base_url().join("stereo/audio-truncated~1").unwrap();
    let response = play.client.get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_stalled_reader() {
    let play = Play::start().await;
    let unread = play.stereo(None).await;
    play.vendor.stop().await;
    drop(unread);
}
