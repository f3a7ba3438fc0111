"""Runs commands of hatrain as with `pip install hatrain` alone, whatever is installed: reads a JSON list of command
lines, writes the exit code and the lines on stderr of each."""

import contextlib
import io
import json
import sys
from importlib.machinery import PathFinder
from pathlib import Path

HERE = Path(__file__).parents[2]
INSTALLED = {
    *("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),
    *("yaml", "_yaml", "rich", "markdown_it", "mdurl", "pygments"),
    *("hatrain", "launch"),
}


class Installed(PathFinder):
    """Finds what is installed; of the rest of the environment nothing."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        root = fullname.partition(".")[0]
        known = root in INSTALLED or root in sys.stdlib_module_names or root.startswith("_sysconfigdata")
        return super().find_spec(fullname, path, target) if known else None


def main() -> None:
    sys.meta_path = [finder for finder in sys.meta_path if finder is not PathFinder] + [Installed]
    sys.path.insert(0, str(HERE))
    from hatrain.cli import main as hatrain

    answers = []
    for command in json.load(sys.stdin):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = hatrain(command)
            except SystemExit as error:
                code = error.code
        answers.append([code, err.getvalue().splitlines()])
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
