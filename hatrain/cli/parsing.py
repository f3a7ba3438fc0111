"""The parser of a verb: its help ends with examples, and a mistake is one line with the nearest right name."""

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import NoReturn

from hatrain.errors import nearest

WIDTH = 79
"""Characters of a line of text at the end of a help page."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose `error` is one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, the nearest right name and where to look; exit with 2."""
        print(f"{self.prog}: {message}{self._nearest(message)}; see: {_help_of(self.prog)}", file=sys.stderr)
        sys.exit(2)

    def _nearest(self, message: str) -> str:
        kind, _, rest = message.partition(": ")
        if kind == "unrecognized arguments":
            written = next((word.partition("=")[0] for word in rest.split() if word.startswith("-")), "")
            return nearest(written, self._option_string_actions) if written else ""
        # Python 3.12 leaves the quotes away.
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message)
        return nearest(choice[1], [word.strip(" '") for word in choice[2].split(",")]) if choice else ""


def _help_of(prog: str) -> str:
    program, _, verb = prog.partition(" ")
    return f"{program} help {verb}"


def ending(epilog: str | None, examples: Sequence[tuple[str, str]]) -> str:
    """Return what stands at the end of a help page: a text, if any, and (command, what it does) of each example."""
    parts = [textwrap.fill(epilog, WIDTH, break_on_hyphens=False)] if epilog else []
    lines = [f"  {command}\n      {what}" for command, what in examples]
    return "\n\n".join([*parts, "\n".join(["examples:", *lines])])
