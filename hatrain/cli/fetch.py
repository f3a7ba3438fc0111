"""`hatrain fetch`: downloads a job's model and tokenizer into the cache, and prints their commit."""

import argparse
import sys
from pathlib import Path

from hatrain.cli.planning import add_job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_job(parser)


def run(args: argparse.Namespace) -> int:
    from hatrain.contract.load import read_job
    from hatrain.contract.model_ref import find_folder, is_path
    from hatrain.contract.run import runs_root
    from hatrain.model.fetch import Unreachable, fetch

    job, document = read_job(args.job, args.settings)
    base = job.model.base
    if is_path(base) or find_folder(base, workdir=Path.cwd(), runs_root=runs_root()):
        print(f"nothing to fetch: {base} is a folder, not a model of the hub")
        return 0
    try:
        fetched = fetch(job, document)
    except Unreachable as error:
        print(f"hatrain fetch: {error}", file=sys.stderr)
        return 1
    print(f"{base} is in the cache: {fetched.files} files, {_size(fetched.bytes)}, {fetched.folder}")
    if job.model.revision == fetched.commit:
        print(f"pinned:    model.revision: {fetched.commit}")
    else:
        print(f"commit:    {fetched.commit}")
        print(f"to pin it: model.revision: {fetched.commit}")
    print("the job now runs without the network: HF_HUB_OFFLINE=1")
    return 0


def _size(count: int) -> str:
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
