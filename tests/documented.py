"""Commands and links of README.md and docs/*.md."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG"))]
PAGES += sorted((ROOT / "docs").glob("*.md"))
GENERATED = ROOT / "docs/reference.md"
"""Its commands are usage lines, and the examples of the verbs' help."""
_FENCE = re.compile(r"^( *)(`{3,})([a-z-]*)\n(.*?)^\1\2 *$", re.M | re.S)
_PROGRAM = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv[a-z-]*/bin/)?(hatrain|make)(?= \S|$)")


@dataclass(frozen=True)
class Command:
    """A line of a block, or inline code; `whole` is whether it can be given to a shell."""

    page: str
    text: str
    whole: bool

    @property
    def program(self) -> str:
        return _PROGRAM.match(self.text)[1]


def without_blocks(text: str) -> str:
    return _FENCE.sub("", text)


def commands() -> Iterator[Command]:
    """Every line of a block, and every piece of inline code, that begins with hatrain or make."""
    for page in PAGES:
        if page == GENERATED:
            continue
        text = page.read_text(encoding="utf-8")
        name = str(page.relative_to(ROOT))
        for fence in _FENCE.finditer(text):
            lines = fence[4].replace("\\\n", " ").splitlines()
            yield from (Command(name, line.strip(), True) for line in lines if _PROGRAM.match(line.strip()))
        prose = without_blocks(text)
        for line in re.findall(r"^ {4}(\S.*)$", prose, re.M):
            if _PROGRAM.match(line):
                yield Command(name, line.partition("  #")[0].strip(), True)
        for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"^ {4}.*$", "", prose, flags=re.M)):
            if _PROGRAM.match(" ".join(code.split())):
                yield Command(name, " ".join(code.split()), False)


def headings(text: str) -> list[str]:
    return re.findall(r"^#{1,6} +(.+?) *#*$", without_blocks(text), re.M)


def anchor(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def anchors(page: Path) -> list[str]:
    """The anchors of a page's headings; one that comes again gets a number."""
    found: list[str] = []
    for heading in headings(page.read_text(encoding="utf-8")):
        name = anchor(heading)
        found.append(f"{name}-{found.count(name)}" if name in found else name)
    return found


def links(page: Path) -> list[str]:
    """The targets of links and images that are not addresses."""
    text = re.sub(r"`[^`\n]*`", "", without_blocks(page.read_text(encoding="utf-8")))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]
