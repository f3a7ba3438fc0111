"""Generates whole datasets: which rows, in what order, by how many processes, into which files.

Row i of a language is a function of (seed, language, i), so the files are the same on any machine and for any number
of processes, and no rows are held in memory.
"""

import gc
import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from hatrain.errors import BadInput
from hatrain.home.clients import CLIENTS, find_client
from hatrain.home.clients.client import Client, RowFormat
from hatrain.home.clients.guide import Guide
from hatrain.home.clients.guide_tools import Tools
from hatrain.home.generate.conversation import Conversation
from hatrain.home.generate.conversations import ConversationGenerator
from hatrain.home.generate.drafts import Call
from hatrain.home.generate.formats import (
    Layout,
    Row,
    SystemRole,
    dump,
    messages_row,
    preference_row,
    raw_row,
    sharegpt_row,
)
from hatrain.home.generate.preferences import Rejections
from hatrain.home.homes.home import Draw, Home, Homes
from hatrain.home.homes.home_file import read_home
from hatrain.home.homes.known_home import KnownHome
from hatrain.home.homes.random_homes import RandomHomes
from hatrain.home.homes.scene import WritePrompt
from hatrain.home.language.load import Language, find_language, load_language
from hatrain.home.language.split import Side, split_names, split_templates

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
CHUNK = 256  # homes that a process generates at a time
_PAIR_TRIES = 2_000  # conversations drawn for one pair; a home of sensors alone has hardly any with a rejected answer
_LARGE_HOMES = 0.1  # share of homes with up to 128 devices, in the messages format


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the contents of the files.

    `format` and `tools` are settings of the client `guide`; the others have their own. `home` is the file of a user's
    home, `prompt` that of a template of the system prompt, if there is one.
    """

    languages: tuple[str, ...] = ("english",)
    client: str = "guide"
    format: RowFormat = "sharegpt"
    tools: Tools = "service"
    single_calls: bool = False
    system_role: SystemRole = "system"
    size: Size = "small"
    seed: int = 42
    requests_per_home: int = 1
    home: Path | None = None
    prompt: Path | None = None

    @property
    def writes_for(self) -> Client:
        if self.client == CLIENTS["guide"].name:
            return Guide(row_format=self.format, tools_of=self.tools)
        return find_client(self.client)

    def rows(self, part: Part) -> int:
        if part == "train":
            return TRAIN_ROWS[self.size]
        return {"test": TEST_ROWS, "dpo": DPO_ROWS, "sample": SAMPLE_ROWS}[part]


def _key(*parts: object) -> int:
    return int.from_bytes(blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest())


def shuffled(count: int, key: int) -> list[int]:
    """Return range(count) in an order that depends on `key` alone.

    It sorts by random(), the one sequence that Python promises never to change; random.shuffle may change.
    """
    draw = random.Random(key).random
    return sorted(range(count), key=lambda _: draw())


def _prompt_writer(path: Path, client: Client) -> WritePrompt:
    from hatrain.home.clients.prompt_file import PromptFile  # Jinja takes a while to import

    return PromptFile.read(path, client).write


class RowSource:
    """Generates the rows of one part of one language, home by home."""

    def __init__(self, recipe: Recipe, part: Part, language: Language):
        side: Side = "test" if part == "test" else "train"
        self._recipe, self._part, self._client = recipe, part, recipe.writes_for
        if part == "dpo" and recipe.client == Guide.name:
            self._client = Guide()  # the guide's pairs are text in every format
        write = _prompt_writer(recipe.prompt, self._client) if recipe.prompt else None
        homes: Homes
        if recipe.home:
            homes = KnownHome(language, read_home(recipe.home), self._client, write)
        else:
            homes = RandomHomes(language, split_names(language.names, side), self._client, write)
        apart = self._client.row_format == "messages" and part != "dpo"
        self._homes, self._with_large_homes = homes, apart
        self._generator = ConversationGenerator(
            language, split_templates(language, side), homes, self._client, apart=apart
        )
        self._layout = Layout(
            self._client,
            language.code,
            recipe.system_role,
            language.labels["instruction"],
            single_calls=recipe.single_calls,
            with_home=part in ("test", "dpo"),
        )
        self._key = _key(recipe.seed, language.code, "train" if part == "sample" else part)
        self._random = random.Random()
        if part == "dpo":
            self._rejections = Rejections(self._generator, side)
        self._make = self._preference if part == "dpo" else self._row

    def lines(self, index: int) -> Iterator[str]:
        """Yield the rows of home number `index`, a line of JSON each. Each row is a function of its number alone."""
        for _, row in self.drawn(index):
            yield dump(row, self._client)

    def drawn(self, index: int) -> Iterator[tuple[Conversation, Row]]:
        """Yield the rows of home number `index` before their tools are written out, with what each was made from."""
        recipe, seed, draw = self._recipe, self._random.seed, self._random.random
        seed(self._key << 64 | index << 1)
        home = self._homes.draw(draw, 128 if self._with_large_homes and draw() < _LARGE_HOMES else 32)
        first = index * recipe.requests_per_home
        for number in range(first, min(first + recipe.requests_per_home, recipe.rows(self._part))):
            seed(self._key << 64 | number << 1 | 1)
            yield self._make(draw, home, index)

    def _row(self, draw: Draw, home: Home, index: int) -> tuple[Conversation, Row]:
        conversation, layout = self._generator.draw(draw, home), self._layout
        name = f"{layout.language}-{index}" if self._recipe.requests_per_home > 1 else None
        if self._client.row_format == "messages":
            return conversation, messages_row(draw, conversation, layout, name)
        return conversation, (raw_row if self._client.row_format == "raw" else sharegpt_row)(conversation, layout, name)

    def _preference(self, draw: Draw, home: Home, index: int) -> tuple[Conversation, Row]:
        for _ in range(_PAIR_TRIES):
            conversation = self._generator.draw(draw, home)
            rejected = self._rejections.draw(draw, conversation)
            if rejected and all(self._client.offers(call["service"], _arguments(call)) for call in rejected.step.calls):
                row = preference_row(conversation, rejected.step, self._layout)
                return conversation, {**row, "error": rejected.error}
        names = ", ".join(device.name.entity_id for device in home.devices)
        raise BadInput(f"--dpo: no request to this home has an answer that could be rejected; its devices: {names}")


def _arguments(call: Call) -> list[str]:
    return [key for key in call if key not in ("service", "target_device")]


class Chunks:
    """Generates the file of one part, any chunk of it at a time. Each process has one."""

    def __init__(self, recipe: Recipe, part: Part):
        languages = [load_language(find_language(name)) for name in recipe.languages]
        self._sources = [RowSource(recipe, part, language) for language in languages]
        self._homes = -(-recipe.rows(part) // recipe.requests_per_home)  # of each language
        self._order = shuffled(self._homes * len(languages), _key(recipe.seed, "order", part))

    @property
    def homes(self) -> int:
        """The number of homes in the file. Rows of one home stand together."""
        return len(self._order)

    def chunk(self, start: int) -> tuple[str, int]:
        """Return the lines of at most `CHUNK` homes from position `start` on, and the number of lines."""
        lines: list[str] = []
        for home in self._order[start : start + CHUNK]:
            source, index = divmod(home, self._homes)
            lines += self._sources[source].lines(index)
        return "".join(lines), len(lines)


def _work(recipe: Recipe, part: Part, starts: Sequence[int], pipe: Connection) -> None:
    chunks = Chunks(recipe, part)
    with _names_and_phrases_kept():
        for start in starts:
            pipe.send(chunks.chunk(start))


@contextmanager
def _names_and_phrases_kept() -> Iterator[None]:
    """Keep what has been loaded out of garbage collection: it stays, and searching it takes a tenth of the time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _chunks_in_order(chunks: Chunks, recipe: Recipe, part: Part, workers: int) -> Iterator[tuple[str, int]]:
    """Yield the chunks of a file. Each worker generates every n-th, and waits until it is read."""
    starts = range(0, chunks.homes, CHUNK)
    if workers == 1:
        with _names_and_phrases_kept():
            yield from map(chunks.chunk, starts)
        return
    spawn = multiprocessing.get_context("spawn")
    processes, pipes = [], []
    # Ctrl-C reaches every process. Workers start with SIGINT blocked, and this process ends them. Python's resource
    # tracker, which starts with the first worker, would unblock the signal here: start it before.
    resource_tracker.ensure_running()
    signals_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for worker in range(workers):
            reader, writer = spawn.Pipe(duplex=False)
            arguments = (recipe, part, starts[worker::workers], writer)
            processes.append(spawn.Process(target=_work, args=arguments, daemon=True))
            pipes.append(reader)
            processes[-1].start()
            writer.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, signals_before)
        for index in range(len(starts)):
            try:
                yield pipes[index % workers].recv()
            except EOFError:
                raise RuntimeError("a worker process died; is there enough memory?") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals_before)
        for process in processes:
            process.terminate()
            process.join()


Progress = Callable[[Part, int, int], None]  # part, rows so far, rows in all


def generate(
    recipe: Recipe, parts: Sequence[Part], out: Path, *, workers: int = 1, progress: Progress | None = None
) -> dict[Part, Path]:
    """Write the files of some parts into a folder, and return their paths.

    Each file appears only when it is complete. Raises BadInput for a language or a home file that cannot be used.
    """
    chunks_of = {part: Chunks(recipe, part) for part in parts}
    out.mkdir(parents=True, exist_ok=True)
    written: dict[Part, Path] = {}
    for part, chunks in chunks_of.items():
        written[part] = target = out / FILES[part]
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        total, done = recipe.rows(part) * len(recipe.languages), 0
        try:
            with unfinished.open("w", encoding="utf-8", newline="\n") as stream:
                for text, rows in _chunks_in_order(chunks, recipe, part, workers):
                    stream.write(text)
                    done += rows
                    if progress:
                        progress(part, done, total)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    return written


def rows_of(recipe: Recipe, part: Part) -> Iterator[Row]:
    """Yield the rows of a part in the order of its file, without writing them."""
    for text, _ in _chunks_in_order(Chunks(recipe, part), recipe, part, 1):
        yield from map(json.loads, text.splitlines())
