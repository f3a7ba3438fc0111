"""Loads the code of acon96/home-llm from a clone, with Home Assistant's modules stubbed, and runs it on a home.

What it stubs is what Home Assistant gives: states, registries, templates, services, tool inputs. The rest of every
module is an object that accepts anything.
"""

import asyncio
import importlib.abc
import importlib.util
import json
import re
import sys
import types
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from hatrain.home.calls.compare import Call
from hatrain.home.devices.entity import Entity
from hatrain.home.simulation.house import House

STUBBED = ("homeassistant", "ollama", "httpx", "aiohttp", "anthropic", "certifi", "huggingface_hub", "llama_cpp")
PACKAGE = "custom_components.llama_conversation"


class _Anything(type):
    """A class whose attributes, items, calls and subclasses all exist."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})

    def __getitem__(cls, item: Any) -> Any:
        return cls

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls.__bases__ == (object,):
            # Called as a decorator, return what it decorates.
            return args[0] if len(args) == 1 and callable(args[0]) and not kwargs else _Anything("called", (), {})
        return super().__call__(*args, **kwargs)

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], **kwargs: Any) -> Any:
        return super().__new__(cls, name, bases, body)

    def __init__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], **kwargs: Any):
        super().__init__(name, bases, body)


class _StubModule(types.ModuleType):
    def __init__(self, name: str):
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stubs, and the integration's own files in the clone, in which Python 3.11 cannot read `type X = …`."""

    def __init__(self, clone: Path):
        self._clone = clone

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] in STUBBED:
            return importlib.util.spec_from_loader(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _StubModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


@dataclass
class ToolInput:
    tool_name: str
    tool_args: dict[str, Any]
    id: str = "id"


@dataclass
class Content:
    """Stands for each kind of content of a chat log: `role` tells them apart."""

    role: str
    content: str | None = None
    tool_calls: list[ToolInput] | None = None
    attachments: None = None
    tool_name: str = ""
    tool_result: Any = None
    tool_call_id: str = ""


class HomeAssistantError(Exception):
    pass


@dataclass
class _Registered:
    aliases: Sequence[str]
    area_id: str | None
    device_id: None = None
    unit_of_measurement: None = None


@dataclass
class Hass:
    """A home of entities at a moment. `calls` are the services that were called, `refused` those that failed."""

    entities: Sequence[Entity]
    moment: datetime
    calls: list[Call] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.states = types.SimpleNamespace(async_all=self._states)
        self.services = types.SimpleNamespace(async_call=self._call)
        self._house = House(self.entities)

    def _states(self) -> list[Any]:
        return [
            types.SimpleNamespace(
                entity_id=entity.entity_id,
                domain=entity.domain,
                state=entity.state,
                attributes={**entity.attributes, "friendly_name": entity.name},
            )
            for entity in self.entities
        ]

    async def _call(self, domain: str, service: str, service_data: Mapping[str, Any], blocking: bool = True) -> None:
        call = Call(f"{domain}.{service}", service_data)
        if problems := self._house.apply(call):
            self.refused += problems
            raise HomeAssistantError(problems[0])
        self.calls.append(call)


class _Template:
    """Home Assistant's templates: blocks are not trimmed, the ends of the text are."""

    def __init__(self, source: str, hass: Hass):
        environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
        environment.globals |= {"now": lambda: hass.moment, "as_timestamp": datetime.timestamp}
        environment.filters["timestamp_custom"] = _timestamp_custom
        environment.filters["to_json"] = json.dumps
        self._template = environment.from_string(source.strip())

    def async_render(self, variables: Mapping[str, Any], parse_result: bool = True) -> str:
        return self._template.render(variables).strip()


def _timestamp_custom(value: float, date_format: str, local: bool = True, default: Any = None) -> str:
    return datetime.fromtimestamp(value, UTC).strftime(date_format)


# The tags of tool calls are tokens of their own where models have them; fences are not.
_TOKEN = re.compile(r"</?tool_call>|```|\n| ?\w{1,6}| ?[^\w\s]|\s")


@dataclass(frozen=True)
class Integration:
    """The integration's modules."""

    const: Any
    entity: Any
    utils: Any
    init: Any
    config_flow: Any

    def system_prompt(self, hass: Hass, template: str) -> str:
        options = {self.const.CONF_USE_IN_CONTEXT_LEARNING_EXAMPLES: False}
        client = self.entity.LocalLLMClient(hass, options)
        return str(client._generate_system_prompt(template, None, options))

    def template(self, layout: str, language: str) -> str:
        """Return the text that its settings show for a layout: a constant of const.py."""
        return str(self.config_flow.build_prompt_template(language, getattr(self.const, layout)))

    def parsed(self, hass: Hass, answer: str | Sequence[Mapping[str, Any]], legacy: bool) -> list[ToolInput]:
        """Return the tool calls that it finds in an answer.

        The answer is text, which is streamed as a model's tokens are, or calls as a server sends them that parses them.
        """
        options = {}
        if legacy:
            options = self.const.option_overrides("")["home-3b-v3"]
        client = self.entity.LocalLLMClient(hass, {self.const.CONF_USE_IN_CONTEXT_LEARNING_EXAMPLES: False})

        async def pieces() -> AsyncIterator[tuple[str | None, Any]]:
            if isinstance(answer, str):
                for piece in _TOKEN.findall(answer):
                    yield piece, None
            else:
                yield None, [dict(call) for call in answer]

        async def run() -> list[ToolInput]:
            stream = client._async_stream_parse_completion(object(), "agent", options, anext_token=pieces())
            return [call async for result in stream for call in result.tool_calls or ()]

        try:
            return asyncio.run(run())
        except self.utils.MalformedToolCallException as malformed:
            hass.refused.append(str(malformed))
            return []

    def call_service(self, hass: Hass, tool_input: ToolInput) -> bool:
        """Carry out a call of the service tool; whether it reports success."""
        tool = self.init.HassServiceTool()
        return asyncio.run(tool.async_call(hass, tool_input, None)) == {"result": "success"}


def load(clone: Path) -> Integration:
    """Load the integration from a clone. Raises SystemExit when the folder is none."""
    folder = clone.joinpath(*PACKAGE.split("."))
    if not (folder / "const.py").is_file():
        raise SystemExit(f"{clone}: found no {folder.relative_to(clone)}; accepted: a clone of acon96/home-llm")
    sys.meta_path.insert(0, _Finder(clone))
    _set_up_stubs()
    for name, path in (("custom_components", folder.parent), (PACKAGE, folder)):
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package
    parts = {name: _module(f"{PACKAGE}.{name}", folder) for name in ("const", "utils", "entity")}
    backends = types.ModuleType(f"{PACKAGE}.backends")
    backends.__path__ = [str(folder / "backends")]
    sys.modules[backends.__name__] = backends
    for path in sorted((folder / "backends").glob("*.py")):
        _module(f"{PACKAGE}.backends.{path.stem}", folder / "backends")
    _execute(sys.modules[PACKAGE], folder / "__init__.py")
    return Integration(**parts, init=sys.modules[PACKAGE], config_flow=_module(f"{PACKAGE}.config_flow", folder))


def _module(name: str, folder: Path) -> types.ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__package__ = name.rpartition(".")[0]
    sys.modules[name] = module
    _execute(module, folder / f"{name.rpartition('.')[2]}.py")
    setattr(sys.modules[module.__package__], name.rpartition(".")[2], module)
    return module


def _execute(module: types.ModuleType, path: Path) -> None:
    source = re.sub(r"^type (\w+) = .*$", r"\1 = object", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    module.__file__ = str(path)
    exec(compile(source, str(path), "exec"), module.__dict__)


def _set_up_stubs() -> None:
    def stub(name: str, **attributes: Any) -> None:
        module = importlib.import_module(name)
        for key, value in attributes.items():
            setattr(module, key, value)

    def entities_of(hass: Hass) -> Any:
        by_id = {entity.entity_id: entity for entity in hass.entities}
        return types.SimpleNamespace(
            async_get=lambda name: _Registered(by_id[name].aliases, by_id[name].area) if name in by_id else None
        )

    def areas_of(hass: Hass) -> Any:
        return types.SimpleNamespace(async_get_area=lambda name: types.SimpleNamespace(id=name, name=name))

    stub("homeassistant.exceptions", HomeAssistantError=HomeAssistantError)
    stub("homeassistant.const", ATTR_ENTITY_ID="entity_id", CONF_LLM_HASS_API="llm_hass_api")
    stub("homeassistant.helpers.llm", ToolInput=ToolInput, Tool=type("Tool", (), {}), API=type("API", (), {}))
    stub("homeassistant.helpers.template", Template=_Template)
    stub("homeassistant.helpers.entity_registry", async_get=entities_of)
    stub("homeassistant.helpers.device_registry", async_get=lambda hass: None)
    stub("homeassistant.helpers.area_registry", async_get=areas_of)
    exposed = "homeassistant.components.homeassistant.exposed_entities"
    stub(exposed, async_should_expose=lambda hass, assistant, entity_id: True)
    for name in ("llm", "template", "entity_registry", "device_registry", "area_registry"):
        stub("homeassistant.helpers", **{name: sys.modules[f"homeassistant.helpers.{name}"]})
