"""Reads the calls that FunctionGemma's chat template writes: `call:NAME{key:<escape>text<escape>,other:21.5}`."""

import re
from typing import Any

from hatrain.home.calls.compare import Call

_HEAD = re.compile(r"\s*call:([\w.]+)\{")
_KEY = re.compile(r"\s*([\w-]+)\s*:\s*")
_TEXT = re.compile(r"<escape>(.*?)<escape>", re.DOTALL)
_PLAIN = re.compile(r"[^,{}\[\]<>]+")
_MOST_NESTED = 20


class _Malformed(Exception):
    pass


def gemma_calls(text: str) -> tuple[list[Call], list[str]]:
    """Return the call of a block, or the block as a bad line."""
    head = _HEAD.match(text)
    try:
        if head is None:
            raise _Malformed
        arguments, end = _mapping(text, head.end(), 0)
    except _Malformed:
        return [], [text.strip()]
    return ([Call(head[1], arguments)], []) if not text[end:].strip() else ([], [text.strip()])


def _mapping(text: str, position: int, depth: int) -> tuple[dict[str, Any], int]:
    """Read `key:value,…}` from a position; return it and the position after the brace."""
    found: dict[str, Any] = {}
    while not (rest := text[position:].lstrip()).startswith("}"):
        key = _KEY.match(text, position)
        if key is None:
            raise _Malformed
        found[key[1]], position = _value(text, key.end(), depth + 1)
        position = _after_comma(text, position, "}")
    return found, len(text) - len(rest) + 1


def _list(text: str, position: int, depth: int) -> tuple[list[Any], int]:
    found = []
    while not (rest := text[position:].lstrip()).startswith("]"):
        value, position = _value(text, position, depth + 1)
        found.append(value)
        position = _after_comma(text, position, "]")
    return found, len(text) - len(rest) + 1


def _value(text: str, position: int, depth: int) -> tuple[Any, int]:
    if depth > _MOST_NESTED:
        raise _Malformed
    if escaped := _TEXT.match(text, position):
        return escaped[1], escaped.end()
    if text.startswith("{", position):
        return _mapping(text, position + 1, depth)
    if text.startswith("[", position):
        return _list(text, position + 1, depth)
    plain = _PLAIN.match(text, position)
    if plain is None:
        raise _Malformed
    word = plain[0].strip()
    if word in ("true", "false"):
        return word == "true", plain.end()
    try:
        return (float(word) if "." in word else int(word)), plain.end()
    except ValueError:
        return word, plain.end()


def _after_comma(text: str, position: int, end: str) -> int:
    rest = text[position:].lstrip()
    if rest.startswith(","):
        return len(text) - len(rest) + 1
    if rest.startswith(end):
        return position
    raise _Malformed
