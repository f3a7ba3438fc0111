"""The text beside exported files: how to serve them, and the settings of the Home Assistant client they are for."""

from collections.abc import Callable, Mapping

from hatrain.export.files import Report
from hatrain.export.table import rows_of


def settings(name: str, report: Report, client: str | None, context: int, ollama: bool) -> str:
    """Return the README.md of an export. `client` is the one that the rows name, None if they name none."""
    sections = [f"# {name}", *serving(name, report, client, context, ollama)]
    return "\n\n".join([*sections, "## In Home Assistant", in_home_assistant(name, client, context)]) + "\n"


def serving(name: str, report: Report, client: str | None, context: int, ollama: bool) -> list[str]:
    """Return the paragraphs about the files: what each costs, and how to serve one."""
    best = report.recommended.name
    paragraphs = [
        _table(report),
        f"Recommended: `{best}`, the smallest file that answers as well as the model."
        if report.reference
        else f"Use `{best}`, the largest file: nothing was judged ({report.not_judged}).",
        "## Serve it",
        f"With llama.cpp: `llama-server -m {best} --jinja -c {context} --host 0.0.0.0`",
    ]
    if report.ends:
        ends = " or ".join(f"`{end}`" for end in report.ends)
        paragraphs.append(f"Answers end at {ends}. A server that goes on after that needs it as a stop text.")
    if ollama:
        paragraphs.append(
            f"With Ollama, in this folder: `ollama create {_served_as(name, client)} -f Modelfile`. "
            "Edit its first line to use another file."
        )
    return paragraphs


def in_home_assistant(name: str, client: str | None, context: int) -> str:
    """Return the settings of the client that a model is for."""
    return _CLIENTS[client](_served_as(name, client), context) if client in _CLIENTS else _UNNAMED


def _served_as(name: str, client: str | None) -> str:
    return _SERVED_AS.get(client or "", lambda name: name)(name)


def _table(report: Report) -> str:
    header, *rows = rows_of(report)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _assist(name: str, context: int) -> str:
    return f"""\
The model was trained for Home Assistant's own interface.

1. Add the integration *Ollama* with the URL of the server (`http://HOST:11434`). For llama-server add an integration
   that talks to an OpenAI-style server (`http://HOST:8080/v1`).
2. Model: `{name}`. *Control Home Assistant*: *Assist*. *Context window size*: {context}.
3. Expose the devices under *Settings, Voice assistants*, and choose the agent there."""


def _home_llm(name: str, context: int) -> str:
    return f"""\
The model was trained for the integration *Local LLM* with its present tools.

1. Add *Local LLM* with the backend Ollama or llama.cpp server, and the model `{name}`: the name has to contain `qwen3`,
   for the integration chooses its prompt by it.
2. *Selected LLM API(s)*: *Assist*. *Tool Call Prefix* and *Suffix*: `<tool_call>` and `</tool_call>`. *Enable in
   context learning (ICL) examples*: off. *Context length*: {context}. *Temperature*: 0.
3. If the data was generated with `--prompt FILE`, copy that file into *System Prompt*."""


def _home_llm_legacy(name: str, context: int) -> str:
    return f"""\
The model was trained for the older interface of the integration *Local LLM*.

1. Add *Local LLM* with the backend Ollama or llama.cpp server, and the model `{name}`: the name has to contain
   `home-3b-v3`, for the integration chooses its prompt and its markers by it.
2. *Selected LLM API(s)*: *Home Assistant Services*. *Enable Legacy Tool Calling*: on. *Maximum Tool Call Attempts*: 0.
   *Tool Call Prefix*: ```` ```homeassistant ````, *Suffix*: ```` ``` ````. In-context examples: off.
   *Context length*: {context}. *Temperature*: 0."""


def _guide(name: str, context: int) -> str:
    return f"""\
The rows are in the training guide's format: they list services and devices with their states, and calls stand in
`homeassistant` fences. No present client sends exactly this prompt; the integration *Local LLM* with *Enable Legacy
Tool Calling* on comes nearest. Use the model `{name}`, context length {context}, temperature 0. For the exact
format of a client generate the data with `hatrain data --client NAME` (`assist`, `home-llm`,
`home-llm-legacy`), and train again."""


_CLIENTS: Mapping[str | None, Callable[[str, int], str]] = {
    "assist": _assist,
    "home-llm": _home_llm,
    "home-llm-legacy": _home_llm_legacy,
    "guide": _guide,
}
_SERVED_AS: Mapping[str, Callable[[str], str]] = {
    "home-llm": lambda name: name if "qwen3" in name else f"{name}-qwen3",
    "home-llm-legacy": lambda name: name if "home-3b-v3" in name else f"{name}-home-3b-v3",
}
_UNNAMED = """\
The rows do not say which client the model is for. Use the client whose prompts and calls they have (docs/clients.md of
hatrain lists the known ones)."""
