"""What every launcher's files have in common: the resolved job, what node.sh sources, node.sh itself, the strategy's
settings. Pure."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from hatrain.contract.cluster import FileSecret
from hatrain.contract.plan import Plan
from launch import distributed

HERE = Path(__file__).parent
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def shared(plan: Plan) -> dict[str, str]:
    """Return the files that a run has under every launcher, by their path in its directory; plan.json is not one."""
    return {
        "job.yaml": job_yaml(plan),
        "launch/env.sh": env_sh(plan),
        "launch/node.sh": (HERE / "node.sh").read_text(encoding="utf-8"),
        **distributed.files(plan),
    }


def plan_json(plan: Plan) -> str:
    """Return plan.json."""
    return plan.model_dump_json(indent=2) + "\n"


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
    """Return what node.sh sources: the interpreter, the number of nodes, the cluster's environment and secrets."""
    lines = [
        "# shellcheck shell=bash",
        f"# What {plan.job.name} is started with on the cluster {json.dumps(plan.cluster)}.",
        f"export HATRAIN_PYTHON={shlex.quote(plan.python)}",
        f"export HATRAIN_NODES={plan.nodes}",
        *(f"export {name}={shlex.quote(value)}" for name, value in plan.environment.items()),
        *_secrets(plan),
    ]
    return "\n".join(lines) + "\n"


_READ_SECRET = """
# A secret is read from its file when a node starts; its value is written nowhere.
read_secret() { # VARIABLE FILE
  if [[ ! -r $2 ]]; then
    echo "hatrain: secrets.$1: $2 cannot be read on $(hostname)" >&2
    exit 78
  fi
  local mode
  mode=$(stat --dereference --format %a -- "$2")
  if [[ $mode != ?00 ]]; then
    echo "hatrain: secrets.$1: $2 has mode $mode, so that others may read it; run: chmod 600 $2" >&2
    exit 78
  fi
  export "$1=$(< "$2")"
}"""


def _secrets(plan: Plan) -> Iterator[str]:
    files = {name: one for name, one in plan.cluster_spec.secrets.items() if isinstance(one, FileSecret)}
    if files:
        yield _READ_SECRET
    for name, secret in files.items():
        yield f"read_secret {name} {word(secret.file)}"


def word(path: str) -> str:
    """Return a path as a word of bash, its `~/` left to the machine that reads it."""
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


def written(files: Mapping[str, str], folder: str) -> list[str]:
    """Return lines of bash that write files below `"$folder"`, a here-document each; `folder` is the variable."""
    lines = []
    for path, text in files.items():
        end = _delimiter(text)
        lines += ["", f"cat > \"${folder}/{path}\" <<'{end}'", f"{text}{end}"]
    return lines


def _delimiter(text: str) -> str:
    """Return a word that is no line of the text, to end a here-document with."""
    lines, word, number = set(text.splitlines()), "END", 1
    while word in lines:
        number += 1
        word = f"END{number}"
    return word
