"""Shell lines of help and documentation, split into commands and given to the real parsers."""

import contextlib
import io
import shlex
from collections.abc import Sequence

from hatrain.cli import VERBS, parser_of
from hatrain.guide import is_guide_command

_SEPARATORS = {"|", "&&", "||", ";", "&"}


def simple_commands(line: str) -> list[list[str]]:
    """Return the words of each command of a line, without redirections, variables set before it, and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    skip = False
    for word in lexer:
        if word in _SEPARATORS:
            commands.append([])
        elif set(word) <= set("<>&"):
            skip = True
        elif skip:
            skip = False
        elif commands[-1] or "=" not in word.partition("/")[0]:
            commands[-1].append(word)
    return [command for command in commands if command]


def accepted(words: Sequence[str]) -> None:
    """Give `hatrain VERB …` to its parser. Raises ValueError with the parser's message when it is refused."""
    _, verb, *rest = words
    if verb in ("--version", "--help"):
        return
    if verb not in VERBS:
        raise ValueError(f"no such verb: {verb}")
    if verb == "train" and (is_guide_command(rest) or rest == ["--help-flags"]):
        return
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message), contextlib.redirect_stdout(io.StringIO()):
            parser_of(verb).parse_args(rest)
    except SystemExit as exit:
        if exit.code:
            raise ValueError(message.getvalue().strip()) from None
