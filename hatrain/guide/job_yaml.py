"""Writes a job file by hand-written standards: required keys, and what differs from the defaults."""

from typing import Any

import yaml

from hatrain.contract.spec import JobSpec

SCHEMA_LINE = "# yaml-language-server: $schema=schema.json"


def job_yaml(job: JobSpec, comment: str) -> str:
    """Return a job file that `hatrain.contract.load` reads back as the same job, with a comment at the top."""
    data = job.model_dump(mode="json", exclude_defaults=True)
    data["data"]["train"] = _short_list(data["data"]["train"])
    if isinstance(quantization := data["model"].get("quantization"), dict):
        data["model"]["quantization"] = _short(quantization, "kind")
    # Always written, because readers look for them first.
    method = data.get("method", {})
    shown = {"learning_rate", "batch_size", "micro_batch_size", *method}
    full = job.method.model_dump(mode="json")
    data["method"] = {key: method.get(key, full[key]) for key in ("kind", *full) if key in shown}
    lines = [SCHEMA_LINE, *(f"# {line}".rstrip() for line in comment.splitlines())]
    return "\n".join(lines) + "\n" + _dump({key: data[key] for key in JobSpec.model_fields if key in data})


def _short(mapping: dict[str, Any], only: str) -> Any:
    return mapping[only] if set(mapping) == {only} else mapping


def _short_list(datasets: list[dict[str, Any]]) -> Any:
    short = [_short(dataset, "path") for dataset in datasets]
    return short[0] if len(short) == 1 else short


class _Dumper(yaml.SafeDumper):
    """Plain YAML: lists on one line, 0.00001 as 1e-5, no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _float(dumper: _Dumper, value: float) -> yaml.Node:
    digits, e, exponent = repr(value).removesuffix(".0").partition("e")
    text = f"{digits}e{int(exponent)}" if e else digits
    # With the tag that YAML resolves for this text, PyYAML writes neither tag nor quotes.
    tag = dumper.resolve(yaml.ScalarNode, text, (True, False))
    return dumper.represent_scalar(tag, text)


def _list(dumper: _Dumper, value: list[Any]) -> yaml.Node:
    nested = any(isinstance(item, dict) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=not nested)


_Dumper.add_representer(float, _float)
_Dumper.add_representer(list, _list)


def _dump(data: dict[str, Any]) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
