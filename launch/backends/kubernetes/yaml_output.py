"""Writes Kubernetes objects as YAML that people read and edit."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from launch.run_files import Dumper

_BINARY = ("", "Ki", "Mi", "Gi", "Ti")
_LOOKS_LIKE_ANOTHER_TYPE = re.compile(r"[-+.]?[0-9][0-9a-fA-FoOxX_.:+-]*|[yYnN]")
"""Text that a YAML reader may take for a number or a boolean. PyYAML quotes what YAML 1.1 takes for one; kubectl also
reads `1e5` as a number and `y` as true."""


class _Dumper(Dumper):  # type: ignore[misc, valid-type]
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, value: str) -> Any:
    style = "|" if "\n" in value else "'" if _LOOKS_LIKE_ANOTHER_TYPE.fullmatch(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def document(about: str, value: Mapping[str, Any]) -> str:
    """One document of a stream: a comment, and the object with its keys in the given order."""
    comment = "".join(f"# {line}\n" for line in about.splitlines())
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=4096)
    return f"---\n{comment}{text}"


def quantity(size: int) -> str:
    """Format bytes in the largest unit that represents them exactly."""
    power = 0
    while size % 1024 == 0 and power < len(_BINARY) - 1:
        size, power = size // 1024, power + 1
    return f"{size}{_BINARY[power]}"
