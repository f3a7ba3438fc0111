"""The settings of the runs of a sweep, from `--sweep` and `--zip`."""

import argparse
import itertools
from collections.abc import Iterable, Sequence

import yaml

from hatrain.contract.load import compose
from hatrain.contract.spec import SWEPT
from hatrain.errors import BadInput


def add_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sweep",
        metavar="KEY=V1,V2",
        action="append",
        default=[],
        help="one run for each value, such as method.learning_rate=1e-5,2e-5; repeatable, for all combinations",
    )
    parser.add_argument(
        "--zip",
        metavar="KEY=V1,V2",
        action="append",
        default=[],
        help="as --sweep, but the values of several --zip belong together: the first of each, the second of each, …",
    )


def settings_of(sweeps: Sequence[str], zipped: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Return the settings of each run: every combination of the values of `sweeps` (`a.b=v1,v2`) and of the places of
    `zipped`, whose keys change together. The last key varies fastest, and `zipped` before it.

    Raises BadInput for keys that must be the same in all runs, such as limits or the name, for a key or a value that is
    given twice, and for zipped keys with unequal numbers of values.
    """
    together = [_axis(text, "--zip") for text in zipped]
    axes = [[(setting,) for setting in _axis(text, "--sweep")] for text in sweeps]
    if together:
        _refuse_unequal(zipped, together)
        axes.insert(0, _without_repeats(zip(*together, strict=True), "--zip"))
    keys = [text.partition("=")[0].strip() for text in (*zipped, *sweeps)]
    for key in keys:
        if keys.count(key) > 1:
            raise BadInput(f"{key}: is swept twice; accepted: all its values in one --sweep or --zip")
    return [tuple(itertools.chain(*places)) for places in itertools.product(*axes)]


def _axis(text: str, flag: str) -> list[str]:
    key, equals, values = text.partition("=")
    key = key.strip()
    split = [value.strip() for value in _between_commas(values) if value.strip()]
    if not equals or len(split) < 2:
        raise BadInput(
            f"{flag} {text}: not of the form KEY=V1,V2; accepted: for example method.learning_rate=1e-5,2e-5"
        )
    if key.split(".")[0] not in SWEPT and key != "seed":
        raise BadInput(
            f"{flag} {text}: {key} must be the same for all runs of a sweep; accepted: seed, or keys of "
            f"{', '.join(SWEPT)}"
        )
    settings = [f"{key}={value}" for value in split]
    return settings if flag == "--zip" else _without_repeats(settings, flag)


def _without_repeats(settings: Iterable[str | tuple[str, ...]], flag: str) -> list:
    """Raise BadInput for settings that are given twice."""
    settings = list(settings)
    for setting in settings:
        if settings.count(setting) > 1:
            shown = setting if isinstance(setting, str) else " ".join(setting)
            raise BadInput(f"{flag}: {shown}: given twice; accepted: each value once, for a run repeats to the bit")
    return settings


def _refuse_unequal(zipped: Sequence[str], axes: Sequence[Sequence[str]]) -> None:
    if len({len(axis) for axis in axes}) > 1:
        counts = ", ".join(
            f"{text.partition('=')[0].strip()} has {len(axis)}" for text, axis in zip(zipped, axes, strict=True)
        )
        raise BadInput(f"--zip: {counts} values; accepted: as many for each key")


def _between_commas(text: str) -> list[str]:
    """Split where YAML would split a list: not at commas in brackets and quotes."""
    flow_list = f"[{text}]"
    try:
        root = compose(flow_list)
    except yaml.YAMLError:
        return []
    assert isinstance(root, yaml.SequenceNode)
    return [flow_list[node.start_mark.index : node.end_mark.index] for node in root.value]
