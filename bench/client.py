"""Holds generated rows against the code of acon96/home-llm, and against the schemas of Home Assistant's Assist API.

python -m bench.client PATH_OF_CLONE [--rows N] [--language NAME …]

It needs, beside hatrain, `pip install voluptuous==0.16.0 voluptuous-openapi==0.4.1 webcolors==25.10.0`, and a clone of
https://github.com/acon96/home-llm. Home Assistant itself is stubbed (home_llm.py). Of the test set of each language it
prints for each client how many messages with calls are executed, how many prompts written with the integration's own
template equal the integration's, how many device lines without it, and how many histories have its shape. It exits
with 1 when less than 99.5 % are executed or anything differs.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

from bench.home_llm import Content, Hass, Integration, ToolInput, load
from hatrain.home.clients import CLIENTS
from hatrain.home.clients.home_llm import HomeLlm
from hatrain.home.generate.conversation import Conversation
from hatrain.home.generate.dataset import Recipe, RowSource
from hatrain.home.language.load import find_language, language_folders, load_language

LAYOUTS = {"home-llm": "DEFAULT_PROMPT_BASE", "home-llm-legacy": "DEFAULT_PROMPT_BASE_LEGACY"}
EXECUTED = 0.995
Json = Mapping[str, Any]


@dataclass
class Tally:
    """Counts of one client in one language, and the first few cases that failed."""

    right: int = 0
    of: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, right: bool, example: str) -> None:
        self.right, self.of = self.right + right, self.of + 1
        if not right and len(self.examples) < 3:
            self.examples.append(example)

    def __str__(self) -> str:
        return f"{self.right:,} of {self.of:,} ({self.right / self.of:.2%})" if self.of else "none"


def drawn(recipe: Recipe, rows: int) -> Iterator[tuple[Conversation, dict[str, Any]]]:
    source = RowSource(recipe, "test", load_language(find_language(recipe.languages[0])))
    for index in range(rows):
        yield from source.drawn(index)


def legacy_turns(integration: Integration, language: str, rows: int) -> Tally:
    """Whether each trained answer with fences reaches a service that Home Assistant carries out, once for each call."""
    tally = Tally()
    for conversation, row in drawn(Recipe((language,), "home-llm-legacy"), rows):
        answers = [turn["value"] for turn in row["conversations"] if turn["from"] == "gpt"]
        trained = [turn for turn in row["conversations"] if turn["from"] == "gpt" and "train_on_turn" not in turn]
        assert [turn["value"] for turn in trained] == answers[-1:]
        due = conversation.turns[-1].steps[-1].calls
        if not due:
            continue
        hass = Hass(conversation.home.entities, conversation.home.scene.moment)
        found = integration.parsed(hass, answers[-1], legacy=True)
        done = [integration.call_service(hass, tool_input) for tool_input in found]
        targets = sorted(call.arguments["entity_id"] for call in hass.calls)
        right = all(done) and targets == sorted(call["target_device"] for call in due)
        tally.add(right, f"{answers[-1]!r}: {hass.refused or found}")
    return tally


def tool_turns(integration: Integration, client: str, language: str, rows: int) -> Tally:
    """Whether each trained message with calls names tools that are offered, by their schemas, on the drawn entities.

    For home-llm its own parser reads the calls, both as text and as a server sends them that parses them itself.
    """
    tally = Tally()
    for conversation, row in drawn(Recipe((language,), client), rows):
        offered = {tool["function"]["name"]: tool for tool in CLIENTS[client].tools(*row["tools"])}
        turn = conversation.turns[-1]
        due = {
            tuple(call["target_device"] for call in step.calls if "target_device" in call)
            for step in turn.steps
            if step.calls
        }
        # Drawn calls without a device are calls of a tool, such as a timer's, which reaches none.
        no_device = {call["service"] for step in turn.steps for call in step.calls if "target_device" not in call}
        for message in row["messages"]:
            if message.get("train_on_turn") is False or "tool_calls" not in message:
                continue
            if message is not row["messages"][-1] and conversation.kind == "followup":
                continue  # a call of the first turn, of which there is another row
            calls = [call["function"] for call in message["tool_calls"]]
            home = conversation.turns[-1].home
            hass = Hass(home.entities, home.scene.moment)
            readings = [[ToolInput(call["name"], json.loads(call["arguments"])) for call in calls]]
            if client == "home-llm":
                text = "\n".join(map(_as_text, calls))
                native = [{"function": call} for call in calls]
                readings = [integration.parsed(hass, text, False), integration.parsed(hass, native, False)]
            problems = [
                problem for reading in readings for problem in _problems(reading, offered, hass, due, no_device)
            ]
            tally.add(not problems and all(len(reading) == len(calls) for reading in readings), f"{calls}: {problems}")
    return tally


def _as_text(call: Json) -> str:
    """Return a call as Qwen's and other templates write it. Without the line breaks the integration cannot read it."""
    written = json.dumps({**call, "arguments": json.loads(call["arguments"])}, ensure_ascii=False)
    return f"<tool_call>\n{written}\n</tool_call>"


