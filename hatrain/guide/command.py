"""A whole command of the training guide, as it was typed, turned into what to write or type here instead. It runs
nothing."""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from hatrain.contract.spec import HardwareSpec
from hatrain.errors import BadInput, nearest
from hatrain.guide.flags import job_from_flags
from hatrain.guide.job_yaml import job_yaml
from hatrain.guide.launchers import Launch, accelerate, torchrun
from hatrain.guide.machine import first_gpu

ASSUMED_GPU = "a100-80gb"
"""For a command that names no GPU, read where there is none: the guide's runs fit on it."""

DEFAULT_FIND_SPLIT_MODEL = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
"""What find_split.py looks at when it is given no model."""


@dataclass(frozen=True)
class Translation:
    """What a command becomes: a job file, or a command line."""

    text: str
    notes: list[str] = field(default_factory=list)


def translate(command: Sequence[str]) -> Translation:
    """Return what a command of the guide means here. Raises BadInput where it is none, or cannot be read.

    `command` is as a shell leaves it: words, or one word that holds a whole command with its line continuations.
    """
    words = _words(command)
    environment = []
    while words and (words[0] == "env" or re.match(r"[A-Za-z_]\w*=", words[0])):
        if (word := words.pop(0)) != "env":
            environment.append(word)
    launch, script = _launch(words, _visible_gpus(environment))
    if not script:
        raise BadInput(f"{shlex.join(command) or 'nothing'}: no script; accepted: {_ACCEPTED}")
    name, arguments = PurePath(script[0]).name, script[1:]
    if name not in _SCRIPTS:
        raise BadInput(
            f"{script[0]}: not a script of the guide; accepted: {_ACCEPTED}{nearest(name, _SCRIPTS)}"
        )
    translation = _SCRIPTS[name](arguments, launch, _quoted(words))
    return Translation(translation.text, [*_environment_notes(environment), *translation.notes])


def _words(command: Sequence[str]) -> list[str]:
    """Return the words of a command, without the line continuations that a copy brings along."""
    if len(command) == 1:
        try:
            command = shlex.split(re.sub(r"\\\s*\n", " ", command[0]))
        except ValueError as error:
            raise BadInput(f"{command[0]}: not a command line: {str(error).lower()}") from None
    # A backslash with a space behind it reaches us as a word of white space.
    words = [word for word in command if word == "" or word.strip(" \t\r\n\\")]
    return words[1:] if words and words[0] in ("--", "$") else words


def _quoted(words: Sequence[str]) -> str:
    """Return a command over several lines, as it would be typed; no word is broken."""
    lines = [""]
    for word in map(shlex.quote, words):
        if len(lines[-1]) + len(word) > 100:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return " \\\n    ".join(lines)


def _environment_notes(environment: Sequence[str]) -> list[str]:
    names = [word.partition("=")[0] for word in environment]
    return [f"{', '.join(names)}: not part of a job; set where the job runs"] if names else []


def _visible_gpus(environment: Sequence[str]) -> int | None:
    for word in environment:
        name, _, value = word.partition("=")
        if name == "CUDA_VISIBLE_DEVICES" and value.strip(" ,"):
            return len(value.strip(" ,").split(","))
    return None


def _launch(words: Sequence[str], visible: int | None) -> tuple[Launch, list[str]]:
    """Return what the words in front of the script mean, and the script with its arguments."""
    rest = list(words)
    if rest and re.fullmatch(r"python(\d(\.\d+)?)?", PurePath(rest[0]).name):
        rest.pop(0)
        while rest and rest[0] in ("-u", "-O", "-B"):
            rest.pop(0)
        modules = {
            "accelerate.commands.launch": "accelerate launch",
            "torch.distributed.run": "torchrun",
            "torch.distributed.launch": "torchrun",
        }
        if rest[:1] != ["-m"]:
            return Launch(), rest
        rest = modules.get(" ".join(rest[1:2]), " ".join(rest[1:2])).split() + rest[2:]
    match [PurePath(word).name for word in rest[:2]]:
        case ["accelerate", "launch"]:
            return accelerate(rest[2:], visible)
        case ["torchrun", *_]:
            return torchrun(rest[1:], visible)
    return Launch(), rest


