"""`hatrain ask` without a request reads requests one after another; a run without a model is said before torch is
imported."""

import contextlib
import fcntl
import io
import json
import os
import pty
import select
import subprocess
import sys
import termios
from types import SimpleNamespace

import pytest

from hatrain.cli import ask, main
from hatrain.contract.run import RunDirectory
from hatrain.data.template import TemplateRefusal
from hatrain.home.calls.answer import read_answer
from tests.plans import a_plan

ROW = {
    "conversations": [
        {"from": "system", "value": "Devices:\nlight.lamp 'Lamp' = off"},
        {"from": "human", "value": "hello"},
        {"from": "gpt", "value": "Hi."},
    ]
}
ON = 'Done.\n```homeassistant\n{"service": "light.turn_on", "target_device": "light.lamp"}\n```'


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunDirectory:
    """A run with a model that answers every request with the same call."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HATRAIN_RUNS", str(tmp_path / "runs"))
    made = RunDirectory(tmp_path / "runs/kitchen")
    made.adopt(a_plan(tmp_path), {})
    (tmp_path / "train.jsonl").write_text(json.dumps(ROW) + "\n")
    made.model.mkdir()
    (made.model / "config.json").write_text("{}")

    @contextlib.contextmanager
    def answers(source):
        yield lambda question: read_answer(ON)

    monkeypatch.setattr(ask, "_answers", answers)
    return made


def said(monkeypatch, capsys, *lines: str) -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    assert main(["ask", "kitchen"]) == 0
    return capsys.readouterr().out


def test_requests_are_read_line_by_line_where_there_is_no_terminal(run, monkeypatch, capsys):
    out = said(monkeypatch, capsys, "turn on the lamp", "", "again", ":home", ":reset", ":home")
    assert out == (
        "> turn on the lamp\nDone.\n\nwould turn on Lamp (light.lamp)\n\nhome: Lamp (light.lamp): off → on\n\n"
        "> again\nDone.\n\nwould turn on Lamp (light.lamp)\n\nhome: as before\n\n"
        "> :home\nLamp (light.lamp): on\n\n> :reset\nthe home is in its first state\n\n"
        "> :home\nLamp (light.lamp): off\n\n"
    )


def test_quit_ends_the_chat_and_other_commands_are_refused(run, monkeypatch, capsys):
    out = said(monkeypatch, capsys, ":hom", ":help", ":quit", "turn on the lamp")
    assert ":hom: no such command; accepted: :home, :reset, :help, :quit; did you mean :home?" in out
    assert "put the home back" in out and "Done." not in out


def test_an_interrupt_ends_an_answer_and_not_the_chat(run, monkeypatch, capsys):
    from hatrain.evaluate.chat import Chat

    def interrupted(self, text):
        raise KeyboardInterrupt

    monkeypatch.setattr(Chat, "ask", interrupted)
    assert "interrupted; the home is as before\n\n> :home\nLamp" in said(monkeypatch, capsys, "one", ":home")


def test_one_request_is_answered_as_before(run, capsys):
    assert main(["ask", "kitchen", "turn on the lamp"]) == 0
    assert capsys.readouterr().out == "Done.\n\nwould turn on Lamp (light.lamp)\n"


@pytest.mark.parametrize("request_", [[], ["turn on the lamp"]], ids=["chat", "one request"])
def test_a_chat_template_that_refuses_is_one_clear_line(run, monkeypatch, capsys, request_):
    @contextlib.contextmanager
    def refuses(source):
        def answer(question):
            raise TemplateRefusal("System role not supported")

        yield answer

    monkeypatch.setattr(ask, "_answers", refuses)
    monkeypatch.setattr(sys, "stdin", io.StringIO("turn on the lamp\n"))
    assert main(["ask", "kitchen", *request_]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "kitchen: its chat template refuses the request: System role not supported"


@pytest.mark.parametrize("name", ["waits", "kitchn"])
def test_a_run_without_a_model_is_said_before_torch_is_imported(tmp_path, name):
    for run in ("waits", "kitchen"):
        RunDirectory(tmp_path / "runs" / run).adopt(a_plan(tmp_path), {})
    code = (
        "import sys; from hatrain.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(99 if {'torch', 'transformers'} & sys.modules.keys() else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "ask", name],
        env={**os.environ, "HATRAIN_RUNS": str(tmp_path / "runs")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 2
    assert ("no model and no whole checkpoint yet" if name == "waits" else "did you mean kitchen?") in done.stderr


def test_control_c_at_the_prompt_asks_again(monkeypatch, capsys):
    typed = iter([KeyboardInterrupt, "turn on the lamp", KeyboardInterrupt, EOFError])

    def answer(prompt):
        line = next(typed)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    assert list(ask._lines()) == ["turn on the lamp"]
    assert capsys.readouterr().out == "\n\n\n"


def test_a_terminal_gets_a_prompt_and_control_d_ends_it():
    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    main_end, terminal = pty.openpty()
    code = "import hatrain.cli.ask as ask; [print(f'<{line}>') for line in ask._lines()]; print('ended')"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=own_terminal
    )
    os.close(terminal)
    seen = b""

    def until(text: bytes, key: bytes = b"") -> None:
        """Read until a text comes. The key is pressed, and again after silence: one that comes while input() begins is
        not seen."""
        nonlocal seen
        for _ in range(60):
            os.write(main_end, key)
            while text not in seen and select.select([main_end], [], [], 10)[0]:
                seen += os.read(main_end, 1024)
            if text in seen:
                seen = seen.partition(text)[2]
                return
        raise AssertionError(seen)

    until(b"> ")
    os.write(main_end, b"turn on the lamp\n")
    until(b"<turn on the lamp>")
    until(b"> ")
    until(b"ended", key=b"\x04")
    assert process.wait(timeout=600) == 0
    os.close(main_end)