def _problems(
    reading: list[ToolInput],
    offered: Mapping[str, Json],
    hass: Hass,
    due: set[tuple[str, ...]],
    no_device: set[str],
) -> list[str]:
    """Return what is wrong with calls of tools: their names, arguments, or the entities that they reach."""
    problems = []
    reached: list[str] = []
    for call in reading:
        if call.tool_name not in offered:
            problems.append(f"{call.tool_name} is not offered")
            continue
        parameters = offered[call.tool_name]["function"]["parameters"]
        problems += [f"{call.tool_name}: {text}" for text in misfits(parameters, call.tool_args)]
        if call.tool_name not in no_device:
            reached += _matched(hass, call.tool_args)
    wanted = {tuple(sorted(targets)) for targets in due}
    if tuple(sorted(reached)) not in wanted:
        problems.append(f"reaches {sorted(reached)}, not one of {sorted(wanted)}")
    return problems


def _matched(hass: Hass, arguments: Json) -> list[str]:
    """Return the exposed entities that the arguments choose."""
    name, area, floor = (arguments.get(key) for key in ("name", "area", "floor"))
    domains, classes = arguments.get("domain"), arguments.get("device_class")
    return [
        entity.entity_id
        for entity in hass.entities
        if (name is None or name.casefold() in (entity.name.casefold(), *map(str.casefold, entity.aliases)))
        and (area is None or area == entity.area)
        and (floor is None or floor == entity.floor)
        and (domains is None or entity.domain in domains)
        and (classes is None or entity.attributes.get("device_class") in classes)
    ]


def misfits(schema: Json, value: Any, where: str = "arguments") -> list[str]:
    """Return where a value does not fit a JSON schema: of those keywords that tools use."""
    if "anyOf" in schema and all(misfits(option, value) for option in schema["anyOf"]):
        return [f"{where}: {value!r}"]
    if "type" not in schema:  # an option that only requires an argument, or one that is nothing but options
        return [f"{where}: {key} is missing" for key in schema.get("required", ()) if key not in value]
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    if not isinstance(value, kinds[schema["type"]]) or (isinstance(value, bool) and schema["type"] != "boolean"):
        return [f"{where}: {value!r} is no {schema['type']}"]
    found = [f"{where}: {value!r}"] if "enum" in schema and value not in schema["enum"] else []
    if schema["type"] in ("integer", "number"):
        outside = not schema.get("minimum", value) <= value <= schema.get("maximum", value)
        found += [f"{where}: {value!r}"] if outside else []
    if schema["type"] == "array":
        found += [text for item in value for text in misfits(schema["items"], item, where)]
    if schema["type"] == "object":
        found += [f"{where}: {key} is missing" for key in schema["required"] if key not in value]
        for key, item in value.items():
            known = schema["properties"].get(key)
            found += misfits(known, item, key) if known else [f"{where}: {key} is not an argument"]
    return found


