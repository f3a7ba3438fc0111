"""A small API server against which a real kubectl runs: one namespace in memory, with discovery, server-side apply, dry
run, selectors, deletion with dependents, watches, logs and exec. A test may answer any request itself."""

import http.server
import json
import re
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes import spdy

Json = dict[str, Any]
NAMESPACE = "team"
KINDS = {
    "pods": ("v1", "Pod"),
    "configmaps": ("v1", "ConfigMap"),
    "services": ("v1", "Service"),
    "events": ("v1", "Event"),
    "jobs": ("batch/v1", "Job"),
    "jobsets": ("jobset.x-k8s.io/v1alpha2", "JobSet"),
}
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_OBJECT = re.compile(
    r"/(?:api|apis/[^/]+)/[^/]+/namespaces/(?P<ns>[^/]+)/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(/log|/exec)?"
)


@dataclass(frozen=True)
class Failure:
    """The answer to a request that is refused."""

    code: int
    reason: str
    message: str


class ApiServer:
    """`objects` are by plural and name, `logs` by pod. `answer` is asked first, with "METHOD path?query"."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Json] = {}
        self.logs: dict[str, str] = {}
        self.requests: list[str] = []
        """Those to objects, oldest first."""
        self.answer: Callable[[str], Failure | None] = lambda request: None
        self.execute: Callable[[str, list[str]], tuple[str, int]] = lambda pod, command: ("", 0)
        """Runs a command in a pod. Returns what it prints, and its exit code."""
        self.after: Callable[[str], None] = lambda request: None
        """Called when a request to an object is answered."""
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.api = self
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def kubeconfig(self, path: Path) -> Path:
        """Write a configuration of kubectl for this server."""
        server = f"http://127.0.0.1:{self._http.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "my-cluster",
            "clusters": [{"name": "here", "cluster": {"server": server}}],
            "users": [{"name": "ada", "user": {}}],
            "contexts": [{"name": "my-cluster", "context": {"cluster": "here", "user": "ada", "namespace": NAMESPACE}}],
        }
        path.write_text(json.dumps(config))
        return path

    def put(self, *objects: Json) -> None:
        """Store objects as a controller would, for example a pod."""
        plurals = {kind: plural for plural, (_, kind) in KINDS.items()}
        for each in objects:
            self.objects[plurals[each["kind"]], each["metadata"]["name"]] = each

    def names(self) -> list[str]:
        return sorted(f"{plural}/{name}" for plural, name in self.objects)

    # --- objects ---

    def get(self, plural: str, name: str) -> Json | Failure:
        return self.objects.get((plural, name)) or _not_found(plural, name)

    def list(self, plural: str, query: dict[str, str]) -> Json:
        found = [each for (kind, _), each in sorted(self.objects.items()) if kind == plural and _selected(each, query)]
        version, kind = KINDS[plural]
        return {"apiVersion": version, "kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": found}

    def apply(self, plural: str, name: str, applied: Json, *, dry_run: bool) -> Json:
        before = self.objects.get((plural, name), {})
        new = {**before, **applied, "metadata": {**before.get("metadata", {}), **applied["metadata"]}}
        new["metadata"].setdefault("uid", str(uuid.uuid4()))
        new["metadata"].setdefault("creationTimestamp", "2026-11-27T10:00:00Z")
        new["metadata"]["resourceVersion"] = "1"
        if not dry_run:
            self.objects[plural, name] = new
        return new

    def delete(self, plural: str, name: str) -> Json | Failure:
        """With its dependents, at once."""
        gone = self.objects.pop((plural, name), None)
        if gone is None:
            return _not_found(plural, name)
        for key, each in list(self.objects.items()):
            owners = each["metadata"].get("ownerReferences", [])
            if gone["metadata"].get("uid") in [owner["uid"] for owner in owners]:
                del self.objects[key]
        return gone


def _not_found(plural: str, name: str) -> Failure:
    return Failure(404, "NotFound", f'{plural} "{name}" not found')


def _selected(each: Json, query: dict[str, str]) -> bool:
    labels = each["metadata"].get("labels", {})
    for part in filter(None, re.split(r",(?![^(]*\))", query.get("labelSelector", ""))):
        if several := re.fullmatch(r"(\S+) in \((.*)\)", part):
            if labels.get(several[1]) not in several[2].split(","):
                return False
        elif labels.get(part.partition("=")[0]) != part.partition("=")[2]:
            return False
    names = re.findall(r"metadata\.name=([^,]+)", query.get("fieldSelector", ""))
    involved = re.findall(r"involvedObject\.(\w+)=([^,]+)", query.get("fieldSelector", ""))
    return all(each["metadata"]["name"] == name for name in names) and all(
        str(each.get("involvedObject", {}).get(key)) == value for key, value in involved
    )


# --- what kubectl asks before anything else -----------------------------------------------------------------


def _discovery(path: str) -> Json | bytes | None:
    groups = sorted({version for version, _ in KINDS.values() if "/" in version})
    if path == "/version":
        return {"major": "1", "minor": "31", "gitVersion": "v1.31.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(version) for version in groups]}
    if path == "/openapi/v2":
        return _openapi_2()
    if path == "/openapi/v3":
        urls = {
            f"{'apis' if '/' in each else 'api'}/{each}": each for each in {version for version, _ in KINDS.values()}
        }
        return {"paths": {url: {"serverRelativeURL": f"/openapi/v3/{version}"} for url, version in urls.items()}}
    if path.startswith("/openapi/v3/"):
        return _openapi(path.removeprefix("/openapi/v3/"))
    for version in ("v1", *groups):
        if path == (f"/apis/{version}" if "/" in version else f"/api/{version}"):
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": version,
                "resources": [
                    {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": VERBS}
                    for plural, (of, kind) in KINDS.items()
                    if of == version
                ],
            }
    return None


def _group(version: str) -> Json:
    name, _, number = version.partition("/")
    one = {"groupVersion": version, "version": number}
    return {"name": name, "versions": [one], "preferredVersion": one}


def _openapi_2() -> bytes:
    """Which kinds can be patched with a dry run, as older clients ask: a Document of OpenAPI 2 as protobuf. It has no
    definitions, so that kubectl checks no fields itself."""
    dry_run = _field(8, _field(1, _field(2, _field(3, _field(4, b"dryRun")))))  # the parameters of an operation
    paths = b""
    for plural, (version, kind) in KINDS.items():
        group, _, number = version.rpartition("/")
        about = f"group: '{group}'\nversion: {number}\nkind: {kind}\n".encode()
        extension = _field(13, _field(1, b"x-kubernetes-group-version-kind") + _field(2, _field(2, about)))
        paths += _field(2, _field(1, f"/{plural}".encode()) + _field(2, _field(8, dry_run + extension)))
    return _field(1, b"2.0") + _field(8, paths)


def _field(number: int, content: bytes) -> bytes:
    """A field of protobuf with bytes, a text or a message in it."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low = b""
    while value > 127:
        low += bytes([value & 127 | 128])
        value >>= 7
    return low + bytes([value])


