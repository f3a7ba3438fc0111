"""A model's chat template as a template of Ollama, which reads Go templates and not Jinja: the text between the parts
of conversations is measured by rendering them, and written down as a Go template that puts out the same."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from hatrain.data.replies import ReplyFinder
from hatrain.data.rows import Message
from hatrain.data.template import ChatTemplate, TemplateRefusal, Tools, split_at

_SYSTEM, _USER, _REPLY, _NEXT, _RESULT, _RESULT_TWO = (
    "hatrainsystem",
    "hatrainuserone",
    "hatrainreplyone",
    "hatrainusertwo",
    "hatrainresultone",
    "hatrainresulttwo",
)


def _tool(number: str) -> dict[str, object]:
    properties = {f"hatrain_key_{number}": {"type": "string"}}
    return {
        "type": "function",
        "function": {
            "name": f"hatrain_tool_{number}",
            "description": f"hatraindescription{number}",
            "parameters": {"type": "object", "properties": properties},
        },
    }


def _call(number: str) -> dict[str, object]:
    function = {"name": f"hatrain_tool_{number}", "arguments": {f"hatrain_key_{number}": "hatrainvalue"}}
    return {"type": "function", "id": f"hatrain00{number}", "function": function}


_TOOLS: Tools = (_tool("1"), _tool("2"))


@dataclass(frozen=True)
class _ToolText:
    """What a template writes for tools, their calls and results."""

    before: str
    """Between the system's text and the first tool."""
    item: str
    """The Go expression of one tool."""
    between: str
    after: str
    """Between the last tool and the user's text."""
    lead: str
    """Between the reply's header and its first call."""
    opening: str
    middle: str
    closing: str
    glue: str
    """Between two calls."""
    to_result: str
    """Between the last call and its result."""
    result_to_result: str
    result_to_reply: str
    result_to_user: str
    result_prompt: str


def go_template(finder: ReplyFinder, bos: str | None) -> tuple[str, bool]:
    """Return the Go template, and whether it writes tools. Without `bos` at its start: Ollama puts it there itself.

    Raises TemplateRefusal when the chat template renders no plain conversation in which the turns can be told apart.
    """
    template = finder.template
    user, reply, question = Message("user", _USER), Message("assistant", _REPLY), Message("user", _NEXT)
    pieces = split_at(template.render([user, reply, question], prompt=True), (_USER, _REPLY, _NEXT))
    if pieces is None:
        raise TemplateRefusal("it leaves out or repeats a turn")
    lead_user, to_reply, to_user, prompt = pieces
    lead_system, system_to_user = _system(template, lead_user)
    tools = _tools(template, lead_system, to_reply)
    reads_tools = f"{{{{ if $.Tools }}}}{_offer(tools)}{{{{ end }}}}" if tools else ""
    after_system = _text(system_to_user)
    if tools:
        after_system = f"{{{{ if $.Tools }}}}{_text(tools.after)}{{{{ else }}}}{after_system}{{{{ end }}}}"
    parts = [
        '{{ $last := "" }}{{ range .Messages }}',
        f'{{{{ if eq .Role "system" }}}}{_text(_without(bos, lead_system))}{{{{ .Content }}}}{reads_tools}',
        '{{ else if eq .Role "user" }}',
        f'{{{{ if eq $last "" }}}}{_text(_without(bos, lead_user))}',
        f'{{{{ else if eq $last "system" }}}}{after_system}',
        f'{{{{ else if eq $last "tool" }}}}{_text(tools.result_to_user)}' if tools else "",
        f"{{{{ else }}}}{_text(to_user)}{{{{ end }}}}{{{{ .Content }}}}",
        '{{ else if eq .Role "assistant" }}',
        f'{{{{ if eq $last "tool" }}}}{_text(tools.result_to_reply)}{{{{ else }}}}{_text(to_reply)}{{{{ end }}}}'
        if tools
        else _text(to_reply),
        f"{{{{ .Content }}}}{_calls(tools) if tools else ''}",
        f'{{{{ else if eq .Role "tool" }}}}{_results(tools)}{{{{ .Content }}}}' if tools else "",
        "{{ end }}{{ $last = .Role }}{{ end }}",
        f'{{{{ if eq $last "tool" }}}}{_text(tools.result_prompt)}{{{{ else }}}}{_text(prompt)}{{{{ end }}}}'
        if tools
        else _text(prompt),
    ]
    return "".join(parts), tools is not None


def _system(template: ChatTemplate, lead_user: str) -> tuple[str, str]:
    """Return what comes before the system's text, and between it and the user's. A template without the role gets the
    text at the start of the user's turn, as the data is made for it."""
    try:
        text = template.render([Message("system", _SYSTEM), Message("user", _USER)], prompt=True)
    except TemplateRefusal:
        return lead_user, "\n"
    pieces = split_at(text, (_SYSTEM, _USER))
    return (pieces[0], pieces[1]) if pieces else (lead_user, "\n")


