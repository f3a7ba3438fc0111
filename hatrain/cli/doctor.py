"""`hatrain doctor`: whether this machine, or this container, can train. It changes nothing."""

import argparse
import dataclasses
import json
import re

from hatrain.contract.run import find_run
from hatrain.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run's name or folder: can it train here?")
    parser.add_argument(
        "--rendezvous",
        metavar="HOST[:PORT]",
        help="where the nodes meet ($MASTER_ADDR and $MASTER_PORT when left out)",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Look at everything and print it. Returns 1 when something would keep a run from training here."""
    from hatrain import doctor

    meeting = _meeting(args.rendezvous) if args.rendezvous else None
    findings = list(doctor.examine(find_run(args.run).plan() if args.run else None, meeting))
    well = all(finding.state != "bad" for finding in findings)
    if args.json:
        # The code is entry's, and means something where a run is asked about.
        told = [
            {**dataclasses.asdict(finding), "code": finding.code and int(finding.code)}
            for finding in findings
        ]
        print(json.dumps({"well": well, "findings": told}, indent=2, ensure_ascii=False))
    else:
        _print(findings)
    return 0 if well else 1


def _meeting(told: str) -> tuple[str, int | None]:
    parts = re.fullmatch(r"(\[[^\]\s]+\]|[^:\[\]\s]+)(?::(\d{1,5}))?", told)
    port = int(parts[2]) if parts and parts[2] else None
    if not parts or (port is not None and not 0 < port < 65536):
        raise BadInput(
            f"--rendezvous: found {told!r}; accepted: a host, or HOST:PORT with a port below 65536"
        )
    return parts[1].strip("[]"), port


def _print(findings: list) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(no_wrap=True)
    drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    style = {"ok": "green", "note": "yellow", "bad": "bold red"}
    for finding in findings:
        mark = Text(finding.state, style=style[finding.state])
        drawn.add_row(Text(finding.check), mark, Text(finding.line()))
    Console().print(drawn)
