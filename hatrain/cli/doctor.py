"""`hatrain doctor`: check whether this machine, or this container, can train. It changes nothing."""

import argparse
import dataclasses
import json
import re

from hatrain.contract.run import find_run
from hatrain.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="check what this run needs (name or folder)")
    parser.add_argument(
        "--rendezvous",
        metavar="HOST[:PORT]",
        help="where the nodes meet (default: $MASTER_ADDR and $MASTER_PORT)",
    )
    parser.add_argument(
        "--cluster", metavar="NAME|PATH", help="check what a cluster behind ssh has, instead of this machine"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Print all findings. Returns 1 if one of them would keep a run from training here."""
    from hatrain import doctor

    if args.cluster:
        if args.run or args.rendezvous:
            raise BadInput("--cluster: checks a cluster, without RUN and --rendezvous")
        return _print(_examine_cluster(args.cluster), as_json=args.json)
    rendezvous = _rendezvous(args.rendezvous) if args.rendezvous else None
    findings = list(doctor.examine(find_run(args.run).plan() if args.run else None, rendezvous))
    return _print(findings, as_json=args.json)


def _print(findings: list, *, as_json: bool) -> int:
    ok = all(finding.state != "bad" for finding in findings)
    if as_json:
        rows = [{**dataclasses.asdict(finding), "code": finding.code and int(finding.code)} for finding in findings]
        print(json.dumps({"ok": ok, "findings": rows}, indent=2, ensure_ascii=False))
    else:
        _print_table(findings)
    return 0 if ok else 1


def _examine_cluster(name: str) -> list:
    from hatrain.doctor.finding import Finding
    from launch.backends import backend
    from launch.cluster_files import load_cluster

    answers = backend(load_cluster(name)[1]).examine()
    return [Finding(each.check, each.state, each.found, each.remedy) for each in answers]


def _rendezvous(text: str) -> tuple[str, int | None]:
    parts = re.fullmatch(r"(\[[^\]\s]+\]|[^:\[\]\s]+)(?::(\d{1,5}))?", text)
    port = int(parts[2]) if parts and parts[2] else None
    if not parts or (port is not None and not 0 < port < 65536):
        raise BadInput(f"--rendezvous: found {text!r}; accepted: HOST, or HOST:PORT with a port from 1 to 65535")
    return parts[1].strip("[]"), port


def _print_table(findings: list) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    styles = {"ok": "green", "note": "yellow", "bad": "bold red"}
    for finding in findings:
        state = Text(finding.state, style=styles[finding.state])
        table.add_row(Text(finding.check), state, Text(finding.line()))
    Console().print(table)
