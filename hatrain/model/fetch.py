"""Downloads a job's base model and tokenizer into the hub's cache, so that the job can run without a network. It needs
neither torch nor transformers."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hatrain.contract import hub
from hatrain.contract.load import Document
from hatrain.contract.spec import JobSpec
from hatrain.errors import BadInput
from hatrain.runtime import credentials

TOKENS_PAGE = "https://huggingface.co/settings/tokens"


TEXTS = ("merges.txt", "vocab.txt", "README.md")


class Unreachable(Exception):
    """The hub cannot be reached or failed; the job is valid."""


@dataclass(frozen=True)
class Fetched:
    commit: str
    """The commit of the job's revision."""
    folder: Path
    files: int
    bytes: int


def needed(names: Iterable[str], trust_remote_code: bool = False) -> list[str]:
    """Return the files of a repository that a run reads: one set of weights, the tokenizer, configurations, and the
    card, which states the licence.

    Weights of other formats (GGUF, ONNX, a publisher's own) are left out. Empty without weights.
    """
    names = sorted(names)
    top = [name for name in names if "/" not in name]
    patterns = (
        r"model(-\d+-of-\d+)?\.safetensors",
        r"(?!consolidated|adapter).*\.safetensors",
        r"pytorch_model(-\d+-of-\d+)?\.bin",
    )
    sets = ([name for name in top if re.fullmatch(pattern, name)] for pattern in patterns)
    weights = next((files for files in sets if files), [])
    if not weights:
        return []
    endings = {".json", ".jinja", ".model", ".tiktoken", *([".py"] if trust_remote_code else [])}
    rest = [name for name in top if PurePosixPath(name).suffix in endings or name in TEXTS]
    templates = [name for name in names if re.fullmatch(r"additional_chat_templates/[^/]+\.jinja", name)]
    return weights + rest + templates


def fetch(job: JobSpec, document: Document) -> Fetched:
    """Download the base model of a job, unless it is in the cache. `document` gives the lines of the job's keys.

    Raises BadInput for a missing model, revision or permission, and Unreachable without a network.
    """
    from huggingface_hub import HfApi, snapshot_download

    base, revision = job.model.base, job.model.revision
    with _hub_errors(job, document):
        # Its own client waits longer, and for each file again.
        if not hub.offline() and (why := hub.why_silent()):
            raise Unreachable(unreachable(why))
        info = HfApi().model_info(base, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        files = needed(sizes, job.model.trust_remote_code)
        if not files:
            where = document.where(("model", "base"))
            raise BadInput(f"{where}: {base} has no weights that transformers reads (safetensors or .bin)")
        # By the job's revision, not by its commit: the cache then knows which commit `main` was.
        folder = Path(snapshot_download(base, revision=revision, allow_patterns=files))
    return Fetched(folder.name, folder, len(files), sum(sizes[name] for name in files))


def unreachable(why: str = "") -> str:
    reason = f" ({why})" if why else ""
    return (
        f"{credentials.hide(hub.endpoint())} cannot be reached{reason}; fetch on a machine with network access and the "
        "same HF_HOME"
    )


@contextmanager
def _hub_errors(job: JobSpec, document: Document) -> Iterator[None]:
    """Turn errors of the hub's client into one line, which never contains a token."""
    from huggingface_hub import constants, get_token

    # HTTPError is the client's error for a failed connection, whichever HTTP library it uses.
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    base, where = job.model.base, document.where(("model", "base"))
    page = f"{constants.ENDPOINT}/{base}"
    private = "HF_TOKEN has no access to it" if get_token() else "it is private and HF_TOKEN is not set"
    absent = f"{where}: {base}: no such model at {page}, or {private}"
    try:
        yield
    except GatedRepoError:
        if get_token():
            message = f"HF_TOKEN has no access yet; accept its terms at {page}"
        else:
            message = f"accept its terms at {page}, create a token at {TOKENS_PAGE}, and set HF_TOKEN"
        raise BadInput(f"{where}: {base} is gated: {message}") from None
    except RepositoryNotFoundError:
        raise BadInput(absent) from None
    except RevisionNotFoundError:
        revision = document.where(("model", "revision"))
        raise BadInput(f"{revision}: {base} has no branch, tag or commit {job.model.revision!r}") from None
    except HFValidationError:
        raise BadInput(f"{where}: found {base!r}; accepted: a folder, or a hub id such as org/name") from None
    except OfflineModeIsEnabled:
        name = "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
        raise Unreachable(f"{name} is set, but fetching needs the network; unset it") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403) and get_token():
            raise BadInput(f"HF_TOKEN: {constants.ENDPOINT} does not accept the token ({status})") from None
        if status in (401, 403):
            raise BadInput(absent) from None
        raise Unreachable(f"{constants.ENDPOINT} returned {status}; try again later") from None
    except (HTTPError, LocalEntryNotFoundError):
        raise Unreachable(unreachable()) from None
    except OSError as error:
        raise Unreachable(f"{constants.HF_HUB_CACHE}: cannot be written: {error.strerror or error}") from None
