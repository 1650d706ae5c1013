"""Converts Uzbek words. Input: words in the Latin alphabet of 1995 as JSON. Output: each word in the alphabet of 2026 and in Cyrillic."""

import json
import sys

from alifbo import to_cyrillic, to_new_latin


def convert(word):
    new = to_new_latin(word, protect_spans=False).text
    return [new, to_cyrillic(new, protect_spans=False, foreign_words="transliterate").text]


print(json.dumps([convert(word) for word in json.load(sys.stdin)]))
