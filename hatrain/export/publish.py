"""Uploading a finished run to the model hub: its model or adapter, its GGUF files, and the card. Large files go first;
then one commit makes everything visible, or nothing."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hatrain.contract import hub
from hatrain.contract.model_ref import is_path
from hatrain.contract.run import RunDirectory
from hatrain.errors import BadInput, nearest
from hatrain.export import card
from hatrain.export.card_facts import Facts, facts_of
from hatrain.model.licence import front_matter
from hatrain.runtime import credentials, seal

CONNECT_SECONDS = 10.0
"""For the first answer of the hub."""
BRANCH = "main"
WEIGHTS = (".safetensors", ".safetensors.index.json", ".gguf")
_OF_THE_HUB = {".gitattributes", "README.md"}
"""What a repository may hold that somebody has just made."""
_PATHS = ("base_model_name_or_path", "_name_or_path", "name_or_path")
"""Keys of configurations under which libraries write where a model was loaded from."""


@dataclass(frozen=True)
class Upload:
    """One file of a publication."""

    name: str
    """In the repository."""
    content: Path | bytes
    note: str = ""
    """What was changed in it."""

    @property
    def text(self) -> str:
        return (self.content if isinstance(self.content, bytes) else self.content.read_bytes()).decode()

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def uploads(run: RunDirectory) -> list[Upload]:
    """Return what is published of a run, by name. Raises BadInput for a run that is not finished, or whose files are
    not whole."""
    job = run.plan().job
    result = run.result(job)
    if not run.done.exists():
        raise BadInput(f"{run.name}: is not finished; hatrain status {run.name} tells its state")
    has_export = (run.export / seal.MANIFEST).is_file()
    for folder in (result, *([run.export] if has_export else [])):
        if damage := seal.verify(folder):
            raise BadInput(f"{folder}: {damage}; nothing is published of a damaged run")
    facts = facts_of(run)
    text = card.card(facts, "adapter" if result == run.adapter else "model")
    found = [Upload(card.NAME, text.encode())]
    found += [_upload(path, path.relative_to(result).as_posix(), facts) for path in _files(result)]
    if has_export:
        found += [Upload(path.name, path) for path in _files(run.export) if path.suffix == ".gguf"]
        found += [Upload(path.name, path) for path in _files(run.export) if path.name == "Modelfile"]
    return sorted(found, key=lambda upload: upload.name)


def _files(folder: Path) -> list[Path]:
    """The sealed files of a folder: what somebody else put there stays there."""
    return [folder / name for name in seal.names(folder)]


def _upload(path: Path, name: str, facts: Facts) -> Upload:
    """A file, without the folders of this machine that libraries write into configurations."""
    if path.suffix != ".json" or path.stat().st_size > 2**20:
        return Upload(name, path)
    values = json.loads(path.read_text(encoding="utf-8"))
    base = facts.repository or str(facts.base.get("name") or Path(facts.plan.job.model.base).name)
    local = [key for key in _PATHS if isinstance(values, dict) and _is_local(values.get(key), facts.repository)]
    if not local:
        return Upload(name, path)
    text = json.dumps({**values, **dict.fromkeys(local, base)}, indent=2, ensure_ascii=False) + "\n"
    return Upload(name, text.encode(), f"{', '.join(local)}: {base}, instead of a folder of this machine")


def _is_local(value: Any, repository: str | None) -> bool:
    """Whether a configuration names a folder. The base's own name on the hub is none."""
    if not isinstance(value, str) or not value or value == repository:
        return False
    return is_path(value) or "/" not in value or Path(value).exists()


