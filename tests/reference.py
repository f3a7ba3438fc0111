"""Writes docs/reference.md from the parsers of the verbs and the schema of a job."""

import argparse
from collections.abc import Iterator
from typing import Any

from hatrain.cli import GROUPS, parser_of
from hatrain.cli.examples import EXAMPLES
from hatrain.contract import spec

HEAD = """\
# Reference

Every verb with its options, and every key of a job. This page is made from the parsers and the schema: `hatrain help
VERB` and `hatrain schema` say the same.

Exit codes of all verbs: 0, 1 failed, 2 bad input. `submit --follow`, `logs --follow`, `wait` and `train` exit with the
code of the run: 0 finished, 75 stopped from outside, 78 cannot succeed as it is, 130 stopped by the user, any other a
fault.
"""


def page() -> str:
    verbs = [line for title, names in GROUPS.items() for line in (f"## {title}\n", *map(_verb, names))]
    return "\n".join([HEAD, *verbs, "## Keys of a job\n", _INTRODUCTION, *_keys()]).rstrip() + "\n"


_INTRODUCTION = """\
`--set KEY=VALUE` takes them as they are written here. A key without a default must be given; `null` is nothing.
"""


def _verb(verb: str) -> str:
    parser = parser_of(verb)
    positional = [action for action in parser._actions if not action.option_strings]
    usage = " ".join([f"hatrain {verb}", *map(_written, positional)])
    rows = [
        f"| {_spelled(action)} | {_cell(action.help or '')}{_choices(action)} |"
        for action in parser._actions
        if "--help" not in action.option_strings
    ]
    table = ["| argument | meaning |", "|---|---|", *rows, ""] if rows else []
    examples = [line for command, what in EXAMPLES[verb] for line in (f"# {what}", command)]
    options = " [options]" if len(rows) > len(positional) else ""
    head = (f"### hatrain {verb}\n", f"{parser.description}\n", f"    {usage}{options}\n")
    return "\n".join([*head, *table, "```console", *examples, "```", ""])


def _written(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest.upper())
    if action.nargs == argparse.REMAINDER:
        return "-- COMMAND ..."
    more = f"{name} ..." if action.nargs in ("+", "*") else name
    return f"[{more}]" if action.nargs in ("?", "*") else more


def _spelled(action: argparse.Action) -> str:
    if not action.option_strings:
        return _code(_written(action))
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return ", ".join(_code(f"{flag}{value}") for flag in action.option_strings)


def _choices(action: argparse.Action) -> str:
    if not action.choices or action.nargs == 0:
        return ""
    return f" (one of {', '.join(map(_code, map(str, action.choices)))})"


def _code(text: str) -> str:
    return f"`{_cell(text).replace('&lt;', '<')}`"


def _cell(text: str) -> str:
    """Text for a cell of a table, in which a bar would end the cell."""
    return " ".join(text.split()).replace("%%", "%").replace("|", "\\|").replace("<", "&lt;")


def _keys() -> Iterator[str]:
    schema = spec.json_schema()
    sections: list[tuple[str, str, dict[str, Any]]] = [("", "", schema)]
    listed: list[tuple[str, dict[str, Any]]] = []
    for prefix, kind, part in sections:
        rows = []
        for name, key in part.get("properties", {}).items():
            path = f"{prefix}.{name}" if prefix else name
            if (path, key) in listed:
                continue
            listed.append((path, key))
            inner = [branch for branch in _branches(key, schema) if branch.get("properties")]
            sections += [(path, _kind(branch, inner), branch) for branch in inner]
            default = _default(key, inner) if name not in part.get("required", []) else ""
            rows.append(f"| `{name}` | {_type(key, schema)} | {default} | {_cell(key.get('description', ''))} |")
        title = f"### {prefix}{kind}\n" if prefix else "### The job itself\n"
        yield "\n".join([title, _cell(part.get("description", "")) + "\n", "| key | accepted | default | meaning |"])
        yield "\n".join(["|---|---|---|---|", *rows, ""])


def _kind(branch: dict[str, Any], branches: list[dict[str, Any]]) -> str:
    kind = branch["properties"].get("kind", {}).get("const")
    return f" (kind: {kind})" if kind and len(branches) > 1 else ""


def _branches(key: dict[str, Any], root: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in key:
        return _branches(root["$defs"][key["$ref"].rpartition("/")[2]], root)
    for union in ("anyOf", "oneOf", "allOf"):
        if union in key:
            found = [leaf for each in key[union] for leaf in _branches(each, root)]
            return [leaf for number, leaf in enumerate(found) if leaf not in found[:number]]
    return [key]


def _type(key: dict[str, Any], root: dict[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_one(branch, root) for branch in _branches(key, root)))


def _one(branch: dict[str, Any], root: dict[str, Any]) -> str:
    if "enum" in branch:
        return ", ".join(_code(str(value)) for value in branch["enum"])
    if "const" in branch:
        return _code(str(branch["const"]))
    if branch.get("type") == "array":
        return f"a list of {_type(branch['items'], root)}" if branch.get("items") else "a list"
    names = {
        "object": "a mapping",
        "string": "text",
        "boolean": "true, false",
        "integer": "whole number",
        "null": "null",
    }
    limits = (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤"))
    bounds = [
        f"{sign} {branch[limit]:,}".removesuffix(".0").replace("<", "&lt;") for limit, sign in limits if limit in branch
    ]
    return " ".join([names.get(branch.get("type", ""), branch.get("type", "any value")), *bounds])


def _default(key: dict[str, Any], inner: list[dict[str, Any]]) -> str:
    if "default" not in key or isinstance(key["default"], dict):
        return "see below" if inner and "default" in key else ""
    value = key["default"]
    if value is None:
        return "null"
    if isinstance(value, list):
        return _code(f"[{', '.join(map(str, value))}]")
    return _code(
        str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    )
