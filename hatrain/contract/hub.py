"""Whether a model of the hub can be read: it is in the cache, or the hub answers for it. Asked before a library is,
which retries for half a minute. It needs nothing but the standard library."""

import json
import os
import sys
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hatrain.contract.paths import expanded, hub_home
from hatrain.errors import BadInput
from hatrain.runtime import credentials

SECONDS = 6.0
"""For the answer, with the look-up of the hub's name."""
NOTE_SECONDS = 1.5
"""After which a line says what is waited for."""


@dataclass(frozen=True)
class Answer:
    """What the hub said to a question for config.json."""

    status: int | None = None
    """Of HTTP; None where nothing answered."""
    config: dict[str, Any] | None = None
    failure: str = ""
    """Why nothing answered."""


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def cache_folder() -> Path:
    return expanded(os.environ.get("HF_HUB_CACHE") or str(hub_home() / "hub"))


def offline() -> str | None:
    """Return the variable that switches the hub off; None where none does."""
    return next((name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if _is_set(os.environ.get(name))), None)


def _is_set(value: str | None) -> bool:
    return (value or "").upper() in ("1", "ON", "YES", "TRUE")


def token() -> str | None:
    """Return the user's token, from where the hub's own client takes it."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if value := os.environ.get(name, "").strip():
            return value
    try:
        file = expanded(os.environ.get("HF_TOKEN_PATH") or str(hub_home() / "token"))
        return file.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def cached_config(base: str, revision: str | None = None) -> Path | None:
    """Return config.json of a model in the cache; None where it is not there."""
    folder, name = cache_folder() / f"models--{base.replace('/', '--')}", revision or "main"
    try:
        commit = (folder / "refs" / name).read_text(encoding="utf-8").strip()
    except OSError:
        commit = name
    path = folder / "snapshots" / commit / "config.json"
    return path if path.is_file() else None


def unavailable(base: str, revision: str | None = None) -> str | None:
    """Return why a model of the hub cannot be read here, with what to do; None where it is in the cache, or the hub has
    it."""
    if cached_config(base, revision):
        return None
    absent = f"{base}: not in the model cache ({cache_folder()})"
    elsewhere = "hatrain fetch JOB downloads it on a machine with a network and the same HF_HOME"
    if variable := offline():
        return f"{absent}, and {variable} is set; {elsewhere}"
    answer = ask(base, revision or "main")
    if answer.status is None:
        return f"{absent}, and {credentials.hide(endpoint())} cannot be reached ({answer.failure}); {elsewhere}"
    if answer.status in (401, 403, 404):
        private = "HF_TOKEN has no access to it" if token() else "it is private or gated and HF_TOKEN is not set"
        at = f"{base}{f' at {revision}' if revision else ''}"
        return f"{at}: no such model at {credentials.hide(endpoint())}/{base} ({answer.status}), or {private}"
    return None


def require(base: str, revision: str | None = None, key: str = "") -> None:
    """Raise BadInput with what `unavailable` returns, unless the base is a folder; `key` is that of a job. Where the
    hub does not answer for a model in the cache, its client asks no more."""
    if Path(base).is_dir():
        return
    if problem := unavailable(base, revision):
        raise BadInput(f"{key}: {problem}" if key else problem)
    if not offline() and (failure := why_silent()):
        os.environ["HF_HUB_OFFLINE"] = "1"
        if client := sys.modules.get("huggingface_hub.constants"):
            client.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
        _note(f"note: {credentials.hide(endpoint())} cannot be reached ({failure}): {base} is read from the cache")


def ask(base: str, revision: str = "main") -> Answer:
    """Ask the hub for a model's config.json, once in a process, within `SECONDS`; say what is waited for."""
    from urllib.parse import quote

    return _ask(f"{endpoint()}/{quote(base)}/resolve/{quote(revision, safe='')}/config.json", "GET")


def why_silent(address: str = "") -> str:
    """Return why a hub (without an address that of `endpoint`) does not answer, asked once in a process; empty where it
    does."""
    answer = _ask(f"{address or endpoint()}/", "HEAD")
    return answer.failure if answer.status is None else ""


@cache
def _ask(address: str, method: str) -> Answer:
    answers: list[Answer] = []
    # In a thread: no timeout ends the look-up of a name.
    thread = threading.Thread(target=lambda: answers.append(_request(address, method)), daemon=True)
    thread.start()
    thread.join(NOTE_SECONDS)
    if thread.is_alive():
        _note(f"waiting for {credentials.hide(endpoint())}, up to {SECONDS:g} s")
        thread.join(SECONDS - NOTE_SECONDS)
    return answers[0] if answers else Answer(failure=f"no answer in {SECONDS:g} s")


def _note(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr, flush=True)


def _request(address: str, method: str) -> Answer:
    import urllib.request  # costs 20 ms, which only a model that is not in the cache needs
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError

    try:
        request = urllib.request.Request(address, method=method)
        if secret := token():
            request.add_unredirected_header("Authorization", f"Bearer {secret}")
        # Longer than anybody waits: whether it ends in time is decided once.
        with urllib.request.urlopen(request, timeout=2 * SECONDS) as answer:
            text = answer.read()
    except HTTPError as error:
        return Answer(status=error.code)
    except URLError as error:
        reason = error.reason
        return Answer(failure=str(getattr(reason, "strerror", None) or reason))
    except (OSError, HTTPException, ValueError) as error:
        return Answer(failure=str(error) or type(error).__name__)
    try:
        return Answer(status=200, config=dict(json.loads(text)))
    except (ValueError, TypeError):
        return Answer(status=200)
