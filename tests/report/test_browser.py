"""A report in a real Chromium without a network: it draws its charts, complains about nothing, asks for nothing else,
and fits a phone."""

from pathlib import Path

import pytest

from hatrain.report import page
from tests.report.browser import Browser, Tab, browser
from tests.report.runs import a_finished_run, a_run
from tests.require import need


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    pytest.importorskip("plotly")
    need("chromium")
    with browser("chromium", tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    one = a_finished_run(folder, "kitchen-" + "with-a-long-name-" * 4)
    others = [
        a_finished_run(folder, f"rate-{number}", 0.6, method__learning_rate=1e-4 * (1 + number)) for number in range(7)
    ]
    written = {"one": page.report([one]), "several": page.report([one, *others, a_run(folder, "waits")], "several")}
    for name, text in written.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in written}


@pytest.mark.parametrize("name", ["one", "several"])
@pytest.mark.parametrize("width", [390, 1200])
def test_a_page_draws_its_charts_without_a_complaint_or_a_request_and_fits(chromium: Browser, pages, name, width):
    tab = Tab(chromium, width)
    tab.open(pages[name])
    assert tab.complaints() == []
    assert tab.requests() == [pages[name].as_uri()]
    assert tab.value("document.title") != "owned"
    drawn = tab.value(
        "[...document.querySelectorAll('.chart')].map((box) => box.querySelectorAll('svg .trace').length)"
    )
    assert len(drawn) >= 8 and min(drawn) >= 1
    assert tab.value("document.documentElement.scrollWidth") <= width
    # Nothing is cut off at the right edge, either.
    assert (
        tab.value(
            "Math.max(...[...document.querySelectorAll('.chart svg')].map((svg) => svg.getBoundingClientRect().right))"
        )
        <= width
    )


def test_charts_follow_the_colour_scheme_and_paper_is_light(chromium: Browser, pages, tmp_path):
    ink = "getComputedStyle(document.querySelector('.chart .xtick text')).fill"
    light, dark = Tab(chromium, 1000), Tab(chromium, 1000, dark=True)
    light.open(pages["one"])
    dark.open(pages["one"])
    on_light, on_dark = light.value(ink), dark.value(ink)
    assert on_light != on_dark
    dark.value("window.dispatchEvent(new Event('beforeprint'))")
    assert dark.value(ink) == on_light
    dark.value("window.dispatchEvent(new Event('afterprint'))")
    assert dark.value(ink) == on_dark
    dark.set_scheme("light")
    dark.until(f"{ink} === {on_light!r}")


def test_a_page_prints(chromium: Browser, pages, tmp_path):
    tab = Tab(chromium, 1000, dark=True)
    tab.open(pages["one"])
    tab.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert tab.complaints() == []
