"""Prints the coverage of a language."""

from collections import Counter
from collections.abc import Callable, Iterator

from hatrain.home.intents.coverage import Coverage
from hatrain.home.intents.shape import Shape


def report(found: Coverage) -> Iterator[str]:
    """Yield the lines: shares, verbatim matches, coverage by intent and domain, and each shape that is not covered."""
    sentences = found.sentences
    yield f"{found.language}: {len(sentences):,} sentences; {found.rows:,} rows drawn for {found.client}"
    services = [shape for _, shape in sentences if shape.is_service]
    for title, shapes in (("service sentences", services), ("all sentences", [shape for _, shape in sentences])):
        yield f"  {title} covered: {_share(sum(map(found.covered, shapes)), len(shapes))}"
    yield f"  known bigrams: {found.known_bigrams:.1%}"
    yield f"  verbatim matches: {len(found.verbatim)} (never copy tests into the tables)"
    yield from (f"    {text}" for text in found.verbatim)
    yield from _table("intent", found, lambda shape: shape.intent)
    yield from _table("domain", found, lambda shape: shape.domain or "-")
    counts = Counter(shape for _, shape in sentences)
    examples = {shape: text for text, shape in reversed(sentences)}
    missing = sorted(
        (shape for shape in counts if not found.covered(shape)), key=lambda each: (-counts[each], str(each))
    )
    yield f"  shapes covered: {_share(len(counts) - len(missing), len(counts))}"
    if missing:
        yield "  not covered (sentences: intent, domain, what is said: an example)"
    yield from (f"  {counts[shape]:5}  {shape}: {examples[shape]}" for shape in missing)


def _table(title: str, found: Coverage, key: Callable[[Shape], str]) -> Iterator[str]:
    total = Counter(key(shape) for _, shape in found.sentences)
    covered = Counter(key(shape) for _, shape in found.sentences if found.covered(shape))
    yield f"  by {title}, in sentences"
    for name, number in sorted(total.items(), key=lambda each: (-each[1], each[0])):
        yield f"    {name:32} {_share(covered[name], number)}"


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / (whole or 1):.1%})"
