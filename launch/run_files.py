"""Files that every backend renders: the resolved job, node.sh and its environment, the settings of the sharding
strategy. Also how a single-file form carries files."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from hatrain.contract import variables
from hatrain.contract.cluster import FileSecret
from hatrain.contract.plan import Plan
from launch import distributed

HERE = Path(__file__).parent
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def shared(plan: Plan) -> dict[str, str]:
    """Files by their path in the run directory, without plan.json."""
    return {
        "job.yaml": job_yaml(plan),
        "launch/env.sh": env_sh(plan),
        "launch/node.sh": (HERE / "node.sh").read_text(encoding="utf-8"),
        **distributed.files(plan),
    }


def plan_json(plan: Plan) -> str:
    return plan.model_dump_json(indent=2) + "\n"


def job_yaml(plan: Plan) -> str:
    text = yaml.dump(
        plan.job.model_dump(mode="json"),
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=110,
    )
    return f"# {plan.job.name} as resolved, with every default.\n{text}"


def env_sh(plan: Plan) -> str:
    """Sourced by node.sh: the interpreter, the number of nodes, the cluster's environment and secrets."""
    values = {f"environment.{name}": (name, value) for name, value in plan.environment.items()}
    values["python"] = ("HATRAIN_PYTHON", plan.python)
    secrets = {f"secrets.{name}": path for name, path in _secret_files(plan).items()}
    lines = [
        "# shellcheck shell=bash",
        f"# The environment of {plan.job.name} on the cluster {json.dumps(plan.cluster)}.",
        f"export HATRAIN_NODES={plan.nodes}",
        *needed({**{key: value for key, (_, value) in values.items()}, **secrets}),
        *(f"export {name}={variables.quoted(value)}" for name, value in values.values()),
        *_snapshot(plan),
        *_secrets(plan),
    ]
    return "\n".join(lines) + "\n"


_NEED = """
# Values of the cluster file may refer to variables of this machine.
need() { # KEY VARIABLE
  if [[ -z ${!2:-} ]]; then
    echo "hatrain: $1: \\$$2 is not set on $(hostname)" >&2
    exit 78
  fi
}"""


def needed(values: Mapping[str, str]) -> Iterator[str]:
    """Lines of bash that refuse to go on where a variable is not set to which a value refers, by its key."""
    calls = [f"need {shlex.quote(key)} {name}" for key, value in values.items() for name in variables.names(value)]
    if calls:
        yield _NEED
        yield from calls


def _snapshot(plan: Plan) -> Iterator[str]:
    if plan.paths.code:
        yield "# The copy of hatrain that was made when the run was submitted."
        yield f"export PYTHONPATH={shlex.quote(plan.paths.code)}${{PYTHONPATH:+:$PYTHONPATH}}"
        yield "# Without it `python -m` would take a package of that name in the current folder."
        yield "export PYTHONSAFEPATH=1"


_READ_SECRET = """
# Secrets are read from their files when a node starts. Their values are written nowhere.
read_secret() { # VARIABLE FILE
  if [[ ! -r $2 ]]; then
    echo "hatrain: secrets.$1: cannot read $2 on $(hostname)" >&2
    exit 78
  fi
  local mode
  mode=$(stat --dereference --format %a -- "$2")
  if [[ $mode != ?00 ]]; then
    echo "hatrain: secrets.$1: $2 has mode $mode, so others can read it; run: chmod 600 $2" >&2
    exit 78
  fi
  export "$1=$(< "$2")"
}"""


def _secrets(plan: Plan) -> Iterator[str]:
    files = _secret_files(plan)
    if files:
        yield _READ_SECRET
    for name, path in files.items():
        yield f"read_secret {name} {quoted_path(path)}"


def _secret_files(plan: Plan) -> dict[str, str]:
    secrets = plan.cluster_spec.secrets
    return {name: secret.file for name, secret in secrets.items() if isinstance(secret, FileSecret)}


def quoted_path(path: str) -> str:
    """Quote a path for bash; `~/` and variables are expanded on the machine that runs the script."""
    return f'"$HOME"/{variables.quoted(path[2:])}' if path.startswith("~/") else variables.quoted(path)


def unpack(files: Mapping[str, str]) -> list[str]:
    """Lines of a bash function that writes files below `$folder`, with a here-document for each."""
    lines = ["# --- files of the run; `unpack` writes them to $folder ---", "", "unpack() {"]
    for path, text in files.items():
        lines += [*here_document(f'cat > "$folder/{path}"', text), ""]
    return [*lines[:-1], "}"]


def here_document(command: str, text: str) -> list[str]:
    """Lines of bash that run a command with a text, which ends with a line, as its input."""
    end = _delimiter(text)
    return [f"{command} <<'{end}'", f"{text}{end}"]


def _delimiter(text: str) -> str:
    """A word that is no line of the text, to end a here-document with."""
    lines, delimiter, number = set(text.splitlines()), "END", 1
    while delimiter in lines:
        number += 1
        delimiter = f"END{number}"
    return delimiter