# --- the guide's scripts ------------------------------------------------------------------------------------


def _train(arguments: Sequence[str], launch: Launch, command: str) -> Translation:
    notes = list(launch.notes)
    if launch.precision == "bf16" and not any(word.startswith("--bf16") for word in arguments):
        arguments = [*arguments, "--bf16"]
        notes.append("mixed_precision: bf16 of accelerate is taken for --bf16")
    gpu = "cpu" if launch.cpu else first_gpu()
    if gpu is None:
        gpu = ASSUMED_GPU
        notes.append(f"hardware.gpu: the command names none; {gpu} is assumed, write yours")
    hardware = HardwareSpec(
        nodes=launch.nodes,
        gpus_per_node=launch.gpus_per_node,
        gpu=gpu,
        sharding=launch.sharding,
        offload=launch.offload,
    )
    job, job_notes = job_from_flags(arguments, hardware)
    if launch.precision in ("fp16", "no") and job.model.dtype != {"no": "fp32"}.get(launch.precision, "fp16"):
        notes.append(f"mixed_precision: {launch.precision} of accelerate: train.py's own flags win")
    return Translation(job_yaml(job, f"From: {command}"), notes + job_notes)


def _find_split(arguments: Sequence[str], launch: Launch, command: str) -> Translation:
    if len(arguments) > 1 or any(word.startswith("-") for word in arguments):
        raise BadInput(f"find_split.py: found {shlex.join(arguments)!r}; accepted: one model")
    model = arguments[0] if arguments else DEFAULT_FIND_SPLIT_MODEL
    return Translation(shlex.join(["hatrain", "find-split", model]) + "\n")


_LANGUAGES = ("english", "german", "french", "spanish", "polish")
_DATA_SWITCHES = ("train", "test", "dpo", "sample", "small", "medium", "large", "xl")


def _generate(arguments: Sequence[str], launch: Launch, command: str) -> Translation:
    """Return the `hatrain data` command for generate_home_assistant_data.py, whose rows are raw text by default."""
    words = ["hatrain", "data"]
    rows = "raw"
    problems = []
    known = [f"--{name}" for name in (*_DATA_SWITCHES, "sharegpt", "raw_corpus", "language")]
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name = word.removeprefix("--").replace("-", "_")
        if word == "--merge" or word.startswith("--merge="):
            problems.append(
                "--merge: rows are not mixed into a file here; list both files under data.train of a job, "
                "each with its weight"
            )
            rest = rest[1:] if word == "--merge" else rest
        elif word.startswith("--") and name in _DATA_SWITCHES:
            words.append(word)
        elif name in ("sharegpt", "raw_corpus"):
            rows = {"sharegpt": "sharegpt", "raw_corpus": "raw"}[name]
        elif word == "--language":
            languages = []
            while rest and not rest[0].startswith("-"):
                languages.append(rest.pop(0))
            words += ["--language", *languages]
            problems += [
                f"--language: found {language!r}; accepted: {' | '.join(_LANGUAGES)}"
                f"{nearest(language, _LANGUAGES)}"
                for language in languages
                if language not in _LANGUAGES
            ]
        else:
            problems.append(f"{word}: no such flag{nearest(word, known)}")
    if problems:
        raise BadInput(problems)
    return Translation(shlex.join([*words, "--format", rows]) + "\n")


_SCRIPTS: dict[str, Callable[[Sequence[str], Launch, str], Translation]] = {
    "train.py": _train,
    "find_split.py": _find_split,
    "generate_home_assistant_data.py": _generate,
    "generate_data.py": _generate,
}
_ACCEPTED = ", ".join(_SCRIPTS)
