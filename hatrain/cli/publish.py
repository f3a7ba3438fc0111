"""`hatrain publish`: uploads a finished run's model, its GGUF files and its card to the model hub."""

import argparse
import contextlib
import sys

from hatrain.cli.columns import aligned
from hatrain.contract.run import find_run
from hatrain.text import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="name or folder of a finished run")
    parser.add_argument("--repo", required=True, metavar="USER/NAME", help="the repository; made if it does not exist")
    parser.add_argument("--private", action="store_true", help="make a repository that only you can read")
    parser.add_argument("--revision", default="main", metavar="BRANCH", help="the branch to upload to (default: main)")
    parser.add_argument(
        "--dry-run", action="store_true", help="show the files and the card, and ask the hub for nothing"
    )


def run(args: argparse.Namespace) -> int:
    from huggingface_hub.utils import disable_progress_bars

    from hatrain.export import card
    from hatrain.export.publish import Hub, shown, uploads

    found = find_run(args.run)
    hub = Hub(args.repo, _say)
    files = uploads(found)
    for file in files:
        if file.note:
            _say(f"{file.name}: {file.note}")
    total = f"{count(len(files), 'file')}, {shown(sum(file.size for file in files))}"
    if args.dry_run:
        print(aligned([(file.name, shown(file.size)) for file in files]))
        print(f"\n{total}, to {args.repo} ({args.revision}); nothing was uploaded")
        print(f"\n{card.NAME}:\n")
        print(next(file.text for file in files if file.name == card.NAME), end="")
        return 0
    if not sys.stderr.isatty():
        disable_progress_bars()
    hub.connect()
    there = hub.open(args.private, args.revision)
    address = hub.commit(files, there, args.revision, f"{found.name}, trained with hatrain")
    with contextlib.suppress(OSError):  # of another user's run, which this one cannot write
        found.record("published", repository=args.repo, revision=args.revision, uploaded=len(files))
    print(f"{total} published")
    print(address)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
