"""The calls that a conversation has made before a turn, as far as they worked."""

import json
from collections.abc import Sequence

from hatrain.data.rows import Message
from hatrain.home.calls.answer import read_message
from hatrain.home.calls.compare import Call


def calls_before(history: Sequence[Message]) -> tuple[Call, ...]:
    """Return the calls of all assistant turns, without those whose tool result reports an error."""
    made: list[Call] = []
    for turn, message in enumerate(history):
        if message.role != "assistant":
            continue
        calls = read_message(message.content, message.tool_calls).calls
        results = []
        for later in history[turn + 1 :]:
            if later.role != "tool":
                break
            results.append(later.content)
        failed = [_is_error(result) for result in results]
        made += [call for number, call in enumerate(calls) if not (number < len(failed) and failed[number])]
    return tuple(made)


def _is_error(result: str) -> bool:
    try:
        parsed = json.loads(result)
    except ValueError:
        return False
    return isinstance(parsed, dict) and (bool(parsed.get("error")) or parsed.get("success") is False)
