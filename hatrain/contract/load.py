"""Reads YAML strictly into a pydantic model, and reports every mistake of a file at once with its line. Scalars stay
text until the schema gives them a type, so YAML does not change `no`, `010`, `1e-5` or `00:30:00`."""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hatrain.contract import shipped
from hatrain.contract.keys import meant, unknown_key
from hatrain.errors import BadInput, nearest
from hatrain.runtime import credentials

if TYPE_CHECKING:
    from hatrain.contract.spec import JobSpec

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Key = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

_TAGS = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "seq", "map")
}
"""Tags that the parser assigns by itself. Any other tag was written in the file."""
_NULLS = {"", "~", "null", "Null", "NULL"}


class Plain(str):
    """A scalar without quotes, for schemas that want YAML's own types (`cluster/yaml_values.py`)."""


@dataclass
class Document:
    """A file's data with every scalar as text, the line of each key, and the problems found while reading."""

    source: str
    data: Any = None
    lines: dict[Key, int] = field(default_factory=dict)
    overrides: dict[Key, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def where(self, key: Key) -> str:
        """Return `file:line: a.b` for a key; a key that the file does not have gets the line of its nearest parent."""
        if key in self.overrides:
            return self.overrides[key]
        if deeper := self.set_below(key):
            return self.overrides[deeper]
        location = self.source
        for end in range(len(key), -1, -1):
            if key[:end] in self.overrides:
                location = self.overrides[key[:end]]
                break
            if key[:end] in self.lines:
                location = f"{self.source}:{self.lines[key[:end]]}"
                break
        return f"{location}: {dotted(key)}" if key else location

    def set_below(self, key: Key) -> Key | None:
        """The first override below a key that only overrides have written: `--set lora.rank=8` for `lora`."""
        if key in self.lines or not key:
            return None
        return next((deeper for deeper in self.overrides if deeper[: len(key)] == key), None)


def dotted(key: Key) -> str:
    """Return a key as `--set` takes it: a.b.c."""
    return ".".join(map(str, key))


def read_text(text: str, source: str) -> Document:
    """Read one YAML document. Problems (syntax, a key given twice, a tag) are collected, not raised."""
    document = Document(source)
    try:
        root = compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}" if mark else ""
        document.problems.append(f"{source}{at}: not YAML: {error.problem or error.context}")
    except (yaml.YAMLError, ValueError) as error:
        document.problems.append(f"{source}: not YAML: {str(error).splitlines()[0]}")
    else:
        if root is not None:
            document.data = _plain(root, (), document, ())
    return document


DEEPEST = 100
"""Levels of a document."""
LARGEST = 100_000
"""Nodes of a document, with every alias replaced by what it stands for."""


def compose(text: str) -> Any:
    """Return the root node of a YAML document. Raises a yaml.YAMLError, also for a document that would take all time
    and memory: libyaml's composer crashes on deep nesting, and a few aliases of aliases stand for billions of nodes."""
    _check_size(text)
    return yaml.compose(text, Loader=Loader)


def _check_size(text: str) -> None:
    sizes: dict[str, int] = {}
    total, open_nodes = 0, list[tuple[str | None, int]]()
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - before
            continue
        if isinstance(event, yaml.AliasEvent):
            total += sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.NodeEvent):
            total += 1
        fault = ""
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total - 1))
            fault = f"nested more than {DEEPEST} levels deep" if len(open_nodes) > DEEPEST else ""
        elif isinstance(event, yaml.ScalarEvent) and event.anchor:
            sizes[event.anchor] = 1
        if total > LARGEST:
            fault = f"more than {LARGEST} values, with its aliases written out"
        if fault:
            raise yaml.MarkedYAMLError(problem=fault, problem_mark=event.start_mark)  # type: ignore[arg-type]


def _plain(node: yaml.Node, key: Key, document: Document, above: tuple[yaml.Node, ...]) -> Any:
    """Return a node's data. Scalars stay text, except that null without quotes becomes None."""
    line = node.start_mark.line + 1
    document.lines.setdefault(key, line)
    if node in above:
        document.problems.append(f"{document.where(key)}: an alias that contains itself")
        return None
    if node.tag not in _TAGS:
        document.problems.append(f"{document.where(key)}: found the tag {node.tag}; tags are not accepted")
    if isinstance(node, yaml.ScalarNode):
        if node.style:
            return node.value
        return None if node.value in _NULLS else Plain(node.value)
    above = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*key, i), document, above) for i, item in enumerate(node.value)]
    data: dict[str, Any] = {}
    for name_node, value_node in node.value:
        at = name_node.start_mark.line + 1
        if not isinstance(name_node, yaml.ScalarNode):
            document.problems.append(f"{document.source}:{at}: a key must be one word, not a list or a mapping")
            continue
        name = name_node.value
        inner = (*key, name)
        if name in data:
            first = document.lines[inner]
            document.problems.append(f"{document.source}:{at}: {dotted(inner)}: given twice; first on line {first}")
            continue
        document.lines[inner] = at
        data[name] = _plain(value_node, inner, document, above)
    return data


