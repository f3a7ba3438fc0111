"""Translates a whole command of the training guide into a job file, or into the matching hatrain command."""

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
from hatrain.guide.shell import find_command
from hatrain.runtime import credentials

ASSUMED_GPU = "a100-80gb"
"""For a command read on a machine without a GPU: the guide's runs fit on it."""

DEFAULT_FIND_SPLIT_MODEL = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
"""find_split.py's default."""


@dataclass(frozen=True)
class Translation:
    text: str
    """A job file, or a command line."""
    notes: list[str] = field(default_factory=list)


def translate(command: Sequence[str]) -> Translation:
    """Translate a command. Raises BadInput if it is not one of the guide's, or cannot be read.

    `command` holds arguments as a shell splits them, or one argument with a whole command and its line continuations.
    """
    pasted = find_command(command, _start)
    launch, script = _launch(pasted.words, _visible_gpus(pasted.environment))
    if not script:
        raise BadInput(f"{shlex.join(command) or 'nothing'}: no script; accepted: {_ACCEPTED}")
    name = PurePath(script[0]).name
    if name not in _SCRIPTS:
        raise BadInput(f"{script[0]}: not a script of the guide; accepted: {_ACCEPTED}{nearest(name, _SCRIPTS)}")
    translation = _SCRIPTS[name](script[1:], launch, _quoted(pasted.words))
    notes = [*_left_out_note(pasted.left_out), *_environment_notes(pasted.environment), *translation.notes]
    return Translation(translation.text, notes)


def _start(words: Sequence[str]) -> int | None:
    """Return where a command of the guide begins behind wrappers such as `nohup`; None for another command."""
    names = [PurePath(word.strip("'\"")).name for word in words]
    if not any(name in _SCRIPTS for name in names):
        return None
    starts = (i for i, name in enumerate(names) if _STARTS.fullmatch(name) or name in _SCRIPTS)
    return next(starts)


_STARTS = re.compile(r"python(\d(\.\d+)?)?|accelerate|torchrun")


def _quoted(arguments: Sequence[str]) -> str:
    """Write a command over several lines, as it would be typed."""
    lines = [""]
    for argument in map(shlex.quote, arguments):
        if len(lines[-1]) + len(argument) > 100:
            lines.append("")
        lines[-1] = f"{lines[-1]} {argument}".lstrip()
    return " \\\n    ".join(lines)


def _left_out_note(left_out: Sequence[str]) -> list[str]:
    return [f"left out of the job: {credentials.hide(', '.join(left_out))}"] if left_out else []


def _environment_notes(environment: Sequence[str]) -> list[str]:
    names = [assignment.partition("=")[0] for assignment in environment]
    return (
        [f"{', '.join(names)}: not part of a job; set them under environment or secrets of a cluster file"]
        if names
        else []
    )


def _visible_gpus(environment: Sequence[str]) -> int | None:
    for assignment in environment:
        name, _, value = assignment.partition("=")
        if name == "CUDA_VISIBLE_DEVICES" and value.strip(" ,"):
            return len(value.strip(" ,").split(","))
    return None


def _launch(arguments: Sequence[str], visible: int | None) -> tuple[Launch, list[str]]:
    rest = list(arguments)
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
    match [PurePath(argument).name for argument in rest[:2]]:
        case ["accelerate", "launch"]:
            return accelerate(rest[2:], visible)
        case ["torchrun", *_]:
            return torchrun(rest[1:], visible)
    return Launch(), rest


# --- the guide's scripts ------------------------------------------------------------------------------------


def _train(arguments: Sequence[str], launch: Launch, command: str) -> Translation:
    notes = list(launch.notes)
    if launch.precision == "bf16" and not any(argument.startswith("--bf16") for argument in arguments):
        arguments = [*arguments, "--bf16"]
        notes.append("accelerate's mixed_precision: bf16 is read as --bf16")
    gpu = "cpu" if launch.cpu else first_gpu()
    if gpu is None:
        gpu = ASSUMED_GPU
        notes.append(f"hardware.gpu: not in the command; assumed {gpu}, change it to yours")
    hardware = HardwareSpec(
        nodes=launch.nodes,
        gpus_per_node=launch.gpus_per_node,
        gpu=gpu,
        sharding=launch.sharding,
        offload=launch.offload,
    )
    job, job_notes = job_from_flags(arguments, hardware)
    if launch.precision in ("fp16", "no") and job.model.dtype != {"no": "fp32"}.get(launch.precision, "fp16"):
        notes.append(f"accelerate's mixed_precision: {launch.precision} is ignored: train.py's flags take precedence")
    return Translation(job_yaml(job, f"From: {command}"), notes + job_notes)


def _find_split(arguments: Sequence[str], launch: Launch, command: str) -> Translation:
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        raise BadInput(f"find_split.py: found {shlex.join(arguments)!r}; accepted: one model")
    model = arguments[0] if arguments else DEFAULT_FIND_SPLIT_MODEL
    return Translation(shlex.join(["hatrain", "find-split", model]) + "\n")


_LANGUAGES = ("english", "german", "french", "spanish", "polish")
_DATA_SWITCHES = ("train", "test", "dpo", "sample", "small", "medium", "large", "xl")


def _generate(arguments: Sequence[str], launch: Launch, command: str) -> Translation:
    """Return the `hatrain data` command. The guide's script writes raw text by default."""
    translated = ["hatrain", "data"]
    rows = "raw"
    problems = []
    known = [f"--{name}" for name in (*_DATA_SWITCHES, "sharegpt", "raw_corpus", "language")]
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name = argument.removeprefix("--").replace("-", "_")
        if argument == "--merge" or argument.startswith("--merge="):
            problems.append("--merge: not supported; list both files under data.train of a job, each with its weight")
            rest = rest[1:] if argument == "--merge" else rest
        elif argument.startswith("--") and name in _DATA_SWITCHES:
            translated.append(argument)
        elif name in ("sharegpt", "raw_corpus"):
            rows = {"sharegpt": "sharegpt", "raw_corpus": "raw"}[name]
        elif argument == "--language":
            languages = []
            while rest and not rest[0].startswith("-"):
                languages.append(rest.pop(0))
            translated += ["--language", *languages]
            problems += [
                f"--language: found {language!r}; accepted: {' | '.join(_LANGUAGES)}{nearest(language, _LANGUAGES)}"
                for language in languages
                if language not in _LANGUAGES
            ]
        else:
            problems.append(f"{argument}: no such flag{nearest(argument, known)}")
    if problems:
        raise BadInput(problems)
    return Translation(shlex.join([*translated, "--format", rows]) + "\n")


_SCRIPTS: dict[str, Callable[[Sequence[str], Launch, str], Translation]] = {
    "train.py": _train,
    "find_split.py": _find_split,
    "generate_home_assistant_data.py": _generate,
    "generate_data.py": _generate,
}
_ACCEPTED = ", ".join(_SCRIPTS)