def prompts(integration: Integration, client: str, language: str, rows: int) -> tuple[Tally, Tally]:
    """Return how many prompts are equal with the integration's template, and without it in their lines of devices."""
    code = load_language(find_language(language)).code
    template = integration.template(LAYOUTS[client], code)
    equal, lines = Tally(), Tally()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prompt.jinja"
        file.write_text(template, encoding="utf-8")
        with_template = drawn(Recipe((language,), client, prompt=file), rows)
        for (conversation, _), (own, _) in zip(with_template, drawn(Recipe((language,), client), rows), strict=True):
            home = conversation.home
            hass = Hass(home.entities, home.scene.moment.replace(tzinfo=UTC))
            theirs = integration.system_prompt(hass, template)
            equal.add(home.prompt == theirs, f"{home.prompt!r}\n  {theirs!r}")
            listed, wanted = _device_lines(own.home.prompt), _device_lines(theirs)
            lines.add(listed == wanted, f"{listed}\n  {wanted}")
    return equal, lines


def _device_lines(prompt: str) -> list[str]:
    return [line for line in prompt.splitlines() if "' = " in line or line.startswith("## ")]


def histories(integration: Integration, language: str, rows: int) -> Tally:
    """Whether what comes before a trained message is what the integration sends, for home-llm."""
    client, tally = HomeLlm(), Tally()
    for conversation, row in drawn(Recipe((language,), "home-llm"), rows):
        *shown, trained = row["messages"]
        log = [Content("system", conversation.home.prompt)]
        for turn in conversation.turns:
            log.append(Content("user", turn.user))
            for step in turn.steps:
                written = client.tool_calls(step.calls, turn.home.entities, conversation.kind == "implied")
                inputs = [ToolInput(call.service, dict(call.arguments)) for call in written]
                log.append(Content("assistant", step.text or None, inputs or None))
                for call in written:
                    result = client.result(call, turn.home.entities, step.error)
                    log.append(Content("tool_result", tool_name=call.service, tool_result=result))
        sent = [_shape(message) for message in integration.utils.get_oai_formatted_messages(log)]
        ours = [_shape(message) for message in shown]
        tally.add(sent[: len(ours)] == ours and trained["role"] == "assistant", f"{ours}\n  {sent}")
    return tally


def _shape(message: Json) -> tuple[Any, ...]:
    content = message["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    if message["role"] == "tool":
        text = json.loads(text)
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return message["role"], text, [(call["name"], json.loads(call["arguments"])) for call in calls]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path)
    parser.add_argument("--rows", type=int, default=2500, help="rows of each language's test set (default: all)")
    parser.add_argument("--language", nargs="+", default=list(language_folders()))
    args = parser.parse_args()
    integration = load(args.clone)
    failed = False
    print(f"{'language':9} {'client':16} {'what':34} result")
    for language in args.language:
        results = {
            ("home-llm-legacy", "calls executed"): legacy_turns(integration, language, args.rows),
            ("home-llm", "calls executed"): tool_turns(integration, "home-llm", language, args.rows),
            ("assist", "calls by the tools' schemas"): tool_turns(integration, "assist", language, args.rows),
            ("home-llm", "histories as they are sent"): histories(integration, language, args.rows),
        }
        for client in LAYOUTS:
            equal, lines = prompts(integration, client, language, args.rows)
            results[client, "prompts equal, with its template"] = equal
            results[client, "device lines equal, without it"] = lines
        for (client, what), tally in results.items():
            needed = EXECUTED if "calls" in what else 1.0
            failed |= tally.of == 0 or tally.right < needed * tally.of
            print(f"{language:9} {client:16} {what:34} {tally}", flush=True)
            for example in tally.examples:
                print(f"  {example}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