def read_file(path: Path) -> Document:
    """Read a YAML file. Raises BadInput when it is missing or not UTF-8 text."""
    return read_text(read_source(path), str(path))


def read_standard_input() -> Document:
    """Read a YAML document from standard input, which is read once. Raises BadInput when it is not UTF-8 text."""
    return read_text(_standard_input(), STANDARD_INPUT)


STANDARD_INPUT = "standard input"


@cache
def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{STANDARD_INPUT}: cannot be read: not UTF-8 text") from None


def read_source(path: Path) -> str:
    """Read a text file. Raises BadInput when it is missing or not UTF-8 text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadInput(f"{path}: cannot be read: {reason}") from None


def override(document: Document, settings: Iterable[str], flag: str = "--set") -> None:
    """Apply `a.b=value` settings of a command-line `flag` to a document, in place. Values are read as YAML."""
    for setting in settings:
        name, equals, text = setting.partition("=")
        place = credentials.hide(f"{flag} {setting}")
        if not equals or not name.strip():
            document.problems.append(f"{place}: found no KEY=VALUE; accepted: for example method.epochs=2")
            continue
        value = read_text(text, place)
        if value.problems:
            document.problems += value.problems
            continue
        key: Key = tuple(name.strip().split("."))
        try:
            key = _put(document, key, value.data)
        except KeyError as error:
            document.problems.append(f"{place}: {error.args[0]}")
            continue
        document.lines = {at: line for at, line in document.lines.items() if at[: len(key)] != key}
        document.overrides[key] = place


def _put(document: Document, key: Key, value: Any) -> Key:
    """Set one value. Returns the key with list indices as numbers; raises KeyError with a reason."""
    at: Any = document.data if document.data is not None else {}
    document.data = at
    done: list[str | int] = []
    for depth, part in enumerate(key):
        last = depth == len(key) - 1
        if isinstance(at, list):
            if not str(part).isdigit() or int(part) >= len(at):
                raise KeyError(f"{dotted(tuple(done))} is a list of {len(at)}; accepted: an index from 0")
            part = int(part)
        elif not isinstance(at, dict):
            raise KeyError(f"{dotted(tuple(done))} is {at!r} in the file, which has no keys of its own")
        done.append(part)
        if last:
            at[part] = value
        else:
            if isinstance(at, dict) and at.get(str(part)) is None:
                at[str(part)] = {}
            at = at[part]
    return tuple(done)


# --- error messages from a schema ------------------------------------------------------------------------


_ACCEPTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "list_type": "a list",
    "tuple_type": "a list",
    "too_short": "at least one value",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "union_tag_not_found": "a mapping with a kind",
}


def _accepted(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "literal_error":
            return _one_of(str(context["expected"]))
        case "union_tag_invalid":
            return _one_of(str(context["expected_tags"]))
        case "greater_than":
            return f"above {_number(context['gt'])}"
        case "greater_than_equal":
            return f"at least {_number(context['ge'])}"
        case "less_than":
            return f"below {_number(context['lt'])}"
        case "less_than_equal":
            return f"at most {_number(context['le'])}"
        case "value_error":
            return str(error["msg"]).removeprefix("Value error, ")
    return _ACCEPTED.get(error["type"], error["msg"])


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _one_of(expected: str) -> str:
    return " | ".join(re.findall(r"'([^']*)'", expected)) or expected


def _key_of(loc: Sequence[str | int], data: Any, keep_last: bool) -> Key:
    """Return the file's key for a pydantic `loc`, which also contains the branches of unions."""
    key: list[str | int] = []
    for i, part in enumerate(loc):
        if isinstance(data, dict) and part in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif not (keep_last and i == len(loc) - 1 and isinstance(data, dict)):
            continue
        key.append(part)
    return tuple(key)


def _found(data: Any, key: Key) -> Any:
    for part in key:
        data = data[part]
    return data


SECRETS = "secrets"
"""Values below this key are never shown: one may be a secret, written where its name belongs."""


def _shown(value: Any, key: Key = ()) -> str:
    if SECRETS in key and isinstance(value, str):
        return "text, which is not shown"
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return credentials.hide(repr(value))