class Hub:
    """One repository of the model hub. Every method raises BadInput with what a user can change."""

    def __init__(self, repository: str, say: Callable[[str], None]):
        self.repository, self.say = check_name(repository), say

    def connect(self) -> None:
        """Find out who is logged in."""
        from huggingface_hub import HfApi, constants, get_token

        token = get_token()
        if not token:
            raise BadInput("no token of the model hub: log in with `hf auth login`, or set HF_TOKEN")
        self.api, self.endpoint = HfApi(token=token), constants.ENDPOINT
        if why := hub.why_silent(self.endpoint):
            raise BadInput(
                f"{self.endpoint} cannot be reached ({why}); the same command goes on with what is not uploaded"
            )
        with self._told():
            answer = self._get(f"{self.endpoint}/api/whoami-v2")
        if answer.status_code in (401, 403):
            raise BadInput(
                f"{self.endpoint} does not accept the token: make a new one with write access, and log in with "
                "`hf auth login`, or set HF_TOKEN"
            )
        if answer.status_code != 200:
            raise BadInput(f"{self.endpoint} answers with {answer.status_code}; try again later")
        who = answer.json()
        self.namespaces = [who["name"], *(org["name"] for org in who.get("orgs") or [])]
        namespace = self.repository.split("/")[0]
        if namespace not in self.namespaces:
            raise BadInput(
                f"--repo: found {namespace}, where {who['name']} cannot write; accepted: {', '.join(self.namespaces)}"
                f"{nearest(namespace, self.namespaces)}"
            )

    def open(self, private: bool, revision: str) -> list[str]:
        """Make the repository and the branch, where they are missing. Returns the files that are there.

        Files that no publication of hatrain has left are refused: they are somebody's work.
        """
        with self._told():
            if not self.api.repo_exists(self.repository):
                self.api.create_repo(self.repository, private=private)
                self.say(f"{self.repository}: created, {'private' if private else 'public'}")
            elif private:
                self._check_private()
            if revision != BRANCH:
                self.api.create_branch(self.repository, branch=revision, exist_ok=True)
            there = self.api.list_repo_files(self.repository, revision=revision)
            is_ours = card.NAME in there and self._is_ours(revision)
        if set(there) - _OF_THE_HUB and not is_ours:
            others = sorted(set(there) - _OF_THE_HUB)
            raise BadInput(
                f"--repo: {self.repository} holds other files ({', '.join(others[:3])}"
                f"{', …' if len(others) > 3 else ''}), which hatrain did not publish; choose another name, or another "
                "branch with --revision"
            )
        return there

    def _check_private(self) -> None:
        if not self.api.repo_info(self.repository).private:
            raise BadInput(f"--private: {self.repository} is public; change it on the hub, or leave --private out")

    def _is_ours(self, revision: str) -> bool:
        """Whether the repository's card says that hatrain published it."""
        from huggingface_hub.utils import hf_raise_for_status

        answer = self._get(f"{self.endpoint}/{self.repository}/resolve/{quote(revision, safe='')}/{card.NAME}")
        hf_raise_for_status(answer)
        tags = front_matter(answer.text).get("tags")
        return isinstance(tags, list) and card.TAG in tags

    def _get(self, url: str) -> Any:
        from huggingface_hub.utils import build_hf_headers, get_session

        return get_session().get(url, headers=build_hf_headers(token=self.api.token), timeout=CONNECT_SECONDS)

    def commit(self, files: Sequence[Upload], there: Sequence[str], revision: str, message: str) -> str:
        """Upload files in one commit, and remove weights of an earlier publication. Returns the commit's address."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        names = {file.name for file in files}
        stale = [name for name in there if name.endswith(WEIGHTS) and name not in names]
        for name in stale:
            self.say(f"removing {name}, of an earlier publication")
        operations: list[Any] = [CommitOperationDelete(path_in_repo=name) for name in stale]
        for number, file in enumerate(files, start=1):
            content = file.content if isinstance(file.content, bytes) else str(file.content)
            add = CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=content)
            if file.name.endswith(WEIGHTS):
                self.say(f"uploading {file.name} ({shown(file.size)}), file {number} of {len(files)}")
                with self._told():
                    self.api.preupload_lfs_files(self.repository, additions=[add], revision=revision)
            operations.append(add)
        with self._told():
            made = self.api.create_commit(self.repository, operations, commit_message=message, revision=revision)
        return f"{self.endpoint}/{self.repository}" if revision == BRANCH else str(made.commit_url)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what the hub, or the way to it, says, in one line."""
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        try:
            yield
        except HfHubHTTPError as error:
            raise BadInput(f"{self.repository}: {_said(error)}") from None
        except HFValidationError as error:
            raise BadInput(f"--repo: {str(error).splitlines()[0]}") from None
        except Exception as error:
            if isinstance(error, ValueError) and "metadata" in str(error):
                raise BadInput(f"{card.NAME}: the hub refuses its head: {' '.join(str(error).split())}") from None
            if not _is_network(error):
                raise
            reason = credentials.hide((str(error) or type(error).__name__).splitlines()[0])
            raise BadInput(
                f"{self.endpoint} cannot be reached ({reason}); the same command goes on with what is not uploaded"
            ) from None


def check_name(repository: str) -> str:
    """Return a repository's name. Raises BadInput for one that the hub does not take."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if repository.count("/") != 1 or not all(repository.split("/")):
        raise BadInput(f"--repo: found {repository!r}; accepted: USER/NAME or ORGANISATION/NAME")
    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise BadInput(
            f"--repo: found {repository!r}; accepted: up to 96 of letters, digits, '-', '_' and '.', without '--' and "
            "'..', and none of '-' and '.' first or last"
        ) from None
    return repository


def _said(error: Any) -> str:
    status = getattr(error.response, "status_code", None)
    if status == 403:
        return "the token may not write there; make one with write access, and log in with `hf auth login`"
    message = getattr(error, "server_message", None) or str(error).splitlines()[0]
    what = "the hub fails" if status and status >= 500 else "the hub refuses"
    return f"{what} ({status}): {credentials.hide(str(message).splitlines()[0])}"


def _is_network(error: Exception) -> bool:
    """Whether an HTTP library says that it got no answer: its errors share no class but their package."""
    packages = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    return bool(packages & {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}) or isinstance(
        error, ConnectionError | TimeoutError
    )


def shown(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size:,} bytes"
