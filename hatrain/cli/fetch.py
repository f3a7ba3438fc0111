"""`hatrain fetch`: downloads a job's model and tokenizer into the cache, and prints their commit."""

import argparse
import sys

from hatrain.cli.planning import add_job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_job(parser)


def run(args: argparse.Namespace) -> int:
    from hatrain.contract.load import read_job
    from hatrain.model.fetch import Unreachable, fetch, local_folder

    job, document = read_job(args.job, args.settings)
    base = job.model.base
    if (folder := local_folder(base)) is not None:
        print(f"nothing to fetch: {folder} is a folder, not a model of the hub")
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