def _tools(template: ChatTemplate, lead_system: str, to_reply: str) -> _ToolText | None:
    """Measure what the template writes for tools; None where it does not write them, or in another place than after the
    system's text."""
    system, user, reply = Message("system", _SYSTEM), Message("user", _USER), Message("assistant", _REPLY)
    calls = Message("assistant", "", tool_calls=(_call("1"), _call("2")))
    results = [
        Message("tool", text, extra={"name": f"hatrain_tool_{number}", "tool_call_id": f"hatrain00{number}"})
        for number, text in (("1", _RESULT), ("2", _RESULT_TWO))
    ]
    try:
        asked = template.render([system, user, calls, *results], _TOOLS, prompt=True)
        whole = template.render([system, user, calls, *results, reply, Message("user", _NEXT)], _TOOLS)
        followed = template.render([system, user, calls, *results, Message("user", _NEXT)], _TOOLS)
    except TemplateRefusal:
        return None
    for item, shown in (("json $tool", lambda tool: tool), ("json $tool.Function", lambda tool: tool["function"])):
        for indent in (None, 4):
            texts = [json.dumps(shown(tool), ensure_ascii=False, indent=indent) for tool in _TOOLS]
            offered = split_at(whole, (_SYSTEM, *texts, _USER))
            if offered and offered[0] == lead_system:
                return _measure(asked, whole, followed, offered, item, to_reply)
    return None


def _measure(
    asked: str, whole: str, followed: str, offered: Sequence[str], item: str, to_reply: str
) -> _ToolText | None:
    """Cut the text after the user's turn at the calls' names and arguments and at the results."""
    arguments = [json.dumps({f"hatrain_key_{number}": "hatrainvalue"}) for number in "12"]
    marks = ("hatrain_tool_1", arguments[0], "hatrain_tool_2", arguments[1], _RESULT, _RESULT_TWO)
    start = len(_USER)
    cut = split_at(whole[whole.index(_USER) + start :], (*marks, _REPLY, _NEXT))
    prompted = split_at(asked[asked.index(_USER) + start :], marks)
    next_turn = split_at(followed[followed.index(_USER) + start :], (*marks, _NEXT))
    if cut is None or prompted is None or not cut[0].startswith(to_reply):
        return None
    before, middle, between, _, to_result, result_to_result, result_to_reply = cut[:7]
    opening = _shared_start(before[len(to_reply) :][::-1], between[::-1])[::-1]
    rest = between[: len(between) - len(opening)]
    closing = _shared_start(rest, to_result)
    return _ToolText(
        before=offered[1],
        item=item,
        between=offered[2],
        after=offered[3],
        lead=before[len(to_reply) : len(before) - len(opening)],
        opening=opening,
        middle=middle,
        closing=closing,
        glue=rest[len(closing) :],
        to_result=to_result[len(closing) :],
        result_to_result=result_to_result,
        result_to_reply=result_to_reply,
        result_to_user=next_turn[6] if next_turn else result_to_reply,
        result_prompt=prompted[6],
    )


def _offer(tools: _ToolText) -> str:
    between = f"{{{{ if $index }}}}{_text(tools.between)}{{{{ end }}}}"
    return f"{_text(tools.before)}{{{{ range $index, $tool := $.Tools }}}}{between}{{{{ {tools.item} }}}}{{{{ end }}}}"


def _calls(tools: _ToolText) -> str:
    """Write the calls of a reply. Ollama looks for the first plain text in it, and takes what follows such a text in an
    answer for a call."""
    glue = f"{{{{ if $index }}}}{_quoted(tools.glue)}{{{{ end }}}}" if tools.glue else ""
    return (
        f"{{{{ if .ToolCalls }}}}{_quoted(tools.lead) if tools.lead else ''}"
        f"{{{{ range $index, $call := .ToolCalls }}}}{glue}{_text(tools.opening)}{{{{ $call.Function.Name }}}}"
        f"{_text(tools.middle)}{{{{ json $call.Function.Arguments }}}}{_text(tools.closing)}{{{{ end }}}}{{{{ end }}}}"
    )


def _results(tools: _ToolText) -> str:
    again = _text(tools.result_to_result)
    return f'{{{{ if eq $last "tool" }}}}{again}{{{{ else }}}}{_text(tools.to_result)}{{{{ end }}}}'


def _shared_start(one: str, other: str) -> str:
    unequal = (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[: next(unequal, min(len(one), len(other)))]


def _without(bos: str | None, text: str) -> str:
    return text.removeprefix(bos) if bos else text


def _text(text: str) -> str:
    """Return text as it stands in a Go template; quoted where it would be read as an action, or end the Modelfile's
    string."""
    return _quoted(text) if "{{" in text or text.endswith(("{", '"')) or '"""' in text else text


def _quoted(text: str) -> str:
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"