def _openapi(version: str) -> Json:
    """Which kinds can be patched with a dry run, as newer clients ask."""
    group, _, number = version.rpartition("/")
    query = [{"name": name, "in": "query"} for name in ("dryRun", "fieldValidation")]
    paths = {}
    for plural, (of, kind) in KINDS.items():
        if of == version:
            about = {"group": group, "version": number, "kind": kind}
            patch = {"parameters": query, "x-kubernetes-group-version-kind": about, "responses": {}}
            paths[f"/x/{plural}/{{name}}"] = {"patch": patch}
    info = {"title": "a test", "version": "1"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}}


# --- http ---------------------------------------------------------------------------------------------------


class _Http(http.server.ThreadingHTTPServer):
    daemon_threads = True
    api: ApiServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed: the tests do that."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_PATCH = do_DELETE = do_POST = do_GET  # noqa: N815

    def _answer(self) -> None:
        api, url = self.server.api, urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        request = f"{self.command} {self.path}"
        found = _OBJECT.fullmatch(url.path)
        if found:
            api.requests.append(request)
        answer: Json | bytes | Failure | None = api.answer(request)
        if answer is None and found and found[4] == "/exec":
            answer = self._execute(found["name"], urllib.parse.parse_qs(url.query)["command"])
        elif answer is None and found:
            answer = self._object(found, dict(urllib.parse.parse_qsl(url.query)), body)
        elif answer is None:
            answer = _discovery(url.path) or Failure(404, "NotFound", "no such resource")
        if answer is not None:
            self._send(answer)
        if found:
            api.after(request)

    def _object(self, found: re.Match[str], query: dict[str, str], body: str) -> Json | Failure | None:
        """None once the answer was streamed."""
        api, plural, name = self.server.api, found["plural"], found["name"]
        if plural not in KINDS:
            return Failure(404, "NotFound", "no such resource")
        if found[4] == "/log":
            return self._log(name, follow=query.get("follow") == "true")
        if self.command == "GET" and name:
            return api.get(plural, name)
        if self.command == "GET" and query.get("watch"):
            return self._watch(plural, query)
        if self.command == "GET":
            return api.list(plural, query)
        if self.command == "PATCH":
            return api.apply(plural, name, yaml.safe_load(body), dry_run="dryRun" in query)
        if self.command == "DELETE":
            return api.delete(plural, name)
        return Failure(405, "MethodNotAllowed", "no such method")

    def _send(self, answer: Json | bytes | Failure) -> None:
        code, kind = 200, "application/json"
        if isinstance(answer, Failure):
            code = answer.code
            about = {"message": answer.message, "reason": answer.reason, "code": code}
            answer = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", **about}
        if isinstance(answer, bytes):
            content, kind = answer, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
        else:
            content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    # --- streams ---

    def _start_stream(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _write(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _log(self, name: str, *, follow: bool) -> Failure | None:
        """The log of a pod; with `follow` until the pod has ended."""
        api, sent = self.server.api, 0
        if ("pods", name) not in api.objects:
            return _not_found("pods", name)
        self._start_stream("text/plain")
        while True:
            running = api.objects.get(("pods", name), {}).get("status", {}).get("phase") == "Running"
            if output := api.logs.get(name, "")[sent:]:
                self._write(output.encode())
                sent += len(output)
            if not (follow and running):
                break
            time.sleep(0.1)
        self._write(b"")
        return None

    def _execute(self, name: str, command: list[str]) -> Failure | None:
        api = self.server.api
        if ("pods", name) not in api.objects:
            return _not_found("pods", name)
        if self.headers.get("Upgrade") != spdy.NAME:
            # Newer clients ask for a WebSocket first, and then like older ones.
            return Failure(400, "BadRequest", "no such protocol")
        output, code = api.execute(name, command)
        spdy.serve(self, output, code)
        return None

    def _watch(self, plural: str, query: dict[str, str]) -> None:
        """Tells of deletions until the client has seen enough."""
        api = self.server.api
        seen = {each["metadata"]["name"]: each for each in api.list(plural, query)["items"]}
        self._start_stream("application/json")
        for _ in range(6000):
            for name in [name for name in seen if (plural, name) not in api.objects]:
                event = {"type": "DELETED", "object": seen.pop(name)}
                self._write(json.dumps(event).encode() + b"\n")
            time.sleep(0.1)
