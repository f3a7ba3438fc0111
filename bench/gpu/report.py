"""The results as a page: bench/RESULTS-gpu.md."""

from collections.abc import Sequence
from typing import Any

from bench.gpu.runner import Part

NOT_MEASURED = "not measured"

COLUMNS = {
    "steps": ("steps", "{:,.0f}"),
    "calls": ("calls", "{:,.0f}"),
    "seconds": ("seconds", "{:.3f}"),
    "share": ("share", "{:.1%}"),
    "gpu_waits": ("GPU waits", "{:.1%}"),
    "rows_per_second": ("rows/s", "{:,.1f}"),
    "tokens_per_second": ("tokens/s", "{:,.0f}"),
    "mfu": ("MFU", "{:.1%}"),
    "tokens_per_row": ("tokens per row", "{:,.0f}"),
    "row_tokens": ("tokens per row", "{:,.0f}"),
    "weights": ("weights", "{:,.0f}"),
    "trained": ("trained", "{:,.0f}"),
    "peak_memory": ("peak, GiB", "GiB"),
    "peak_reserved": ("reserved, GiB", "GiB"),
    "loss": ("loss", "{:.5f}"),
    "loss_difference": ("loss differs by", "{:.1e}"),
    "gradient_distance": ("gradients differ by", "{:.1e}"),
    "weight_distance": ("weights differ by", "{:.1e}"),
    "tolerance": ("tolerance", "{:.1e}"),
    "verdict": ("verdict", "{}"),
}
"""Figures of an item: heading and format, in the order of the columns."""


def page(parts: Sequence[Part], results: dict[str, Any] | None) -> str:
    """The page of a measurement, or of none yet."""
    results = results or {"parts": []}
    measured = {entry["number"]: entry for entry in results["parts"]}
    lines = ["# Measured on a GPU", "", "`bench/gpu.sh` writes this page; docs/gpu.md says what each figure is.", ""]
    facts = [
        ("GPU", results.get("gpu")),
        ("date", results.get("date")),
        ("command", results.get("command") and f"`{results['command']}`"),
        ("commit", results.get("commit")),
        ("versions", ", ".join(f"{name} {version}" for name, version in results.get("versions", {}).items())),
        ("seconds", results.get("seconds") and f"{results['seconds']:.0f}"),
    ]
    lines += [f"- {name}: {value or NOT_MEASURED}" for name, value in facts]
    if results.get("short"):
        lines += [
            "",
            "Short form with tiny shapes: it shows that the script works; its figures mean nothing.",
        ]
    for part in parts:
        lines += ["", f"## {part.number}. {part.title}", ""]
        entry = measured.get(part.number)
        if entry is None:
            lines.append(NOT_MEASURED)
            continue
        if entry["state"] != "done":
            lines += [f"{entry['state']}: {entry['note']}", ""]
        lines += table(entry["items"]) or ([NOT_MEASURED] if entry["state"] == "done" else [])
    return "\n".join(lines).rstrip() + "\n"


def table(items: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of a Markdown table, with a column for each figure that an item has."""
    if not items:
        return []
    columns = [name for name in COLUMNS if any(item.get(name) is not None for item in items)]
    has_notes = any("note" in item or "failed" in item for item in items)
    headings = ["", *(COLUMNS[name][0] for name in columns), *([" "] if has_notes else [])]
    lines = [_row(headings), _row(["---", *("---:" for _ in columns), *(["---"] if has_notes else [])])]
    for item in items:
        cells = [item["item"], *(_cell(name, item.get(name)) for name in columns)]
        lines.append(_row([*cells, *([note(item)] if has_notes else [])]))
    return lines


def note(item: dict[str, Any]) -> str:
    return f"FAILED: {item['failed']}" if "failed" in item else item.get("note", "")


def line(item: dict[str, Any]) -> str:
    """An item on one line, for the terminal."""
    figures = [f"{COLUMNS[name][0]} {_cell(name, item[name])}" for name in COLUMNS if item.get(name) is not None]
    return ": ".join(part for part in (item["item"], "  ".join([*figures, note(item)]).strip()) if part)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    form = COLUMNS[name][1]
    return f"{value / 2**30:.2f}" if form == "GiB" else form.format(value)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
