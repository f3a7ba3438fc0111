"""`hatrain publish`, with huggingface_hub's own code against a stand-in of the hub: what arrives is what lies there."""

import socket

import pytest

from hatrain.cli import main
from hatrain.export import publish
from hatrain.model.licence import front_matter
from hatrain.runtime import seal
from tests.export.finished import exported, finished
from tests.export.hub import TOKEN, stand_in


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HATRAIN_RUNS", raising=False)
    return finished(tmp_path)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    constants = "huggingface_hub.constants."
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(f"{constants}HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(f"{constants}HF_HUB_OFFLINE", False)
    monkeypatch.setattr(f"{constants}HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(f"{constants}HF_TOKEN_PATH", str(tmp_path / "token"))
    with stand_in() as hub:
        monkeypatch.setattr(f"{constants}ENDPOINT", hub.endpoint)
        yield hub


def published(*options, repo="ada/home", run="kitchen"):
    return main(["publish", run, "--repo", repo, *options])


def test_model_gguf_and_card_arrive_byte_for_byte(run, hub, capsys):
    exported(run)
    assert published() == 0
    files = hub.files("ada/home")
    assert files.keys() == {
        ".gitattributes",
        "README.md",
        "Modelfile",
        "config.json",
        "kitchen.q8_0.gguf",
        "model.safetensors",
        "tokenizer.json",
    }
    for folder, names in ((run.model, ("model.safetensors", "tokenizer.json")), (run.export, ("kitchen.q8_0.gguf",))):
        for name in names:
            assert files[name] == (folder / name).read_bytes()
    assert sorted(map(len, hub.objects.values())) == [400, 2304]  # the large ones went as LFS objects
    assert front_matter(files["README.md"].decode())["base_model"] == "some/base"
    assert not hub.repositories["ada/home"].private
    output = capsys.readouterr()
    assert output.out.splitlines()[-1] == f"{hub.endpoint}/ada/home"
    assert TOKEN not in output.out + output.err
    assert [event["repository"] for event in run.events() if event["event"] == "published"] == ["ada/home"]


def test_folders_of_this_machine_are_not_published(run, hub, tmp_path, capsys):
    assert published() == 0
    assert not [name for name, content in hub.files("ada/home").items() if str(tmp_path).encode() in content]
    assert b'"_name_or_path": "some/base"' in hub.files("ada/home")["config.json"]
    assert "config.json: _name_or_path: some/base, instead of a folder of this machine" in capsys.readouterr().err
    assert str(tmp_path) in (run.model / "config.json").read_text()  # the run's own file stays


def test_an_adapter_is_published_with_the_hubs_name_of_its_base(tmp_path, hub, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = finished(tmp_path, method__lora={"rank": 4})
    assert published() == 0
    assert hub.files("ada/home")["model.safetensors"] == (run.adapter / "model.safetensors").read_bytes()
    assert front_matter(hub.files("ada/home")["README.md"].decode())["library_name"] == "peft"


def test_an_upload_that_is_interrupted_goes_on_and_shows_nothing_half_done(run, hub, capsys):
    exported(run)
    hub.fails["/commit/"] = 400
    assert published() == 2
    assert capsys.readouterr().err.splitlines()[-1] == "ada/home: the hub refuses (400): the stand-in fails"
    assert hub.files("ada/home").keys() == {".gitattributes"}
    stored = [line for line in hub.requests if line.startswith("PUT")]
    assert len(stored) == 2
    hub.fails.clear()
    assert published() == 0
    assert [line for line in hub.requests if line.startswith("PUT")] == stored  # nothing is sent twice
    assert hub.files("ada/home")["model.safetensors"] == (run.model / "model.safetensors").read_bytes()


def test_a_later_publication_replaces_the_earlier_one(run, hub, capsys):
    exported(run)
    assert published() == 0
    hub.files("ada/home")["mine.png"] = b"mine"
    seal.remove(run.export)
    assert published() == 0
    assert hub.files("ada/home").keys() == {
        ".gitattributes",
        "README.md",
        "Modelfile",
        "config.json",
        "mine.png",
        "model.safetensors",
        "tokenizer.json",
    }
    assert "removing kitchen.q8_0.gguf, of an earlier publication" in capsys.readouterr().err


def test_a_private_repository_and_a_branch(run, hub, capsys):
    assert published("--private", "--revision", "v2", repo="lovelace/home") == 0
    repository = hub.repositories["lovelace/home"]
    assert repository.private
    assert repository.branches["main"].keys() == {".gitattributes"}
    assert "model.safetensors" in repository.branches["v2"]
    assert "/lovelace/home/commit/" in capsys.readouterr().out


def test_a_dry_run_shows_what_would_go_and_asks_the_hub_for_nothing(run, hub, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert published("--dry-run") == 0
    output = capsys.readouterr().out
    assert "model.safetensors  2,304 bytes" in output
    assert "4 files" in output
    assert "to ada/home (main); nothing was uploaded" in output
    assert "# kitchen" in output
    assert hub.requests == []
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


# --- what a user can change ----------------------------------------------------------------------------------


def refused(capsys, *options, **names):
    assert published(*options, **names) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_without_a_token_the_line_says_how_to_log_in(run, hub, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert refused(capsys) == "no token of the model hub: log in with `hf auth login`, or set HF_TOKEN"
    assert hub.requests == []


def test_a_token_that_is_not_accepted_is_not_shown(run, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrong")
    line = refused(capsys)
    assert line.startswith(f"{hub.endpoint} does not accept the token: make a new one with write access")
    assert "wrongwrong" not in line


@pytest.mark.parametrize(
    ("repo", "line"),
    [
        ("home", "--repo: found 'home'; accepted: USER/NAME or ORGANISATION/NAME"),
        ("ada/home/x", "--repo: found 'ada/home/x'; accepted: USER/NAME or ORGANISATION/NAME"),
        ("adaa/home", "--repo: found adaa, where ada cannot write; accepted: ada, lovelace; did you mean ada?"),
    ],
)
def test_a_name_that_is_not_accepted_is_refused(run, hub, capsys, repo, line):
    assert refused(capsys, repo=repo) == line


@pytest.mark.parametrize("repo", ["ada/ho me", "ada/ho--me", "ada/-home", "ada/" + "x" * 97])
def test_a_name_that_the_hub_does_not_take_is_refused_before_anything_is_sent(run, hub, capsys, repo):
    assert refused(capsys, repo=repo).startswith(f"--repo: found {repo!r}; accepted: up to 96 of letters")
    assert hub.requests == []


def test_a_repository_with_other_files_is_refused(run, hub, capsys):
    assert published() == 0
    hub.repositories["ada/home"].branches["main"] = {".gitattributes": b"", "model.bin": b"x", "README.md": b"# Mine\n"}
    assert refused(capsys) == (
        "--repo: ada/home holds other files (model.bin), which hatrain did not publish; choose another name, or "
        "another branch with --revision"
    )


def test_private_does_not_change_a_public_repository(run, hub, capsys):
    assert published() == 0
    assert refused(capsys, "--private") == (
        "--private: ada/home is public; change it on the hub, or leave --private out"
    )


def test_a_token_that_may_not_write_is_told_so(run, hub, capsys):
    hub.fails["POST /api/repos/create"] = 403
    assert "the token may not write there; make one with write access" in refused(capsys)


def test_a_run_that_is_not_finished_is_refused(run, hub, capsys):
    run.done.unlink()
    assert refused(capsys) == "kitchen: is not finished; hatrain status kitchen tells its state"
    assert refused(capsys, run="kitchn").endswith("did you mean kitchen?")


def test_a_damaged_model_is_not_published(run, hub, capsys):
    (run.model / "model.safetensors").write_bytes(b"half")
    assert refused(capsys).startswith(f"{run.model}: model.safetensors has 4 bytes of 2304; nothing is published")
    assert hub.requests == []


def test_without_a_network_there_is_one_line(run, hub, capsys, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nobody)
    line = refused(capsys)
    assert line.startswith(f"{nobody} cannot be reached (")
    assert line.endswith("; the same command goes on with what is not uploaded")


def test_a_hub_that_never_answers_is_not_waited_for(run, hub, capsys, monkeypatch):
    monkeypatch.setattr(publish, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "cannot be reached" in refused(capsys)
