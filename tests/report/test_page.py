"""A page tells what it is asked for, escapes what it shows, and stays small."""

import json
import re

import pytest

from hatrain.cli import main
from hatrain.contract import extras
from hatrain.errors import BadInput
from hatrain.report import page
from hatrain.report.charts import POINTS
from tests.report.runs import HOSTILE, a_finished_run, a_run, begin, end, evaluate, log

pytest.importorskip("plotly")


def text_of(html: str) -> str:
    """What a reader sees, without the scripts and the styles."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def charts_of(html: str) -> dict:
    return json.loads(re.search(r'id="charts">(.*?)</script>', html, re.DOTALL)[1])


def test_the_page_of_a_run_tells_its_results_attempts_failures_and_job(tmp_path):
    html = page.report([a_finished_run(tmp_path)])
    text = text_of(html)
    for said in (
        "kitchen finished",
        "Strict accuracy 80.0% 70.0% to 90.0%, before training 5.0%",
        "Test loss 0.700 before training 6.900",
        "entry: stopped after step 500: preempted",
        "25 requests not answered strictly right after training: action 25. The 20 with the most problems are shown",
        "optimizer steps 1 1,000 of 1,000",
        "learning_rate: 1.0e-05",
    ):
        assert said in text
    assert html.count("<article>") == 20
    assert {"loss", "learning-rate", "throughput", "memory", "by-language", "by-device-type", "by-kind"} <= set(
        charts_of(html)
    )
    assert charts_of(html)["loss"]["marks"] == [[510, "attempt 2"]]


def test_what_a_model_or_a_dataset_says_is_shown_and_never_run(tmp_path):
    html = page.report([a_finished_run(tmp_path)])
    assert HOSTILE not in html
    assert "&lt;/script&gt;&lt;script&gt;document.title" in html and "{{ 7 * 7 }}" in html
    assert len(re.findall(r"<script\b", html)) == 3 and "<img" not in html
    assert charts_of(html)["by-device-type"]["traces"][0]["y"][0] == "&lt;b&gt;lock&lt;/b&gt;"
    assert "</" not in page.for_script({"</script>": "<!--"})


def test_the_page_has_everything_in_it(tmp_path):
    html = page.report([a_finished_run(tmp_path)])
    without_library = re.sub(r'id="plotly">[^<]*', "", html)
    assert re.findall(r"""<[^>]*(?:src|href)=|@import|url\(|https?://""", without_library) == []
    assert len(html) < 3_000_000


@pytest.mark.parametrize("steps", [[1], [], range(1, 60_001)], ids=["one step", "no step", "60,000 steps"])
def test_a_run_of_any_length_has_a_page(tmp_path, steps):
    run = a_run(tmp_path)
    begin(run, 1)
    log(run, steps, 60_000)
    html = page.report([run])
    assert len(html) < 3_000_000
    assert ("Thinned: of each part of a curve" in html) == (len(steps) > POINTS)
    if not steps:
        assert "No step has been logged yet." in html and 'id="plotly"' not in html
    else:
        points = charts_of(html)["loss"]["traces"][0]
        assert len(points["x"]) == len(points["y"]) <= POINTS and points["x"][-1] == steps[-1]


def test_a_run_without_an_evaluation_says_so(tmp_path):
    run = a_run(tmp_path)
    assert "Not evaluated." in text_of(page.report([run]))
    run.evaluation.write_text('{"skipped": "the test set holds pairs, not requests"}')
    assert "Not evaluated: the test set holds pairs, not requests." in text_of(page.report([run]))


def test_a_failed_run_says_why(tmp_path):
    run = a_run(tmp_path)
    begin(run, 1)
    end(run, 1, 78, training="out of GPU memory")
    assert "kitchen failed" in text_of(page.report([run]))
    assert "training: out of GPU memory" in text_of(page.report([run]))


def test_checkpoints_passed_over_and_trackers_that_failed_are_named(tmp_path):
    run = a_run(tmp_path)
    begin(run, 1)
    run.record("checkpoint passed over", attempt=1, checkpoint="checkpoint-9", reason="cut off")
    run.record("tracker failed", tracker="wandb", reason="CommError: no network")
    text = text_of(page.report([run]))
    assert "checkpoint-9 was not whole and was passed over: cut off." in text
    assert "wandb could not go on tracking: CommError: no network." in text


def test_several_runs_stand_side_by_side_the_best_first_with_what_differs(tmp_path):
    low = a_finished_run(tmp_path, "low", 0.5, method__learning_rate=1e-4)
    high = a_finished_run(tmp_path, "high", 0.9, method__learning_rate=2e-4)
    unknown = a_run(tmp_path, "waits", method__learning_rate=3e-4)
    html = page.report([low, unknown, high], "rates")
    rows = re.findall(r'<td data-label="run">(.*?)</td><td data-label="method.learning_rate">(.*?)</td>', html)
    assert rows == [("high", "0.0002"), ("low", "0.0001"), ("waits", "0.0003")]
    assert "data.train" not in html and 'data-label="seed"' not in html
    charts = charts_of(html)
    assert [trace["name"] for trace in charts["loss"]["traces"]] == ["high", "low"]
    assert [trace["color"] for trace in charts["test-loss"]["traces"]] == [0, 1]
    assert [trace["name"] for trace in charts["by-language"]["traces"]] == ["high", "low"]


def test_runs_are_ordered_by_the_requests_that_need_a_call_where_these_were_counted(tmp_path):
    runs = []
    for name, strict, needed in (("talks", 0.9, 0.3), ("acts", 0.8, 0.7)):
        runs.append(a_finished_run(tmp_path, name, strict))
        figures = json.loads(runs[-1].evaluation.read_text())
        figures["after"] |= {"call_accuracy": needed, "call_interval": [needed - 0.1, needed + 0.1]}
        runs[-1].evaluation.write_text(json.dumps(figures))
    assert re.findall(r'<td data-label="run">(.*?)</td>', page.report(runs, "two")) == ["acts", "talks"]
    assert "Right where a call is needed 70.0% 60.0% to 80.0%" in text_of(page.report(runs[1:]))


def test_runs_without_an_evaluation_are_ordered_by_their_loss(tmp_path):
    runs = []
    for name, rate in (("slow", 0.5), ("fast", 2.0)):
        runs.append(a_run(tmp_path, name))
        log(runs[-1], range(1, 101), 100, rate=rate)
    html = page.report(runs, "two")
    assert re.findall(r'<td data-label="run">(.*?)</td>', html) == ["fast", "slow"]


# --- the verb -----------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path / "runs"))
    return tmp_path


def test_the_verb_writes_the_page_of_a_run_into_its_folder(here, capsys):
    run = a_finished_run(here)
    assert main(["report", "kitchen"]) == 0
    assert capsys.readouterr().out == f"{run.folder / 'report.html'}\n"
    assert "kitchen" in (run.folder / "report.html").read_text()


def test_the_verb_writes_the_page_of_a_sweep_into_the_sweeps_folder(here):
    for number in range(2):
        (here / f"runs/rates/sweep/{number}").mkdir(parents=True)
        a_run(here, "one").plan_file.rename(here / f"runs/rates/sweep/{number}/plan.json")
    assert main(["report", "rates"]) == 0
    text = (here / "runs/rates/report.html").read_text()
    assert "rates/sweep/0" in text and "rates/sweep/1" in text


def test_the_verb_writes_where_it_is_told(here):
    a_finished_run(here)
    a_run(here, "other")
    assert main(["report", "kitchen", "other", "--out", "both.html"]) == 0
    assert "2 runs side by side" in (here / "both.html").read_text()


def test_a_run_that_does_not_exist_is_refused_with_the_nearest_name(here, capsys):
    a_run(here)
    assert main(["report", "kitchn"]) == 2
    assert "did you mean kitchen?" in capsys.readouterr().err


def test_a_folder_is_no_file_to_write(here, capsys):
    a_run(here)
    assert main(["report", "kitchen", "--out", "."]) == 2
    assert "--out .: found a folder" in capsys.readouterr().err


def test_without_the_library_the_verb_says_how_to_install_it(here, monkeypatch, capsys):
    a_run(here)
    monkeypatch.setattr(extras, "EXTRAS", {**extras.EXTRAS, "report": ("no_such_library",)})
    assert main(["report", "kitchen"]) == 2
    line = "hatrain report: a report needs no-such-library, not installed here: pip install 'hatrain[report]'\n"
    assert capsys.readouterr().err == line
    with pytest.raises(BadInput, match="pip install"):
        page.report([])


def test_no_evaluation_group_without_accuracy_breaks_a_page(tmp_path):
    run = a_run(tmp_path)
    evaluate(run, 0.5)
    figures = json.loads(run.evaluation.read_text())
    figures["after"]["by_language"]["xx"] = {"requests": 0, "strict_accuracy": None}
    run.evaluation.write_text(json.dumps(figures))
    assert charts_of(page.report([run]))["by-language"]["traces"][1]["y"] == ["de", "en", "pl"]
