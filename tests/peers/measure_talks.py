"""Computes talk metrics. Input: [[[begin in s, end in s, speaker, text], …], …] as JSON. Output: the metrics of each talk as JSON."""

import json
import sys

from call_ai_metrics import analyze

SIDES = ["operator", "client"]


def numbers(segments):
    report = analyze(segments, speakers=SIDES)
    span = report.speech_end_s - report.speech_start_s
    sides = {
        side: {
            "talk_ms": report[side].talk_time_s * 1000,
            "talk_share": report[side].talk_share,
            "words_per_minute": report[side].words_per_minute,
            "longest_monologue_ms": report[side].longest_monologue_s * 1000,
            "interruptions": report[side].interruptions,
            "response_ms": None if report[side].response_latency_s is None else report[side].response_latency_s * 1000,
        }
        for side in SIDES
    }
    return sides | {
        "begin_ms": report.speech_start_s * 1000,
        "end_ms": report.speech_end_s * 1000,
        "overtalk_ms": report.overlap_share * span * 1000,
        "silence_ms": report.silence_share * span * 1000,
        "longest_silence_ms": report.longest_silence_s * 1000,
    }


print(json.dumps([numbers(segments) for segments in json.load(sys.stdin)]))
