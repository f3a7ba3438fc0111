"""Generates whole datasets: which rows there are, in what order, by how many workers, into which files.

Row i of a language is a function of (seed, language, i); the order in the file is a keyed permutation. So nothing
is held in memory, and the file is the same on any machine and for any number of workers.
"""

import json
import math
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from hatrain.home.generate.conversations import Speaker
from hatrain.home.generate.formats import (
    Format,
    Row,
    SystemRole,
    Tools,
    dump,
    messages_row,
    preference_row,
    raw_row,
    sharegpt_row,
)
from hatrain.home.generate.preferences import spoil
from hatrain.home.homes.home import Draw, Home, Homes
from hatrain.home.homes.known_home import KnownHome, read_home
from hatrain.home.homes.random_homes import RandomHomes
from hatrain.home.language.load import Language, find_language, load_language
from hatrain.home.language.split import Side, split_names, split_piles

Size = Literal["small", "medium", "large", "xl"]
Part = Literal["train", "test", "dpo", "sample"]

# Rows per language.
TRAIN_ROWS: dict[Size, int] = {"small": 20_000, "medium": 34_000, "large": 43_000, "xl": 55_000}
TEST_ROWS, DPO_ROWS, SAMPLE_ROWS = 2_500, 3_000, 100
FILES: dict[Part, str] = {
    "train": "home_assistant_train.jsonl",
    "test": "home_assistant_test.jsonl",
    "dpo": "home_assistant_dpo.jsonl",
    "sample": "sample.jsonl",
}
_CHUNK = 256  # homes that a worker makes at a time
_CROWDED = 0.1  # share of homes with up to 128 devices, in messages


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the files hold. `home` is a file that describes one home, or nothing."""

    languages: tuple[str, ...] = ("english",)
    format: Format = "sharegpt"
    tools: Tools = "service"
    system_role: SystemRole = "system"
    size: Size = "small"
    seed: int = 42
    requests_per_home: int = 1
    home: Path | None = None

    def rows(self, part: Part) -> int:
        """Return the number of rows of each language."""
        return {"train": TRAIN_ROWS[self.size], "test": TEST_ROWS, "dpo": DPO_ROWS, "sample": SAMPLE_ROWS}[
            part
        ]


def permuted(position: int, count: int, key: int) -> int:
    """Return where `position` goes in a permutation of range(count) that `key` chooses.

    A generalised Feistel network over a grid that just holds the range, walked until it is back in range (Black
    and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
    """
    width = math.isqrt(count - 1) + 1
    height = -(-count // width)
    while True:
        row, column = divmod(position, width)
        for turn in range(0, 4, 2):
            row = (row + _mix(column, key + turn)) % height
            column = (column + _mix(row, key + turn + 1)) % width
        position = row * width + column
        if position < count:
            return position


def _mix(value: int, key: int) -> int:
    """Return 32 well stirred bits of two numbers (after the finalizer of MurmurHash3)."""
    value = (value * 0x9E3779B1 + key * 0x85EBCA77 + 0x165667B1) & 0xFFFFFFFF
    value = (value ^ value >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16


def _key(*parts: object) -> int:
    return int.from_bytes(blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest())


class RowSource:
    """Makes the rows of one part of one language, home by home."""

    def __init__(self, recipe: Recipe, part: Part, language: Language):
        side: Side = "test" if part == "test" else "train"
        self._recipe, self._part, self._language = recipe, part, language
        messages = recipe.format == "messages" and part != "dpo"
        homes: Homes
        if recipe.home:
            homes = KnownHome(language, read_home(recipe.home), list_services=not messages)
        else:
            homes = RandomHomes(language, split_names(language.names, side), list_services=not messages)
        self._homes, self._crowded = homes, messages
        intents = messages and recipe.tools == "hass"
        self._speaker = Speaker(
            language, split_piles(language, side), homes, reports=messages, intents=intents
        )
        self._key = _key(recipe.seed, language.code, "train" if part == "sample" else part)
        self._random = random.Random()
        self._make = self._preference if part == "dpo" else self._row

    def lines(self, index: int) -> Iterator[str]:
        """Yield the rows of home number `index`, each a line of JSON and a function of its number alone."""
        recipe, generator = self._recipe, self._random
        # random() of a seeded Mersenne Twister is the one sequence that Python promises never to change.
        draw = generator.random
        generator.seed(self._key << 64 | index << 1)
        home = self._homes.draw(draw, 128 if self._crowded and draw() < _CROWDED else 32)
        first = index * recipe.requests_per_home
        for number in range(first, min(first + recipe.requests_per_home, recipe.rows(self._part))):
            generator.seed(self._key << 64 | number << 1 | 1)
            yield dump(self._make(draw, home, index))

    def _row(self, draw: Draw, home: Home, index: int) -> Row:
        recipe = self._recipe
        conversation = self._speaker.draw(draw, home)
        common: dict[str, Any] = {
            "language": self._language.code,
            "home": f"{self._language.code}-{index}" if recipe.requests_per_home > 1 else None,
            "role": recipe.system_role,
            "instruction": self._language.labels["instruction"],
        }
        if recipe.format == "messages":
            return messages_row(conversation, **common, tools=recipe.tools)
        return (raw_row if recipe.format == "raw" else sharegpt_row)(conversation, **common)

    def _preference(self, draw: Draw, home: Home, index: int) -> Row:
        while True:
            conversation = self._speaker.draw(draw, home)
            spoiled = spoil(draw, self._speaker, conversation)
            if spoiled:
                return preference_row(conversation, spoiled[0])


class Writer:
    """Makes any stretch of one part's file. A worker process holds one."""

    def __init__(self, recipe: Recipe, part: Part):
        languages = [load_language(find_language(name)) for name in recipe.languages]
        self._sources = [RowSource(recipe, part, language) for language in languages]
        self._homes = -(-recipe.rows(part) // recipe.requests_per_home)  # of each language
        self._order = _key(recipe.seed, "order", part)

    @property
    def homes(self) -> int:
        """The number of homes in the file: its rows come in groups, one for each."""
        return self._homes * len(self._sources)

    def stretch(self, start: int) -> tuple[str, int]:
        """Return the lines of the homes from position `start` on, at most a chunk of them, and their number."""
        lines: list[str] = []
        for position in range(start, min(start + _CHUNK, self.homes)):
            source, index = divmod(permuted(position, self.homes, self._order), self._homes)
            lines += self._sources[source].lines(index)
        return "".join(lines), len(lines)


def _work(recipe: Recipe, part: Part, starts: Sequence[int], pipe: Connection) -> None:
    writer = Writer(recipe, part)
    for start in starts:
        pipe.send(writer.stretch(start))


def _stretches(writer: Writer, recipe: Recipe, part: Part, workers: int) -> Iterator[tuple[str, int]]:
    """Yield the stretches of a file in order. Each worker makes every n-th, and waits until it is taken."""
    starts = range(0, writer.homes, _CHUNK)
    if workers == 1:
        yield from map(writer.stretch, starts)
        return
    spawn = multiprocessing.get_context("spawn")
    processes, pipes = [], []
    # Ctrl-C reaches every process: workers are born deaf to it, and the one that writes ends them. The tracker
    # that Python starts with the first of them would make this process hear again, so it is started before.
    resource_tracker.ensure_running()
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for worker in range(workers):
            taking, giving = spawn.Pipe(duplex=False)
            arguments = (recipe, part, starts[worker::workers], giving)
            processes.append(spawn.Process(target=_work, args=arguments, daemon=True))
            pipes.append(taking)
            processes[-1].start()
            giving.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
        for index in range(len(starts)):
            try:
                yield pipes[index % workers].recv()
            except EOFError:
                raise RuntimeError(
                    "a worker died before its rows were made; is there enough memory?"
                ) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
        for process in processes:
            process.terminate()
            process.join()


Progress = Callable[[Part, int, int], None]  # part, rows so far, rows in all


def generate(
    recipe: Recipe, parts: Sequence[Part], out: Path, *, workers: int = 1, progress: Progress | None = None
) -> dict[Part, Path]:
    """Write the files of some parts into a folder, and return their paths.

    Each is written aside and renamed when it is whole. Raises BadInput for an unknown language, for a language
    or a home file that cannot be used.
    """
    writers = {part: Writer(recipe, part) for part in parts}
    out.mkdir(parents=True, exist_ok=True)
    written: dict[Part, Path] = {}
    for part, writer in writers.items():
        written[part] = target = out / FILES[part]
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        total, done = recipe.rows(part) * len(recipe.languages), 0
        try:
            with aside.open("w", encoding="utf-8", newline="\n") as stream:
                for text, rows in _stretches(writer, recipe, part, workers):
                    stream.write(text)
                    done += rows
                    if progress:
                        progress(part, done, total)
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
    return written


def rows_of(recipe: Recipe, part: Part) -> Iterator[Row]:
    """Yield the rows of one part in the order of its file, without writing them."""
    for text, _ in _stretches(Writer(recipe, part), recipe, part, 1):
        yield from map(json.loads, text.splitlines())
