"""Who is compared: hatrain, and each peer in its own environment with the settings that are worth trying."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench.training.inputs import Setup

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Side:
    name: str
    program: tuple[str, ...]
    """Interpreter and script; the folder of the inputs and `setting` follow."""
    setting: str
    is_regrouped: bool = False
    """Whether it trains other steps than hatrain: it packs rows, or orders them by length."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        return Path(self.program[0]).exists()

    def command(self, folder: Path) -> list[str]:
        return [*self.program, str(folder), self.setting]


PEERS = {"unsloth": "Unsloth", "llamafactory": "LLaMA-Factory", "axolotl": "axolotl"}
HATRAIN = (sys.executable, "-m", "bench.training.hatrain_side")


def sides_of(setup: Setup, wanted: list[str]) -> list[Side]:
    """The sides of a setup whose name contains one of `wanted`, or all."""
    found = [Side("hatrain", HATRAIN, "auto"), *(_dpo() if setup.kind == "dpo" else _sft())]
    return [side for side in found if not wanted or any(part in side.name for part in wanted)]


def _peer(name: str, setting: str, shown: str = "no checkpointing, 1 row", is_regrouped: bool = False) -> Side:
    """A peer in its own environment, which `bench/peers.sh` makes."""
    return Side(
        f"{PEERS[name]}, {shown}",
        (str(ROOT / f".venv-peer-{name}/bin/python"), str(HERE / f"{name}_side.py")),
        setting,
        is_regrouped,
    )


def _trl(setting: str, is_regrouped: bool = False) -> Side:
    own = ROOT / ".venv-peers/bin/python"
    return Side(f"TRL, {setting}", (str(own), str(HERE / "trl_side.py")), setting, is_regrouped)


def _sft() -> list[Side]:
    return [
        Side("hatrain, packing: plain", HATRAIN, "plain"),
        Side("hatrain, packing: off", HATRAIN, "off"),
        _trl("as it comes"),
        _trl("no checkpointing, 1 row"),
        _trl("no checkpointing, 2 rows"),
        _trl("no checkpointing, 4 rows by length", True),
        _trl("packed (bfd)", True),
        _peer("unsloth", "no checkpointing, 1 row"),
        _peer("llamafactory", "1"),
        _peer("axolotl", "1 row"),
        _peer("axolotl", "packed", "packed", True),
    ]


def _dpo() -> list[Side]:
    return [
        Side("hatrain, packing: off", HATRAIN, "off"),
        _trl("as it comes"),
        _trl("no checkpointing, 1 pair, reference first"),
        _trl("no checkpointing, 2 pairs, reference first"),
    ]
