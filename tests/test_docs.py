"""Links, anchors and commands of README.md and docs/*.md. What can run here in moments, runs."""

import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hatrain.cli import VERBS, main, parser_of
from hatrain.cli.examples import EXAMPLES
from hatrain.contract import load
from hatrain.contract.spec import JobSpec
from hatrain.guide.flags import FLAGS
from hatrain.home.generate import dataset
from tests import documented
from tests.command_lines import accepted, simple_commands
from tests.documented import PAGES, ROOT, Command

COMMANDS = list(documented.commands())
EXAMPLE_COMMANDS = [Command("help", command, True) for examples in EXAMPLES.values() for command, _ in examples]
HATRAIN = [command for command in [*COMMANDS, *EXAMPLE_COMMANDS] if command.program == "hatrain"]

RUN = {
    "init",
    "jobs",
    "plan",
    "render",
    "clusters",
    "schema",
    "import",
    "help",
    "completion",
    "runs",
    "data",
    "--version",
}
"""Verbs whose documented commands are run."""
NOT_RUN = {
    "submit": "starts a run, which tests/launch and tests/slurm do",
    "train": "trains",
    "status": "needs a run",
    "logs": "needs a run",
    "wait": "needs a run",
    "stop": "needs a run",
    "cancel": "needs a run",
    "compare": "needs runs",
    "report": "needs runs",
    "memory": "needs runs",
    "diff": "asks a scheduler",
    "pull": "needs a run on a cluster behind ssh",
    "doctor": "says what this machine is, which differs",
    "ask": "needs a model",
    "evaluate": "needs a model",
    "export": "needs a model, and `make gguf`",
    "publish": "needs a finished run",
    "fetch": "downloads from the hub",
    "check": "needs a tokenizer of the hub",
    "find-split": "needs a tokenizer of the hub",
    "tiny": "imports torch for one figure of a demo",
}
"""Verbs whose documented commands are given to their parsers only, and why."""
NEEDS = {
    "--intents": "needs a clone of home-assistant/intents",
    "--audit": "compares two datasets that the reader has",
    "--check-language": "checks a folder that the reader writes",
    "rtx4070-12gb": "a GPU that the reader adds",
}
"""Commands of verbs that run, but that need what is not here, by a word in them."""
REFUSED = {"hatrain plan tinyhome --set hardware.gpu=rtx3060-12gb"}
"""Commands that the documentation shows because of their refusal."""
PLACEHOLDER = re.compile(r"…|\.\.\.$|\b(JOB|RUN|NAME|CLONE|FOLDER|FILE|MODEL|CLIENT|VERB|DIR|A B)\b|\[|<")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_an_anchor_that_are_there(page):
    wrong = []
    for target in documented.links(page):
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        inside = file.is_relative_to(ROOT) and file.exists()
        if not inside or (fragment and fragment not in documented.anchors(file)):
            wrong.append(target)
    assert wrong == []


def test_the_check_of_links_sees_a_wrong_one(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One thing\n[a](none.md) ![b](image.svg) [c](#one-thing) `[d](e.md)`\n```\n[f](g.md)\n# h\n```\n")
    assert documented.links(page) == ["none.md", "image.svg", "#one-thing"]
    assert documented.anchors(page) == ["one-thing"]


def test_every_page_is_in_the_navigation_of_the_site():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").replace("!ENV", "")
    pages = re.findall(r"[\w-]+\.md", str(yaml.safe_load(text)["nav"]))
    assert sorted(pages) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_every_verb_is_run_or_has_a_reason():
    assert RUN & NOT_RUN.keys() == set()
    assert {"--version", *VERBS} <= RUN | NOT_RUN.keys()


@pytest.mark.parametrize("command", HATRAIN, ids=lambda command: f"{command.page}: {command.text}"[:80])
def test_every_command_is_one_that_its_parser_takes(command):
    for words in simple_commands(command.text.removeprefix("$ ")):
        program = Path(words[0]).name
        if program != "hatrain" or len(words) == 1:
            continue
        if command.whole:
            accepted(words)
            continue
        verb = words[1]
        assert verb in VERBS or verb in ("--version", "--help")
        if verb in VERBS and verb != "import" and not {word.removeprefix("--") for word in words} & FLAGS.keys():
            known = {flag for action in parser_of(verb)._actions for flag in action.option_strings} | {"--help-flags"}
            written = {word.strip("[]").partition("=")[0] for word in words if word.strip("[").startswith("--")}
            assert written <= known


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.program == "make"], ids=lambda command: command.text[:60])
def test_every_target_and_variable_of_make_is_there(command):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z0-9-]+):.*## ", makefile, re.M)
    taken = makefile + "".join(
        (ROOT / "docker" / name).read_text(encoding="utf-8") for name in ("Dockerfile", "image.sh")
    )
    for word in shlex.split(command.text.removeprefix("$ "), comments=True)[1:]:
        name, equals, _ = word.partition("=")
        assert re.search(rf"\b{name}\b", taken) if equals else word in targets


