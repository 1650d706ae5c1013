"""Parses subtitles with common libraries. Input: [[WebVTT, SubRip], …] as JSON. Output: the captions of each file as JSON."""

import json
import sys
from datetime import timedelta
from html import unescape

import srt
import webvtt


def of_webvtt(text):
    captions = webvtt.from_string(text, strict=True)
    assert not captions.styles and not captions.regions and not captions.header_comments
    for caption in captions:
        assert len(caption.lines) == 1, caption.lines
        yield {
            "begin_ms": milliseconds(caption.start_time),
            "end_ms": milliseconds(caption.end_time),
            "speaker": caption.voice and unescape(caption.voice),
            # `text` has no tags, and its character references are not decoded.
            "text": unescape(caption.text),
        }


def milliseconds(time):
    return ((time.hours * 60 + time.minutes) * 60 + time.seconds) * 1000 + time.milliseconds


def of_subrip(text):
    subtitles = list(srt.parse(text))
    assert [subtitle.index for subtitle in subtitles] == list(range(1, len(subtitles) + 1))
    # Writing the parsed file gives the same text.
    assert srt.compose(subtitles, reindex=False) == text
    millisecond = timedelta(milliseconds=1)
    for subtitle in subtitles:
        assert not subtitle.proprietary
        yield {"begin_ms": subtitle.start // millisecond, "end_ms": subtitle.end // millisecond, "line": subtitle.content}


pairs = json.load(sys.stdin)
print(json.dumps([[list(of_webvtt(vtt)), list(of_subrip(subrip))] for vtt, subrip in pairs]))
