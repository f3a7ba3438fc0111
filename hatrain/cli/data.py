"""`hatrain data`: generate the Home Assistant dataset, compare two datasets, check a language folder."""

import argparse
import sys
import time
from pathlib import Path

from hatrain.runtime.counting import Counting

SIZES = {"small": "20,000", "medium": "34,000", "large": "43,000", "xl": "55,000"}
FORMATS = ("sharegpt", "messages", "raw")
_OF_THE_GUIDE = ("format", "tools", "no_system_role", "merged_system_role")
"""Flags of the training guide. Without --client they mean what they mean there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    parts = parser.add_argument_group("files to generate")
    parts.add_argument("--train", action="store_true", help="home_assistant_train.jsonl")
    parts.add_argument(
        "--test", action="store_true", help="home_assistant_test.jsonl; shares no phrase or name with train"
    )
    parts.add_argument(
        "--dpo", action="store_true", help="home_assistant_dpo.jsonl: {system, question, chosen, rejected}"
    )
    parts.add_argument("--sample", action="store_true", help="sample.jsonl: 100 rows per language to look at")
    sizes = parser.add_mutually_exclusive_group()
    for size, rows in SIZES.items():
        help_text = f"{rows} training rows per language" + (" (default)" if size == "small" else "")
        sizes.add_argument(f"--{size}", dest="size", action="store_const", const=size, help=help_text)
    add(
        "--language",
        nargs="+",
        action="extend",
        metavar="LANGUAGE",
        help="names or codes; rows of several languages are shuffled together (default: english)",
    )
    add(
        "--client",
        metavar="CLIENT",
        help="what the model is used with: assist (Home Assistant's own interface; the default), home-llm (the "
        "integration), home-llm-legacy (its older form), or guide (what the training guide's script wrote; the default "
        "with --format, --tools or a --…-system-role)",
    )
    add(
        "--prompt",
        type=Path,
        metavar="FILE",
        help="write system prompts with this Jinja template, copied from the integration's settings",
    )
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument(
        "--format", choices=FORMATS, help="with --client guide: format of the rows (default: sharegpt)"
    )
    for name in FORMATS:
        formats.add_argument(
            f"--{name}", dest="format", action="store_const", const=name, help=f"same as --format {name}"
        )
    add(
        "--single-calls",
        action="store_true",
        help="with calls as messages: one call in a turn and no words beside it, for templates such as Llama 3.2's",
    )
    add(
        "--model",
        metavar="MODEL",
        help="try a sample of the rows with this model's chat template, and write single calls where it needs them",
    )
    add(
        "--ctx-size",
        type=int,
        metavar="N",
        help="with --model: refuse rows that do not fit into a context of N tokens, and say what to hide",
    )
    add(
        "--tools",
        choices=("service", "hass"),
        help="with --client guide --format messages: offer services, or intents, as tools (default: service)",
    )
    roles = parser.add_mutually_exclusive_group()
    roles.add_argument(
        "--no-system-role", action="store_true", help="put the system prompt into the user's first message"
    )
    roles.add_argument(
        "--merged-system-role",
        action="store_true",
        help="end the system prompt with a label, for chat templates that merge it into the user's message",
    )
    add("--home", type=Path, metavar="FILE", help="data for one real home: YAML, or JSON from Home Assistant")
    add("--requests-per-home", type=int, default=1, metavar="N", help="rows that share a home (default: 1)")
    add("--seed", type=int, default=42, metavar="N", help="the same seed gives the same files (default: 42)")
    add(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="number of processes; does not change the files (default: 1)",
    )
    add("--out", type=Path, default=Path("data"), metavar="DIR", help="folder for the files (default: data)")
    others = parser.add_argument_group("other actions")
    others.add_argument(
        "--intents",
        type=Path,
        metavar="DIR",
        help="home_assistant_intents.jsonl: a test set from a clone of home-assistant/intents, for --client",
    )
    others.add_argument(
        "--audit",
        nargs="*",
        type=Path,
        metavar="A B",
        help="show what two datasets share; either may be a clone of home-assistant/intents. With --intents DIR and no "
        "datasets: how much of its sentences the generator can draw",
    )
    others.add_argument(
        "--rows", type=int, metavar="N", help="with --audit --intents: rows to draw in a language (default: 40,000)"
    )
    others.add_argument(
        "--check-language",
        type=Path,
        metavar="DIR",
        help="show what is wrong or missing in a language folder",
    )


def run(args: argparse.Namespace) -> int:
    from hatrain.errors import BadInput

    if args.check_language:
        return _check_language(args.check_language)
    if args.audit is not None:
        return _coverage(args) if args.intents else _audit(args.audit)
    if args.rows is not None:
        raise BadInput("--rows: needs --audit --intents DIR")
    if args.intents:
        return _intents(args)
    return _generate(args)


def _intents(args: argparse.Namespace) -> int:
    from hatrain.errors import BadInput
    from hatrain.home.clients import find_client
    from hatrain.home.intents import ATTRIBUTION
    from hatrain.home.intents.write import write_test_set

    others = ("train", "test", "dpo", "sample", "format", "tools", "home", "prompt", "model", "single_calls")
    if given := [f"--{name.replace('_', '-')}" for name in others if getattr(args, name)]:
        raise BadInput(f"--intents: found {', '.join(given)} beside it; accepted: --client, --language, --seed, --out")
    client = find_client(args.client or "assist").name
    written = write_test_set(args.intents, args.language or ["english"], client, args.out, args.seed)
    for note in written.notes:
        print(note, file=sys.stderr)
    print(ATTRIBUTION, file=sys.stderr)
    print(written.rows)
    print(written.card)
    return 0


def _generate(args: argparse.Namespace) -> int:
    from hatrain.cli.fitting import fitting, size_note
    from hatrain.errors import BadInput, nearest
    from hatrain.home.clients import CLIENTS
    from hatrain.home.generate.dataset import FILES, Part, Recipe, generate
    from hatrain.home.generate.formats import SystemRole
    from hatrain.home.homes.home_file import read_home
    from hatrain.home.language.load import find_language

    parts: list[Part] = [part for part in FILES if getattr(args, part)]
    problems = []
    if not parts:
        problems.append("hatrain data: no files chosen; give one or more of --train, --test, --dpo, --sample")
    client = args.client or ("guide" if any(getattr(args, flag) for flag in _OF_THE_GUIDE) else "assist")
    if client not in CLIENTS:
        problems.append(f"--client: found {client}; accepted: {', '.join(CLIENTS)}{nearest(client, CLIENTS)}")
        client = "guide"
    row_format = (args.format if client == "guide" else None) or CLIENTS[client].row_format
    problems += _contradictions(args, client, row_format)
    for name in ("requests_per_home", "workers"):
        if getattr(args, name) < 1:
            problems.append(f"--{name.replace('_', '-')}: found {getattr(args, name)}, accepted: 1 or more")
    if args.ctx_size is not None and not args.model:
        problems.append("--ctx-size: needs --model, whose tokenizer counts")
    if args.seed < 0:
        problems.append(f"--seed: found {args.seed}, accepted: 0 or more")
    if problems:
        raise BadInput(problems)
    home = read_home(args.home) if args.home else None
    for note in home.notes if home else ():
        print(f"{args.home}: {note}", file=sys.stderr)
    role: SystemRole = "none" if args.no_system_role else "merged" if args.merged_system_role else "system"
    recipe = Recipe(
        languages=tuple(dict.fromkeys(find_language(name).name for name in args.language or ["english"])),
        client=client,
        format=row_format,
        tools=args.tools or "service",
        single_calls=args.single_calls,
        system_role=role,
        size=args.size or "small",
        seed=args.seed,
        requests_per_home=args.requests_per_home,
        home=args.home,
        prompt=args.prompt,
    )
    if args.model:
        recipe = fitting(recipe, args.model, args.ctx_size)
    elif home and (large := size_note(recipe, home)):
        print(large, file=sys.stderr)
    for path in generate(recipe, parts, args.out, workers=args.workers, progress=_Progress()).values():
        print(path)
    return 0


def _contradictions(args: argparse.Namespace, client: str, row_format: str) -> list[str]:
    problems = []
    if args.format and args.format != row_format:
        problems.append(f"--format: found {args.format}; rows of --client {client} are {row_format}")
    if args.tools and (client != "guide" or row_format != "messages"):
        found = f"client {client} has its own" if client != "guide" else "only rows of --format messages have tools"
        problems.append(f"--tools: {found}")
    if args.single_calls and row_format != "messages":
        problems.append("--single-calls: only rows of messages have calls of their own")
    if args.prompt and client == "guide":
        problems.append("--prompt: --client guide has its own layout; accepted with assist, home-llm, home-llm-legacy")
    return problems


class _Progress:
    """Prints rows and rows per second to stderr: a line that updates on a terminal, elsewhere one for each file and
    some in between for a long one."""

    def __init__(self) -> None:
        self._part, self._started, self._printed = "", 0.0, 0.0
        self._counting: Counting | None = None

    def __call__(self, part: str, done: int, total: int) -> None:
        now = time.monotonic()
        if part != self._part:
            self._part, self._started, self._printed = part, now, 0.0
            self._counting = None if sys.stderr.isatty() else Counting(part, "rows", _note)
        finished, terminal = done == total, self._counting is None
        if self._counting:
            self._counting.at(done, total)
        if not finished and (not terminal or now - self._printed < 0.2):
            return
        self._printed = now
        rate = f", {done / (now - self._started):,.0f} rows/s" if now > self._started else ""
        line = f"{part}: {done:,} of {total:,} rows{rate}"
        end = "\n" if finished else ""
        print(f"\r{line}\033[K" if terminal else line, end=end, file=sys.stderr, flush=True)


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _audit(datasets: list[Path]) -> int:
    from hatrain.errors import BadInput
    from hatrain.home.generate.audit import audit

    if len(datasets) != 2:
        raise BadInput(f"--audit: found {len(datasets)} datasets; accepted: two, or none with --intents DIR")
    print("\n".join(audit(*datasets).lines()))
    return 0


def _coverage(args: argparse.Namespace) -> int:
    from hatrain.errors import BadInput
    from hatrain.home.clients import find_client
    from hatrain.home.intents.coverage import ROWS, coverage
    from hatrain.home.intents.coverage_report import report
    from hatrain.home.language.load import find_language, load_language

    rows = ROWS if args.rows is None else args.rows
    others = ("train", "test", "dpo", "sample", "format", "tools", "home", "prompt", "model", "single_calls")
    if given := [*map(str, args.audit), *(f"--{name.replace('_', '-')}" for name in others if getattr(args, name))]:
        accepted = "--client, --language, --rows, --seed"
        raise BadInput(f"--audit --intents: found {', '.join(given)} beside it; accepted: {accepted}")
    if rows < 1:
        raise BadInput(f"--rows: found {rows}, accepted: 1 or more")
    client, progress = find_client(args.client or "assist"), _Progress()
    for name in dict.fromkeys(args.language or ["english"]):
        language = load_language(find_language(name))
        found = coverage(args.intents, language, client, rows, args.seed, progress)
        print("\n".join(report(found)))
    return 0


def _check_language(folder: Path) -> int:
    from hatrain.home.language.check import check_language

    report = check_language(folder)
    print("\n".join(report.lines()))
    return 0 if report.complete else 1
