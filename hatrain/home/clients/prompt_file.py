"""Renders system prompts through the Jinja template that a person copies from an integration's settings."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hatrain.contract.load import read_source
from hatrain.cpu_time import cpu_seconds
from hatrain.errors import BadInput
from hatrain.home.clients.assist import devices_overview, interface
from hatrain.home.clients.client import Client
from hatrain.home.clients.home_llm_prompt import device_lines, shown_attributes
from hatrain.home.homes.scene import Device, Scene

LONGEST = 1_000_000
"""Characters of a prompt at which rendering stops."""

SECONDS = 2
"""Of processor time for one prompt; templates take milliseconds."""

_MARKERS = {
    "home-llm": ("<tool_call>", "</tool_call>"),
    "home-llm-legacy": ("```homeassistant", "```"),
}
_FAULTS = (LookupError, TypeError, ValueError, AttributeError)
CLIENTS_WITH_TEMPLATES = ("assist", *_MARKERS)


@dataclass(frozen=True)
class PromptFile:
    """A template, compiled. It sees what the client's integration gives to it, and nothing else of this machine."""

    path: Path
    template: jinja2.Template
    client: str
    names: frozenset[str]
    """What the template takes from outside."""

    @classmethod
    def read(cls, path: Path, client: Client) -> "PromptFile":
        """Read a template. Raises BadInput with file and line where Jinja cannot compile it."""
        source = read_source(path)
        if client.name not in CLIENTS_WITH_TEMPLATES:
            raise BadInput(
                f"--prompt: client {client.name} has no template; accepted with: {', '.join(CLIENTS_WITH_TEMPLATES)}"
            )
        environment = ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"]
        )
        environment.filters |= {"timestamp_custom": _timestamp_custom, "to_json": _to_json}
        environment.filters |= {"as_timestamp": _as_timestamp, "from_json": json.loads}
        try:
            names = find_undeclared_variables(environment.parse(source))
            return cls(path, environment.from_string(source.strip()), client.name, frozenset(names))
        except jinja2.TemplateSyntaxError as error:
            raise BadInput(f"{path}:{error.lineno}: not a Jinja template: {error.message}") from None

    def write(self, scene: Scene) -> str:
        """Render the prompt of a scene, as Home Assistant does: no blocks trimmed, no space at either end.

        Raises BadInput for a name that the template uses and the integration does not give, and for what it cannot do.
        """
        moment = scene.moment.replace(tzinfo=UTC)
        names: dict[str, Any] = {"now": lambda: moment, "utcnow": lambda: moment, "as_timestamp": _as_timestamp}
        names |= _assist_names(scene) if self.client == "assist" else _home_llm_names(scene, self.client)
        written, length = [], 0
        try:
            with cpu_seconds(SECONDS):
                for part in self.template.generate(names):
                    written.append(part)
                    length += len(part)
                    if length > LONGEST:
                        raise BadInput(f"{self.path}: the prompt is longer than {LONGEST:,} characters")
        except TimeoutError:
            raise BadInput(f"{self.path}: has not rendered after {SECONDS} s of processor time: it loops") from None
        except (jinja2.TemplateError, ArithmeticError, RecursionError, *_FAULTS) as error:
            line = _line_of(error)
            known = ", ".join(sorted(names))
            where = f"{self.path}:{line}" if line else str(self.path)
            raise BadInput(f"{where}: cannot render: {error}; it may use: {known}") from None
        prompt = "".join(written).strip()
        if self.client != "assist" or "devices" in self.names:
            return prompt
        return f"{prompt}\n{interface(scene.satellite)}\n{names['devices']}"


def _assist_names(scene: Scene) -> dict[str, Any]:
    return {"ha_name": "Home", "user_name": None, "devices": devices_overview(scene.devices)}


def _home_llm_names(scene: Scene, client: str) -> dict[str, Any]:
    lines = [line for device in scene.devices for line in device_lines(device, device.state["text"])]
    prefix, suffix = _MARKERS[client]
    return {
        "devices": [listed for device in scene.devices for listed in _listed(device)],
        "formatted_devices": "".join(f"{line}\n" for line in lines),
        "response_examples": [],  # the integration draws them at random where in-context examples are switched on
        "tool_call_prefix": prefix,
        "tool_call_suffix": suffix,
    }


def _listed(device: Device) -> list[Mapping[str, Any]]:
    shared = {
        "entity_id": device.name.entity_id,
        "state": device.state["state"],
        "attributes": shown_attributes(device.state["attributes"]),
        "area_name": device.area,
        "area_id": device.area,
    }
    names = [(device.name.friendly, False), *((alias, True) for alias in device.aliases)]
    return [{**shared, "name": name, "is_alias": is_alias} for name, is_alias in names]


def _as_timestamp(value: datetime) -> float:
    return value.timestamp()


def _timestamp_custom(
    value: float, date_format: str = "%Y-%m-%d %H:%M:%S", local: bool = True, default: Any = None
) -> str:
    return datetime.fromtimestamp(value, UTC).strftime(date_format)


def _to_json(value: Any, ensure_ascii: bool = False, pretty_print: bool = False, sort_keys: bool = False) -> str:
    if pretty_print:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=2, sort_keys=sort_keys)
    return json.dumps(value, ensure_ascii=ensure_ascii, separators=(",", ":"), sort_keys=sort_keys)


def _line_of(error: BaseException) -> int | None:
    """Return the template's line that an error comes from."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
