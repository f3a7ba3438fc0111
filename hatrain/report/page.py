"""Writes a report as one HTML page that needs no network: style, script and plotly's library are in it."""

import base64
import gzip
import importlib.util
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hatrain.contract import extras
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput
from hatrain.report import content
from hatrain.report.content import Page
from hatrain.report.read import read_run
from hatrain.runtime import seal

HERE = Path(__file__).parent


def missing() -> str | None:
    """Say what is not installed, and how to install it; None where a report can be written."""
    return next(iter(extras.problems("report", "a report")), None)


def report(runs: Sequence[RunDirectory], title: str = "") -> str:
    """Return the page of one run, or of several side by side under a title.

    Raises BadInput for a run whose plan cannot be read, and where a library is missing.
    """
    if problem := missing():
        raise BadInput(problem)
    read = [read_run(run) for run in runs]
    page = content.of_one_run(read[0]) if len(read) == 1 else content.of_several_runs(read, title or "Runs")
    return html(page)


def write(run: RunDirectory) -> Path:
    """Write report.html into a run's directory, and return its path. Raises as `report` does."""
    seal.write_text(run.report, report([run]))
    return run.report


def html(page: Page) -> str:
    """Return a page as HTML. Texts are escaped: answers of models and rows of datasets hold anything."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    charts = {chart.id: chart.spec for section in page.sections for chart in section.charts}
    text = environment.get_template("page.html.jinja").render(
        page=page,
        style=Markup(_static("page.css")),
        script=Markup(_static("page.js")),
        charts=Markup(for_script(charts)) if charts else "",
        plotly=Markup(_plotly()) if charts else "",
    )
    return text.encode("utf-8", "replace").decode("utf-8")  # halves of surrogates, which JSON may hold


def for_script(value: object) -> str:
    """Return JSON that can stand in a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _static(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """Plotly's script, compressed: 1.9 MB instead of 4.8 MB. It is read from the package, which is not imported."""
    spec = importlib.util.find_spec("plotly")
    assert spec is not None and spec.origin is not None
    script = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    return base64.b64encode(gzip.compress(script.read_bytes(), mtime=0)).decode()
