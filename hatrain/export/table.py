"""The table of an export: what a smaller file costs."""

from hatrain.export.files import Figures, Report


def rows_of(report: Report) -> list[list[str]]:
    """Return the table, its header first: the model, then each file."""
    rows = [["file", "size", "right where a call is needed", "95%", "strict accuracy", "same answers"]]
    rows.append([f"{report.model} (transformers)", "", *_cells(report.reference)])
    for file in report.files:
        rows.append([file.name, _size(file.bytes), *_cells(file.figures)])
    return rows


def _cells(figures: Figures | None) -> list[str]:
    if figures is None or figures.strict_accuracy is None:
        return ["-", "-", "-", "-"]
    low, high = figures.interval
    needed = "-" if figures.call_accuracy is None else f"{figures.call_accuracy:.3f} of {figures.call_requests}"
    same = f"{figures.same_answers} of {figures.answers}"
    return [needed, f"{low:.3f}-{high:.3f}", f"{figures.strict_accuracy:.3f} of {figures.requests}", same]


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
