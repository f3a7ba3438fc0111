"""A small model hub on 127.0.0.1 with enough of the protocol for the real client to download from it."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "a" * 34
"""The only token that the hub accepts."""


def commit_of(content: str) -> str:
    return hashlib.sha1(content.encode()).hexdigest()


@dataclass
class Repository:
    """Files by commit, branches and tags by name."""

    commits: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    granted: bool = False
    """Whether the token has access to a gated repository."""

    def commit(self, files: Mapping[str, bytes], *refs: str) -> str:
        sha = commit_of(repr(sorted(files.items())))
        self.commits[sha] = files
        self.refs.update(dict.fromkeys(refs or ("main",), sha))
        return sha


class Hub:
    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.downloads: list[str] = []
        self.broken = False
        self.endpoint = ""

    def add(self, name: str, files: Mapping[str, bytes], **options: bool) -> str:
        repository = self.repositories.setdefault(name, Repository(**options))
        return repository.commit(files)


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def refuse(self, status: int, code: str | None, message: str) -> None:
            headers = {"X_Error_Code": code} if code else {}
            body = json.dumps({"error": message}).encode()
            self.answer(status, body, X_Error_Message=message, Content_Type="application/json", **headers)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if hub.broken:
                return self.refuse(503, None, "down for maintenance")
            authorization = self.headers.get("Authorization")
            if authorization and authorization != f"Bearer {TOKEN}":
                return self.refuse(401, None, "Invalid credentials in Authorization header")
            api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            name = api[1] if api else file[1] if file else ""
            if name not in hub.repositories:
                if authorization:
                    return self.refuse(404, "RepoNotFound", "Repository not found")
                return self.refuse(401, None, "Invalid username or password.")
            repository = hub.repositories[name]
            revision = (api[3] if api else file[2]) or "main"
            sha = repository.refs.get(revision, revision)
            if sha not in repository.commits:
                return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            files = repository.commits[sha]
            if api and api[2] == "tree":
                return self.listing(
                    [
                        {"type": "file", "path": path, "size": len(body), "oid": commit_of(path)}
                        for path, body in files.items()
                    ]
                )
            if api:
                siblings = [{"rfilename": path, "size": len(body)} for path, body in files.items()]
                return self.listing({"id": name, "sha": sha, "siblings": siblings, "tags": [], "private": False})
            if repository.gated and not (authorization and repository.granted):
                status = 403 if authorization else 401
                return self.refuse(status, "GatedRepo", f"Access to model {name} is restricted.")
            if file[3] not in files:
                return self.refuse(404, "EntryNotFound", "Entry not found")
            body = files[file[3]]
            if self.command == "GET":
                hub.downloads.append(file[3])
            etag = f'"{hashlib.sha1(body).hexdigest()}"'
            return self.answer(200, body, ETag=etag, X_Repo_Commit=sha, Content_Type="application/octet-stream")

        def listing(self, data: object) -> None:
            self.answer(200, json.dumps(data).encode(), Content_Type="application/json")

    return Handler


@contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
