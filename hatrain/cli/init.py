"""`hatrain init`: a first job and a home to change, in the folder where the command runs."""

import argparse
import json
import sys
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hatrain.cli.job_header import commands
from hatrain.errors import BadInput
from hatrain.runtime import seal

_TEMPLATES = Path(__file__).with_name("new")
_TEMPLATE = "my-home"
"""The name in the templates."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the job, its home and its run, such as my-home")


def run(args: argparse.Namespace) -> int:
    """Write the job, the home and the schema. Raises BadInput, before it writes, for files that are there already."""
    from hatrain.contract import spec

    try:
        TypeAdapter(spec.Name).validate_python(args.name)
    except ValidationError as error:
        accepted = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise BadInput(f"hatrain init: found {args.name!r}; accepted: {accepted}") from None
    if args.name.endswith((".yaml", ".yml")):
        raise BadInput(f"hatrain init: found {args.name!r}; accepted: the name alone, {Path(args.name).stem}")
    job, home, schema = Path(f"jobs/{args.name}.yaml"), Path(f"homes/{args.name}.yaml"), Path("jobs/schema.json")
    if there := [path for path in (job, home) if path.exists()]:
        raise BadInput([f"{path}: is there already, and is not overwritten; give another name" for path in there])
    seal.write_text(job, _text("job.yaml", args.name))
    seal.write_text(home, _text("home.yaml", args.name))
    text = json.dumps(spec.json_schema(), indent=2, ensure_ascii=False) + "\n"
    if not schema.exists():
        seal.write_text(schema, text)
    elif schema.read_bytes() != text.encode():
        print(f"note: {schema}: is not this version's; renew it with: hatrain schema > {schema}", file=sys.stderr)
    print(f"{job}   what to train, and how")
    print(f"{home}  the home it is for: change it to yours")
    print("next:")
    for command in commands(job):
        print(f"  {command}")
    return 0


def _text(template: str, name: str) -> str:
    return (_TEMPLATES / template).read_text(encoding="utf-8").replace(_TEMPLATE, name)
