"""A stand-in of the model hub's HTTP API on this machine, as far as publishing needs it: repositories, branches, the
preupload and LFS batch endpoints, commits, and downloads. It keeps what it is sent, byte for byte."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_" + "stand" * 6
LFS = (".safetensors", ".gguf", ".bin")


@dataclass
class Repository:
    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {".gitattributes": b""}})
    commits: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class StandIn:
    """The hub's state. `user` can write to its own name and to `orgs`."""

    user: str = "ada"
    orgs: tuple[str, ...] = ("lovelace",)
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """LFS objects by SHA-256."""
    requests: list[str] = field(default_factory=list)
    fails: dict[str, int] = field(default_factory=dict)
    """What of a request's method and path is answered with a code instead."""
    endpoint: str = ""

    def files(self, repository: str, branch: str = "main") -> dict[str, bytes]:
        return self.repositories[repository].branches[branch]


@contextmanager
def stand_in() -> Iterator[StandIn]:
    hub = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            """Be quiet."""

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            line = f"{self.command} {path}"
            hub.requests.append(line)
            if code := next((code for part, code in hub.fails.items() if part in line), None):
                self.send(code, {"error": "the stand-in fails"})
                return
            if self.command != "PUT" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.send(401, {"error": "Invalid username or password."})
                return
            for method, pattern, act in _ROUTES:
                if method == self.command and (found := re.fullmatch(pattern, path)):
                    act(hub, self, body, *found.groups())
                    return
            self.send(404, {"error": f"the stand-in has no {line}"})
            return

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer  # noqa: N815 - http.server's names

        def send(self, code: int, value: Any = None, headers: dict[str, str] | None = None) -> None:
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(code)
            for name, text in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler


def _whoami(hub: StandIn, to: Any, body: bytes) -> None:
    to.send(200, {"name": hub.user, "type": "user", "orgs": [{"name": name} for name in hub.orgs]})


def _validate(hub: StandIn, to: Any, body: bytes) -> None:
    """The hub checks a card's front matter."""
    head = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
    errors = [] if isinstance(head.get("tags"), list) else [{"message": '"tags" must be an array'}]
    to.send(400 if errors else 200, {"errors": errors, "warnings": []})


def _create(hub: StandIn, to: Any, body: bytes) -> None:
    wanted = json.loads(body)
    owner = wanted.get("organization") or hub.user
    name = f"{owner}/{wanted['name']}"
    if name in hub.repositories:
        to.send(409, {"error": "exists"})
        return
    hub.repositories[name] = Repository(
        private="private" in (wanted.get("visibility"), wanted.get("private") and "private")
    )
    to.send(200, {"url": f"{hub.endpoint}/{name}", "name": name, "id": name})


def _info(hub: StandIn, to: Any, body: bytes, name: str, branch: str | None = None) -> None:
    if name not in hub.repositories:
        to.send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return
    repository = hub.repositories[name]
    if branch and branch not in repository.branches:
        to.send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return
    siblings = [{"rfilename": file} for file in repository.branches[branch or "main"]]
    to.send(200, {"id": name, "modelId": name, "private": repository.private, "siblings": siblings, "sha": "0" * 40})


def _branch(hub: StandIn, to: Any, body: bytes, name: str, branch: str) -> None:
    branches = hub.repositories[name].branches
    if branch in branches:
        to.send(409, {"error": "exists"})
        return
    branches[branch] = dict(branches["main"])
    to.send(200, {})


def _tree(hub: StandIn, to: Any, body: bytes, name: str, branch: str) -> None:
    files = hub.repositories[name].branches[branch]
    oids = {file: hashlib.sha1(content).hexdigest() for file, content in files.items()}
    to.send(200, [{"type": "file", "path": file, "size": len(files[file]), "oid": oids[file]} for file in files])


def _preupload(hub: StandIn, to: Any, body: bytes, name: str, branch: str) -> None:
    modes = [
        {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LFS) else "regular", "shouldIgnore": False}
        for file in json.loads(body)["files"]
    ]
    to.send(200, {"files": modes})


def _batch(hub: StandIn, to: Any, body: bytes, name: str) -> None:
    """Ask for the objects that are not there."""
    objects = []
    for wanted in json.loads(body)["objects"]:
        action = {"actions": {"upload": {"href": f"{hub.endpoint}/lfs/{wanted['oid']}"}}}
        objects.append({**wanted, **({} if wanted["oid"] in hub.objects else action)})
    to.send(200, {"transfer": "basic", "objects": objects})


def _store(hub: StandIn, to: Any, body: bytes, oid: str) -> None:
    if hashlib.sha256(body).hexdigest() != oid:
        to.send(400, {"error": "another checksum"})
        return
    hub.objects[oid] = body
    to.send(200, b"")


def _commit(hub: StandIn, to: Any, body: bytes, name: str, branch: str) -> None:
    repository = hub.repositories[name]
    files = dict(repository.branches[branch])
    lines = [json.loads(line) for line in body.splitlines() if line.strip()]
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = hub.objects[value["oid"]]
        elif line["key"] == "deletedFile":
            del files[value["path"]]
    repository.branches[branch] = files
    repository.commits.append(next(line["value"] for line in lines if line["key"] == "header"))
    oid = hashlib.sha1(body).hexdigest()
    to.send(200, {"commitUrl": f"{hub.endpoint}/{name}/commit/{oid}", "commitOid": oid, "success": True})


def _download(hub: StandIn, to: Any, body: bytes, name: str, branch: str, file: str) -> None:
    files = hub.repositories[name].branches.get(branch, {})
    if file not in files:
        to.send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        return
    headers = {"ETag": f'"{hashlib.sha1(files[file]).hexdigest()}"', "X-Repo-Commit": "0" * 40}
    to.send(200, files[file], headers)


_REPOSITORY = r"([\w.-]+/[\w.-]+)"
_ROUTES = (
    ("GET", r"/api/whoami-v2", _whoami),
    ("POST", r"/api/repos/create", _create),
    ("POST", r"/api/validate-yaml", _validate),
    ("GET", rf"/api/models/{_REPOSITORY}", _info),
    ("GET", rf"/api/models/{_REPOSITORY}/revision/([\w.-]+)", _info),
    ("POST", rf"/api/models/{_REPOSITORY}/branch/([\w.-]+)", _branch),
    ("GET", rf"/api/models/{_REPOSITORY}/tree/([\w.-]+)", _tree),
    ("POST", rf"/api/models/{_REPOSITORY}/preupload/([\w.-]+)", _preupload),
    ("POST", rf"/{_REPOSITORY}\.git/info/lfs/objects/batch", _batch),
    ("PUT", r"/lfs/(\w+)", _store),
    ("POST", rf"/api/models/{_REPOSITORY}/commit/([\w.-]+)", _commit),
    ("GET", rf"/{_REPOSITORY}/resolve/([\w.-]+)/(.+)", _download),
    ("HEAD", rf"/{_REPOSITORY}/resolve/([\w.-]+)/(.+)", _download),
)
