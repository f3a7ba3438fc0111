"""`hatrain data`: make the Home Assistant dataset, measure the overlap of two sets, check a language folder."""

import argparse
import sys
import time
from pathlib import Path

SIZES = ("small", "medium", "large", "xl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_argument_group("what to make")
    parts.add_argument("--train", action="store_true", help="home_assistant_train.jsonl")
    parts.add_argument(
        "--test", action="store_true", help="home_assistant_test.jsonl, of words that train lacks"
    )
    parts.add_argument(
        "--dpo", action="store_true", help="home_assistant_dpo.jsonl: {system, question, chosen, rejected}"
    )
    parts.add_argument(
        "--sample", action="store_true", help="sample.jsonl, a hundred rows a language to look at"
    )
    sizes = parser.add_mutually_exclusive_group()
    for size, rows in zip(SIZES, ("20,000", "34,000", "43,000", "55,000"), strict=True):
        sizes.add_argument(
            f"--{size}",
            dest="size",
            action="store_const",
            const=size,
            help=f"{rows} training rows a language",
        )
    parser.add_argument(
        "--language",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="names or codes; several are shuffled together (english)",
    )
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument(
        "--format", choices=("sharegpt", "messages", "raw"), help="how rows are written (sharegpt)"
    )
    for name in ("sharegpt", "messages", "raw"):
        formats.add_argument(
            f"--{name}", dest="format", action="store_const", const=name, help=f"--format {name}"
        )
    parser.add_argument(
        "--tools",
        choices=("service", "hass"),
        help="messages: tools are services, or Home Assistant's own intents (service)",
    )
    roles = parser.add_mutually_exclusive_group()
    roles.add_argument(
        "--no-system-role", action="store_true", help="put the system prompt into the user's first text"
    )
    roles.add_argument(
        "--merged-system-role",
        action="store_true",
        help="end it with a label, for templates that merge it into the user's text",
    )
    parser.add_argument(
        "--home", type=Path, metavar="FILE", help="make the data for one home: YAML, or Home Assistant's JSON"
    )
    parser.add_argument(
        "--requests-per-home", type=int, default=1, metavar="N", help="rows that share one home (1)"
    )
    parser.add_argument(
        "--seed", type=int, default=42, metavar="N", help="the same seed makes the same files (42)"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes (1); the files do not depend on it"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("data"), metavar="DIR", help="where the files go (data)"
    )
    tools = parser.add_argument_group("instead")
    tools.add_argument(
        "--audit", nargs=2, type=Path, metavar=("A", "B"), help="print what two datasets share"
    )
    tools.add_argument("--check-language", type=Path, metavar="DIR", help="say what a language folder lacks")


def run(args: argparse.Namespace) -> int:
    if args.check_language:
        return _check_language(args.check_language)
    if args.audit:
        return _audit(*args.audit)
    return _generate(args)


def _generate(args: argparse.Namespace) -> int:
    from hatrain.errors import BadInput
    from hatrain.home.generate.dataset import FILES, Part, Recipe, generate
    from hatrain.home.generate.formats import SystemRole
    from hatrain.home.homes.known_home import read_home
    from hatrain.home.language.load import find_language

    parts: list[Part] = [part for part in FILES if getattr(args, part)]
    problems = []
    if not parts:
        problems.append("hatrain data: nothing to make (accepted: --train, --test, --dpo, --sample)")
    if args.tools and args.format != "messages":
        problems.append("--tools: only rows of --format messages have tools")
    for name in ("requests_per_home", "workers"):
        if getattr(args, name) < 1:
            problems.append(f"--{name.replace('_', '-')}: found {getattr(args, name)}, accepted: 1 or more")
    if args.seed < 0:
        problems.append(f"--seed: found {args.seed}, accepted: 0 or more")
    if problems:
        raise BadInput(problems)
    if args.home and (left_out := read_home(args.home).left_out):
        print(
            f"{args.home}: {len(left_out)} entities are not for requests: {', '.join(left_out[:5])} …",
            file=sys.stderr,
        )
    role: SystemRole = "none" if args.no_system_role else "merged" if args.merged_system_role else "system"
    recipe = Recipe(
        languages=tuple(dict.fromkeys(find_language(name).name for name in args.language or ["english"])),
        format=args.format or "sharegpt",
        tools=args.tools or "service",
        system_role=role,
        size=args.size or "small",
        seed=args.seed,
        requests_per_home=args.requests_per_home,
        home=args.home,
    )
    for path in generate(recipe, parts, args.out, workers=args.workers, progress=Ticker()).values():
        print(path)
    return 0


class Ticker:
    """Shows rows and rows per second: a line that renews itself on a terminal, one line a file elsewhere."""

    def __init__(self) -> None:
        self._part, self._began, self._shown = "", 0.0, 0.0

    def __call__(self, part: str, done: int, total: int) -> None:
        now = time.monotonic()
        if part != self._part:
            self._part, self._began, self._shown = part, now, 0.0
        over, terminal = done == total, sys.stderr.isatty()
        if not over and (not terminal or now - self._shown < 0.2):
            return
        self._shown = now
        rate = f", {done / (now - self._began):,.0f} rows/s" if now > self._began else ""
        line = f"{part}: {done:,} of {total:,} rows{rate}"
        print(f"\r{line}\033[K" if terminal else line, end="\n" if over else "", file=sys.stderr, flush=True)


def _audit(one: Path, other: Path) -> int:
    from hatrain.home.generate.audit import audit

    for line in audit(one, other).lines():
        print(line)
    return 0


def _check_language(folder: Path) -> int:
    from hatrain.home.language.check import check_language

    report = check_language(folder)
    print("\n".join(report.lines()))
    return 0 if report.good else 1