def runnable() -> list[str]:
    """The distinct command lines to run, without the prompt, and without what is behind a pipe or a redirection."""
    found: dict[str, None] = {}
    for command in HATRAIN:
        for words in simple_commands(command.text.removeprefix("$ ")):
            line = shlex.join(words)
            ours = words[0] == "hatrain" and len(words) > 1 and words[1] in RUN
            complete = not PLACEHOLDER.search(line) and not any(word in words for word in NEEDS)
            if ours and complete and (command.whole or not is_fragment(words[1:])):
                found[line] = None
    return list(found)


def is_fragment(words: list[str]) -> bool:
    """Whether inline code names a verb or an option, and is no command of its own."""
    parts = {"--train", "--test", "--dpo", "--sample"}
    return words in (["plan"], ["render"], ["init"], ["import"], ["completion"]) or (
        words[0] == "data" and not parts & set(words)
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A reader's folder: a first job, cluster files of the names in the documentation, a home. Datasets are small."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("CLUSTER", raising=False)
    monkeypatch.delenv("HATRAIN_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "TRAIN_ROWS", dict.fromkeys(dataset.TRAIN_ROWS, 20))
    monkeypatch.setattr(dataset, "TEST_ROWS", 10)
    monkeypatch.setattr(dataset, "SAMPLE_ROWS", 10)
    own = tmp_path / ".config/hatrain/clusters"
    own.mkdir(parents=True)
    for name, example in (("my-slurm", "slurm-venv"), ("my-k8s", "kubernetes")):
        (own / f"{name}.yaml").write_text((ROOT / f"launch/clusters/{example}.yaml").read_text(encoding="utf-8"))
    (tmp_path / "home.yaml").write_text((ROOT / "hatrain/home/demo.yaml").read_text(encoding="utf-8"))
    yield tmp_path
    load._standard_input.cache_clear()


@pytest.mark.parametrize("line", runnable())
def test_a_documented_command_runs(line, folder, capsys, monkeypatch):
    words = shlex.split(line)[1:]
    if words[0] != "init":
        assert main(["init", "my-home"]) == 0
    job = (ROOT / "hatrain/cli/new/job.yaml").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(job), encoding="utf-8"))
    capsys.readouterr()
    assert main(words) == (2 if line in REFUSED else 0), capsys.readouterr().err
    printed = capsys.readouterr()
    assert printed.out or printed.err


def test_a_command_of_each_verb_runs():
    assert {shlex.split(line)[1] for line in runnable()} == RUN
    assert set(runnable()) >= REFUSED
    assert [word for word in NEEDS if not any(word in command.text for command in HATRAIN)] == []


JOBS = [
    (page.name, block)
    for page in PAGES
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    if {"name", "model"} <= set(re.findall(r"^(\w+):", block, re.M))
]


@pytest.mark.parametrize(("page", "block"), JOBS)
def test_a_job_in_the_documentation_is_valid(page, block):
    load.validate(JobSpec, load.read_text(block, page))


def test_there_is_a_job_in_the_documentation():
    assert "jobs.md" in dict(JOBS)


def test_the_keys_and_flags_of_the_table_for_others_are_there():
    page = (ROOT / "docs/coming-from.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.partition("| here |")[2].splitlines()[2:] if line.startswith("| ")]
    reference = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    assert len(rows) > 40
    for row in rows:
        for key in re.findall(r"`([a-z_.]+?)(?::[^`]*)?`", row[0]):
            assert f"`{key.rpartition('.')[2]}`" in reference, key
        for flag in re.findall(r"`--(\w+)`", row[-1]):
            assert flag in FLAGS, flag
    named = {flag for row in rows for flag in re.findall(r"`--(\w+)`", row[-1])}
    assert set(FLAGS) - named == set()


@pytest.mark.long
def test_the_site_builds_with_every_link_and_anchor_checked(tmp_path):
    """In its own environment, which `make docs` makes; a page with a wrong anchor is refused."""
    subprocess.run(["make", "docs"], cwd=ROOT, check=True, capture_output=True)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    page = tmp_path / "docs/start.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n[nowhere](jobs.md#no-such-heading)\n")
    built = subprocess.run(
        [ROOT / ".venv-docs/bin/mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 1
    assert "no-such-heading" in built.stdout + built.stderr
