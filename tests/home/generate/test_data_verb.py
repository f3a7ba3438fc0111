"""`hatrain data` on the command line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hatrain.cli import main
from hatrain.home.language.load import LANGUAGES
from tests.families import build_tokenizer


def test_a_sample_is_written_to_the_folder_that_out_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--sample", "--sharegpt", "--language", "en", "--out", str(tmp_path / "new")]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path}/new/sample.jsonl\n"
    assert printed.err.startswith("sample: 100 of 100 rows")
    assert len((tmp_path / "new" / "sample.jsonl").read_text().splitlines()) == 100


def test_generating_data_loads_nothing_of_jobs_and_models() -> None:
    code = "import sys; from hatrain.cli import main; main(sys.argv[1:]); print(*sys.modules, sep='\\n')"
    found = subprocess.run(
        [sys.executable, "-c", code, "data", "--sample", "--client", "klingon", "--seed", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    loaded = set(found.stdout.split())
    assert "hatrain.home.generate.dataset" in loaded, found.stderr
    assert loaded.isdisjoint(["torch", "hatrain.contract.spec", "hatrain.contract.plan", "hatrain.data.labels"])


def test_the_training_guides_flags_are_accepted(tmp_path: Path) -> None:
    common = ["--small", "--language", "english", "--out", str(tmp_path)]
    assert main(["data", "--sample", "--no-system-role", *common]) == 0
    assert '"from": "system"' not in (tmp_path / "sample.jsonl").read_text()


@pytest.mark.parametrize(
    ("flags", "client"),
    [
        ([], "assist"),
        (["--client", "home-llm"], "home-llm"),
        (["--client", "home-llm-legacy", "--sharegpt"], "home-llm-legacy"),
        (["--client", "home-llm-legacy", "--no-system-role"], "home-llm-legacy"),
        (["--format", "messages", "--tools", "hass"], "guide"),
        (["--raw"], "guide"),
        (["--merged-system-role"], "guide"),
    ],
)
def test_rows_are_for_assist_unless_a_client_or_a_flag_of_the_guide_is_given(
    flags: list[str], client: str, tmp_path: Path
) -> None:
    assert main(["data", "--sample", "--out", str(tmp_path), *flags]) == 0
    rows = [json.loads(line) for line in (tmp_path / "sample.jsonl").read_text().splitlines()]
    assert {row["client"] for row in rows} == {client}


def test_a_prompt_of_ones_own_replaces_the_clients_layout(tmp_path: Path) -> None:
    template = tmp_path / "prompt.jinja"
    template.write_text("My home at {{ now().hour }}:\n{{ formatted_devices }}", encoding="utf-8")
    flags = ["--client", "home-llm-legacy", "--prompt", str(template), "--out", str(tmp_path)]
    assert main(["data", "--sample", *flags]) == 0
    for line in (tmp_path / "sample.jsonl").read_text().splitlines():
        prompt = json.loads(line)["conversations"][0]["value"]
        assert prompt.startswith("My home at ") and prompt.count("\n") == prompt.count(" = ")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "hatrain data: no files chosen; give one or more of --train, --test, --dpo, --sample"),
        (["--sample", "--tools", "hass"], "--tools: only rows of --format messages have tools"),
        (
            ["--sample", "--client", "home-lm"],
            "--client: found home-lm; accepted: assist, home-llm, home-llm-legacy, guide",
        ),
        (["--sample", "--client", "home-llm", "--sharegpt"], "--format: found sharegpt; rows of --client home-llm are"),
        (["--sample", "--client", "assist", "--tools", "hass"], "--tools: client assist has its own"),
        (["--sample", "--client", "home-llm-legacy", "--single-calls"], "--single-calls: only rows of messages"),
        (["--sample", "--client", "guide", "--prompt", "x"], "--prompt: --client guide has its own layout"),
        (["--sample", "--client", "home-llm", "--prompt", "nowhere.jinja"], "nowhere.jinja: no such file"),
        (["--sample", "--workers", "0"], "--workers: found 0, accepted: 1 or more"),
        (["--sample", "--ctx-size", "512"], "--ctx-size: needs --model, whose tokenizer counts"),
        (["--sample", "--seed", "-1"], "--seed: found -1, accepted: 0 or more"),
        (["--sample", "--language", "klingon"], "--language: found klingon, accepted: "),
        (["--sample", "--home", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--check-language", "nowhere"], "nowhere: no such folder"),
        (["--audit", "a.jsonl", "b.jsonl"], "a.jsonl: no such file"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(
    flags: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *flags]) == 2
    assert expected in capsys.readouterr().err
    assert list(tmp_path.rglob("*.jsonl")) == []


def test_check_language_prints_counts_and_fails_for_an_incomplete_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "--check-language", str(LANGUAGES / "english")]) == 0
    assert "templated requests: " in capsys.readouterr().out
    assert main(["data", "--check-language", str(tmp_path)]) == 1
    assert "grammar.yaml: no such file" in capsys.readouterr().out


def test_the_audit_prints_a_line_for_each_kind_of_overlap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--sample", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    sample = str(tmp_path / "sample.jsonl")
    assert main(["data", "--audit", sample, sample]) == 0
    out = capsys.readouterr().out
    for kind in ("requests", "device names", "answers"):
        assert f"\n{kind}: " in out
    assert out.count("100.0% of all in B") == 3


def large_home(tmp_path: Path) -> Path:
    devices = [f"    light.l{number}: Lamp Number {number}" for number in range(120)]
    path = tmp_path / "home.yaml"
    path.write_text("\n".join(["areas:", "  Hall:", *devices, "  Den: {switch.plug: Plug}"]))
    return path


def test_a_home_that_does_not_fit_says_what_to_hide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_tokenizer("chatml").save_pretrained(tmp_path / "model")
    flags = ["--sample", "--client", "guide", "--home", str(large_home(tmp_path)), "--model", str(tmp_path / "model")]
    assert main(["data", *flags, "--ctx-size", "800", "--out", str(tmp_path / "out")]) == 2
    first, size, advice = capsys.readouterr().err.splitlines()
    longest = int(first.removeprefix("the longest of 100 rows has ").removesuffix(" tokens").replace(",", ""))
    assert longest > 800
    assert size == f"--ctx-size: found 800, and the longest row of a sample has {longest:,} tokens"
    hidden = int(re.findall(r"hide about (\d+) devices of 121", advice)[0])
    assert 0 < hidden < 121
    assert re.search(r"they are light \(120 with [\d,]+ tokens\), switch \(1 with \d+ tokens\)$", advice)
    assert not (tmp_path / "out").exists()

    # Without that many, it fits.
    lines = (tmp_path / "home.yaml").read_text().splitlines()
    (tmp_path / "home.yaml").write_text("\n".join(lines[:2] + lines[2 + hidden :]))
    assert main(["data", *flags, "--ctx-size", "800", "--out", str(tmp_path / "out")]) == 0


def test_a_large_home_is_said_without_a_model_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--sample", "--client", "guide", "--home", str(large_home(tmp_path)), "--out", str(tmp_path)]
    assert main(["data", *flags]) == 0
    assert re.search(r"home\.yaml: its prompt has about [\d,]+ tokens; --model MODEL", capsys.readouterr().err)