def _problems(model: type[BaseModel], document: Document, errors: list[ErrorDetails]) -> list[str]:
    """Turn pydantic's errors into a line for each key, in the order of the file."""
    messages: dict[Key, tuple[str, list[str], Any]] = {}
    for error in errors:
        loc = error["loc"]
        key = _key_of(loc, document.data, keep_last=error["type"] in ("missing", "extra_forbidden"))
        if error["type"] == "union_tag_invalid" and isinstance(_found(document.data, key), dict):
            key = (*key, "kind")
        if error["type"] == "extra_forbidden":
            below = (document.set_below(key) or key)[len(key) :]
            keys = error.get("ctx", {}).get("accepted", ())
            messages[key] = (unknown_key(model, loc, error["input"], below=below, accepted=keys), [], None)
        elif error["type"] == "missing":
            messages[key] = ("missing, and has no default", [], None)
        else:
            # A mapping's key that is refused is reported at the key, with its name as what was found.
            found = key[-1] if loc[-1:] == ("[key]",) else _found(document.data, key)
            _, options, _ = messages.setdefault(key, (f"found {_shown(found, key)}; accepted: ", [], found))
            if (accepted := _accepted(error)) not in options:
                options.append(accepted)
    lines = []
    for key, (text, options, found) in messages.items():
        hint = ""
        if options and isinstance(found, str):
            words = [word for option in options for word in option.split(" | ") if " " not in word]
            hint = (meant(model, key, found) if SECRETS not in key else "") or nearest(found, words)
        lines.append((document.lines.get(key, 0), f"{document.where(key)}: {text}{' or '.join(options)}{hint}"))
    return [line for _, line in sorted(lines, key=lambda item: item[0])]


def _credentials(value: Any, key: Key, document: Document) -> list[str]:
    """A line for each URL with a password or a token in it: the job is written into every run."""
    if isinstance(value, str):
        if SECRETS in key or not credentials.in_url(value):
            return []
        return [
            f"{document.where(key)}: found a URL with a password or a token in it; accepted: the URL without, and the "
            "credentials where its library looks for them (its environment variables or files)"
        ]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [line for name, item in items for line in _credentials(item, (*key, name), document)]


def validate(model: type[M], document: Document) -> M:
    """Validate a document. Raises BadInput with all its problems."""
    problems = [*document.problems, *_credentials(document.data, (), document)]
    result: M | None = None
    if document.data is None and not problems:
        problems.append(f"{document.source}: empty")
    elif document.data is not None and not isinstance(document.data, dict):
        problems.append(f"{document.source}: found {_shown(document.data)}; accepted: a mapping of keys")
    elif document.data is not None:
        try:
            result = model.model_validate(document.data)
        except ValidationError as error:
            problems += _problems(model, document, error.errors())
    if problems or result is None:
        raise BadInput(problems)
    return result


def load(model: type[M], path: Path, settings: Iterable[str] = ()) -> M:
    """Read a file into a model, with `a.b=value` settings on top. Raises BadInput."""
    document = read_file(path)
    override(document, settings)
    return validate(model, document)


def find(name: str, folders: Sequence[Path], what: str, shipped: Path | None = None) -> Path:
    """Find a file by its path, or by its name in the first folder that has it, `shipped` last. `what` names the kind in
    messages.

    Raises BadInput with the nearest name.
    """
    path = Path(name)
    more = sorted(each.stem for each in shipped.glob("*.yaml")) if shipped else []
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        if path.is_file():
            return path
        known = [str(p) for p in sorted(path.parent.glob("*.y*ml"))]
        by_name = f"; the {what} {path.stem} comes with hatrain: give its name alone" if path.stem in more else ""
        raise BadInput(f"{name}: no such {what}{by_name or nearest(name, known)}")
    for folder in [*folders, *([shipped] if shipped else [])]:
        if (path := folder / f"{name}.yaml").is_file():
            return path
    own = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")} - {*more})
    named = [*own, *([f"one that `hatrain {what}s` lists"] if more else [])]
    searched = ", ".join(f"{folder}/" for folder in folders)
    accepted = (
        f"accepted: a path, {'or ' * (len(named) == 1)}{', '.join(named)}" if named else f"none found in {searched}"
    )
    raise BadInput(f"{name}: no such {what} ({accepted}){nearest(name, [*own, *more])}")


def read_job(name: str, settings: Iterable[str] = (), swept: Iterable[str] = ()) -> tuple["JobSpec", Document]:
    """Read a job by its path, by its name in ./jobs or among those that come with hatrain, or from standard input (-),
    with the location of each key. Raises BadInput.

    `settings` come from --set; `swept`, which go on top, from --sweep.
    """
    from hatrain.contract.spec import JobSpec  # the schema of a job, which other files do not need

    document = read_standard_input() if name == "-" else read_file(find_job(name))
    override(document, settings)
    override(document, swept, "--sweep")
    return validate(JobSpec, document), document


def find_job(name: str) -> Path:
    """Find a job by its path, or by its name in ./jobs or among those that come with hatrain. Raises BadInput."""
    return find(name, [Path("jobs")], "job", shipped.jobs())


def load_job(name: str, settings: Iterable[str] = ()) -> "JobSpec":
    """As `read_job`, without the locations."""
    return read_job(name, settings)[0]
