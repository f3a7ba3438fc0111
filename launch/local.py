"""Plan → {path: text} for one machine. Pure: it spells a plan, and neither decides nor starts anything."""

import json
import shlex
from pathlib import Path

import yaml

from hatrain.plan import Plan
from launch import distributed

HERE = Path(__file__).parent
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def files(plan: Plan) -> dict[str, str]:
    """Return the files of a run directory that start it, by their path in it. plan.json is not among them."""
    return {
        "job.yaml": job_yaml(plan),
        "launch/env.sh": env_sh(plan),
        "launch/node.sh": (HERE / "node.sh").read_text(encoding="utf-8"),
        "launch/local.sh": (HERE / "local.sh").read_text(encoding="utf-8"),
        **distributed.files(plan),
    }


def job_yaml(plan: Plan) -> str:
    """Return the job with every default filled in."""
    text = yaml.dump(
        plan.job.model_dump(mode="json"),
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=110,
    )
    return f"# {plan.job.name} as resolved: every key, the defaults too.\n{text}"


def env_sh(plan: Plan) -> str:
    """Return what node.sh sources: the interpreter, the number of nodes, and the cluster's environment."""
    lines = [
        "# shellcheck shell=bash",
        f"# What {plan.job.name} is started with on the cluster {json.dumps(plan.cluster)}.",
        f"export HATRAIN_PYTHON={shlex.quote(plan.python)}",
        f"export HATRAIN_NODES={plan.nodes}",
        *(f"export {name}={shlex.quote(value)}" for name, value in plan.environment.items()),
    ]
    return "\n".join(lines) + "\n"


def stream(plan: Plan) -> str:
    """Return one bash script that holds every file and starts the run: to be read, kept, or piped to bash."""
    held = {"plan.json": plan.model_dump_json(indent=2) + "\n", **files(plan)}
    del held["launch/local.sh"]  # one attempt: whoever pipes a script to bash decides about the next
    parts = [
        "#!/usr/bin/env bash",
        f"# One attempt at {plan.job.name} on this machine; the exit code is the run's own. Pipe it to bash.",
        "set -euo pipefail",
        "",
        "# Small files, which stay: entry takes them over into the run directory.",
        'folder=$(mktemp -d "${TMPDIR:-/tmp}/hatrain.XXXXXX")',
        'mkdir "$folder/launch"',
    ]
    for path, text in held.items():
        end = _delimiter(text)
        parts += ["", f"cat > \"$folder/{path}\" <<'{end}'", f"{text}{end}"]
    parts += ["", 'exec bash "$folder/launch/node.sh" "$folder/plan.json" < /dev/null', ""]
    return "\n".join(parts)


def _delimiter(text: str) -> str:
    """Return a word that is no line of the text, to end a here-document with."""
    lines, word, number = set(text.splitlines()), "END", 1
    while word in lines:
        number += 1
        word = f"END{number}"
    return word
