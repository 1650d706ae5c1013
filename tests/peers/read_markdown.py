"""Parses Markdown with a common library. Input: a list of pages as JSON. Output: the blocks of each page as JSON.

A block is its kind and the pieces of its text, each with its markup.
"""

import json
import sys

from markdown_it import MarkdownIt

reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def blocks(page):
    tokens = reader.parse(page)
    for opening, token in zip(tokens, tokens[1:]):
        if token.type == "inline":
            yield [opening.tag, list(pieces(token.children))]
        else:
            # Any other token with text is unintended markup.
            assert not token.content, token


def pieces(tokens):
    marks = []
    for token in tokens:
        if token.nesting == 1:
            marks.append(token.tag)
        elif token.nesting == -1:
            marks.pop()
        else:
            assert token.type == "text", token
            if token.content:
                yield [" ".join(marks), token.content]


print(json.dumps([list(blocks(page)) for page in json.load(sys.stdin)]))
