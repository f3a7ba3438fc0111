"""A model of the hub is looked for in the cache and at the hub; a hub that does not answer is said in seconds."""

import http.server
import socket
import threading

import pytest

from hatrain.cli import main
from hatrain.contract import hub


@pytest.fixture(autouse=True)
def _no_cache(tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")  # what `require` sets is unset afterwards
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub._ask.cache_clear()
    yield
    hub._ask.cache_clear()


@pytest.fixture
def silent(monkeypatch):
    """A hub that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(hub, "NOTE_SECONDS", 0.05)
        monkeypatch.setattr(hub, "SECONDS", 0.2)
        yield


@pytest.fixture
def closed(monkeypatch):
    """A hub that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")


@pytest.fixture
def answering(monkeypatch):
    """A hub that answers every request for a file with a status, which the test appends to the list."""
    statuses: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(statuses[-1])
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(b'{"model_type": "llama"}')

        def log_message(self, *arguments: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield statuses
        server.shutdown()
        thread.join()


def in_cache(tmp_path, base: str) -> None:
    folder = tmp_path / "hub" / f"models--{base.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    (folder / "snapshots/abc").mkdir(parents=True)
    (folder / "snapshots/abc/config.json").write_text("{}")


def test_a_hub_that_never_answers_is_said_with_what_to_do(silent, capsys):
    problem = hub.unavailable("some/base")
    assert "some/base: not in the model cache" in problem
    assert "cannot be reached (no answer in 0.2 s); hatrain fetch JOB" in problem
    assert capsys.readouterr().err.startswith("waiting for http://127.0.0.1:")


def test_a_hub_that_is_not_there_is_said(closed):
    assert "cannot be reached (Connection refused)" in hub.unavailable("some/base")


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_a_hub_that_is_switched_off_is_not_asked(variable, monkeypatch, silent, capsys):
    monkeypatch.setenv(variable, "1")
    assert f"and {variable} is set; hatrain fetch JOB" in hub.unavailable("some/base")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_model_that_the_hub_has_not_is_said(answering, status):
    answering.append(status)
    problem = hub.unavailable("some/base", "v2")
    assert problem.startswith("some/base at v2: no such model at http://127.0.0.1:")
    assert problem.endswith(f"({status}), or it is private or gated and HF_TOKEN is not set")


@pytest.mark.parametrize("status", [200, 503])
def test_a_hub_that_answers_is_left_to_its_client(answering, status):
    answering.append(status)
    assert hub.unavailable("some/base") is None
    hub.require("some/base")


def test_a_model_in_the_cache_is_read_from_there_where_the_hub_does_not_answer(tmp_path, closed, capsys):
    from huggingface_hub import constants

    in_cache(tmp_path, "some/base")
    hub.require("some/base")
    assert constants.HF_HUB_OFFLINE is True
    assert "cannot be reached (Connection refused): some/base is read from the cache" in capsys.readouterr().err
    hub.require("some/base")
    assert capsys.readouterr().err == ""


def test_a_folder_needs_no_hub(tmp_path, silent):
    hub.require(str(tmp_path))


def test_a_token_is_found_where_the_hubs_client_keeps_it(tmp_path):
    assert hub.token() is None
    (tmp_path / "token").write_text("hf_from_the_file\n")
    assert hub.token() == "hf_from_the_file"


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rows.jsonl", "--model", "some/base"],
        ["find-split", "some/base"],
        ["ask", "some/base", "hello"],
        ["evaluate", "some/base", "--dataset", "rows.jsonl"],
        ["submit", "job.yaml"],
        ["train", "job.yaml"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_verb_says_it_in_the_same_words(arguments, tmp_path, monkeypatch, closed, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"text": "hello"}\n' * 8)
    (tmp_path / "job.yaml").write_text(
        "name: x\nmodel: {base: some/base}\ndata: {train: rows.jsonl}\nhardware: {gpu: cpu}\n"
    )
    assert main(arguments) in (2, 78)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.removeprefix("model.base: ") == hub.unavailable("some/base")
    assert not (tmp_path / "runs").exists()
