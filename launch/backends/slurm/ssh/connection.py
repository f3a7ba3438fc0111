"""Runs bash scripts and rsync on another machine, through the system's ssh and one shared connection to each host. A
connection that drops is taken up again: every script that is run here must be safe to run twice."""

import contextlib
import functools
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hatrain.errors import BadInput
from hatrain.runtime.waiting import waiting

Result = TypeVar("Result")

PATIENCE_SECONDS = 300.0
"""How long a lost connection is tried again before a command gives up."""
LONGEST_PAUSE_SECONDS = 30.0
ANSWER_SECONDS = 180.0
"""A script may take this long. A dead link is noticed earlier, by ssh itself."""
_KEPT_SECONDS = 600
"""How long an unused connection stays open for the next command."""
_LONGEST_SOCKET_FOLDER = 40
"""ssh appends up to 60 characters, and a socket's path has at most 104."""
_OPTIONS = (
    *("ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=3", "LogLevel=ERROR"),
    # Of the user's configuration, what concerns a terminal or ports is not wanted here. Nothing there needs the agent.
    *("ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes", "PermitLocalCommand=no"),
    *("RequestTTY=no", "RemoteCommand=none"),
)
# Fixed text, which every login shell reads alike (sh, tcsh, fish): bash reads what is to be done from stdin.
_PLAIN = "exec bash -s"
# Slurm is often on the PATH of a login only. What a profile reads from stdin must not be the script.
_LOGIN = "exec bash -c 'exec 3<&0; exec bash -l -c \"exec bash -s <&3 3<&-\" </dev/null'"
_REFUSED = re.compile(r"permission denied|host key verification failed|too many authentication failures", re.I)
_RSYNC_LOST = (10, 12, 30, 35, 255)
"""rsync's exit codes for a socket, a stream or a time-out that broke, and ssh's own."""


class Unreachable(BadInput):
    """There is no connection: what was asked for last may have been done."""


class _Lost(Exception):
    """No connection: a script may have run to its end, or not at all."""

    def __init__(self, reason: str, *, was_up: bool):
        super().__init__(reason)
        self.reason, self.was_up = reason, was_up


@dataclass(frozen=True)
class Output:
    """What a script did."""

    code: int
    out: bytes
    errors: str

    @property
    def text(self) -> str:
        return self.out.decode(errors="replace")


@functools.cache
def connection(host: str) -> "Connection":
    """The connection of this process to a host."""
    return Connection(host)


class Connection:
    """One host, by its name in the user's ssh configuration, or USER@HOST."""

    def __init__(self, host: str):
        self.host = host
        self.patience = PATIENCE_SECONDS
        self._was_up = self._is_lost = False

    def run(self, script: str, *, login: bool = False) -> Output:
        """Run a bash script there, with empty input. `login` gives it the environment of a login.

        Raises Unreachable, in one line, when the host cannot be reached, or stays away for longer than `patience`.
        """
        return self._persist(lambda: self._run(script, login=login))

    def rsync(self, arguments: Sequence[str], names: Iterable[str], *, progress: bool = False) -> str:
        """Copy the files of these names; the last argument is the target. `:PATH` stands for a path on the host.

        Returns what rsync printed. Raises BadInput as `run` does, and with rsync's own reason.
        """
        if shutil.which("rsync") is None:
            raise BadInput("rsync: not found on this machine; install it")
        files = b"\0".join(os.fsencode(name) for name in names)
        return self._persist(lambda: self._rsync(arguments, files, progress=progress))

    def close(self) -> None:
        """End the shared connection, if there is one."""
        subprocess.run([*self._ssh(), "-O", "exit", "--", self.host], capture_output=True, timeout=30)

    # --- taking it up again ---

    def _persist(self, act: Callable[[], Result]) -> Result:
        began, pause = time.monotonic(), 1.0
        while True:
            try:
                result = act()
            except _Lost as lost:
                if _REFUSED.search(lost.reason) or not (lost.was_up or self._was_up):
                    raise Unreachable(f"{self.host}: {lost.reason}{_advice(lost.reason, self.host)}") from None
                if not self._is_lost:
                    self._is_lost = True
                    print(f"{self.host}: lost the connection ({lost.reason}); connecting again", file=sys.stderr)
                if time.monotonic() + pause - began > self.patience:
                    raise Unreachable(f"{self.host}: no connection: {lost.reason}") from None
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                self._was_up, self._is_lost = True, False
                return result

    # --- once ---

    def _run(self, script: str, *, login: bool) -> Output:
        mark = f"hatrain-{secrets.token_hex(8)}"
        # In braces: bash reads all of it before it starts.
        text = (
            f"{{\nprintf '%s\\n' {mark}\nprintf '%s\\n' {mark} >&2\n(\n{script}\n) </dev/null\n"
            f"printf '\\n%s %s\\n' {mark} \"$?\"\nexit 0\n}}\n"
        )
        command = [*self._ssh(), *self._prompts(), "--", self.host, _LOGIN if login else _PLAIN]
        # A file for stderr: a connection that stays open would keep a pipe open as well.
        with tempfile.TemporaryFile() as errors:
            code, out = self._communicate(command, text.encode(), errors.fileno())
            errors.seek(0)
            complaint = errors.read().decode(errors="replace")
        _, began, after = out.partition(f"{mark}\n".encode())
        body, ended, end = after.rpartition(f"\n{mark} ".encode())
        if ended:
            return Output(int(end), body, complaint.rpartition(f"{mark}\n")[2])
        lines = [line.strip() for line in complaint.splitlines() if line.strip() and mark not in line]
        reason = lines[-1] if lines else f"ssh ended with exit code {code}"
        if not began and 0 <= code < 128:
            raise BadInput(f"{self.host}: bash does not start there: {reason}")
        raise _Lost(reason, was_up=bool(began))

    def _communicate(self, command: Sequence[str], text: bytes, errors: int) -> tuple[int, bytes]:
        asks = not self._prompts()
        try:
            # In a session of its own, Ctrl-C while a run is followed does not end it.
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=not asks
            )
        except FileNotFoundError:
            raise BadInput("ssh: not found on this machine; install an OpenSSH client") from None
        except OSError as error:
            raise BadInput(f"ssh: cannot be started: {error.strerror}") from None
        try:
            out, _ = process.communicate(text, timeout=None if asks else ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            self.close()
            raise _Lost(f"no answer in {ANSWER_SECONDS:g} s", was_up=self._was_up) from None
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
        return process.returncode, out

    def _rsync(self, arguments: Sequence[str], files: bytes, *, progress: bool) -> str:
        shows = progress and sys.stderr.isatty()
        command = [
            *("rsync", "--files-from=-", "--from0", "--protect-args", "--times", "--copy-links"),
            # rsync splits this at blanks; no option has one.
            # ssh notices a dead link earlier; this is for a side that no longer reads or writes.
            f"--timeout={ANSWER_SECONDS:.0f}",
            *("--partial-dir=.hatrain-partial", "--compress", "--rsh", " ".join([*self._ssh(), "-o", "BatchMode=yes"])),
            *(["--info=progress2"] if shows else []),
            *(f"{self.host}{each}" if each.startswith(":") else each for each in arguments),
        ]
        said = waiting(f"{self.host}: copying files") if progress and not shows else contextlib.nullcontext()
        with tempfile.TemporaryFile() as errors, said:
            result = subprocess.run(
                command,
                input=files,
                stdout=sys.stderr.fileno() if shows else subprocess.PIPE,
                stderr=errors.fileno(),
                check=False,
            )
            errors.seek(0)
            lines = errors.read().decode(errors="replace").splitlines()
        if result.returncode == 0:
            return os.fsdecode(result.stdout or b"")
        told = [line.strip() for line in lines if line.strip() and not line.startswith("rsync error:")]
        reason = _shortened((told or lines or [f"rsync ended with exit code {result.returncode}"])[0])
        if "is your shell clean" in "\n".join(lines):
            raise BadInput(
                f"{self.host}: a start-up file of your shell there prints text, which rsync cannot bear; let it print "
                "only on a terminal"
            )
        if re.search(r"rsync.*(command not found|not found|no such file)", reason, re.I):
            raise BadInput(f"{self.host}: rsync is not found there; ask for it, or load it in a start-up file")
        if result.returncode in _RSYNC_LOST and "No space left" not in reason:
            raise _Lost(reason, was_up=True)
        raise BadInput(f"{self.host}: rsync: {reason}")

    # --- ssh's options ---

    def _prompts(self) -> list[str]:
        """A password or a one-time code is asked for on a terminal only, and only for the first connection."""
        asks = not self._was_up and sys.stdin.isatty() and sys.stderr.isatty()
        return [] if asks else ["-o", "BatchMode=yes"]

    def _ssh(self) -> list[str]:
        options = [*_OPTIONS]
        if not _users_own(self.host):
            options += ["ControlMaster=auto", f"ControlPath={private_folder()}/%C", f"ControlPersist={_KEPT_SECONDS}"]
        return ["ssh", *(word for option in options for word in ("-o", option))]


@functools.cache
def _users_own(host: str) -> bool:
    """Whether the user shares a connection already, as ControlPath in the configuration says: it may have taken a
    one-time code to open."""
    try:
        check = subprocess.run(["ssh", "-O", "check", "--", host], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return check.returncode == 0


@functools.cache
def private_folder() -> Path:
    """A folder of this machine for connections and locks, for this user alone. Raises BadInput where somebody else has
    it."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or "/nowhere")
    short = len(str(runtime)) < _LONGEST_SOCKET_FOLDER
    usable = short and runtime.is_dir() and re.fullmatch(r"[\w./-]+", str(runtime))
    folder = runtime / "hatrain" if usable else Path(f"/tmp/hatrain-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise BadInput(f"{folder}: is not yours alone (mode 700), and connections to clusters lie there; remove it")
    return folder


def _advice(reason: str, host: str) -> str:
    if re.search(r"permission denied|too many authentication", reason, re.I):
        return f"; hatrain cannot log in without a key that ssh finds by itself; try: ssh {host} true"
    if re.search(r"host key verification", reason, re.I):
        return f"; log in once by hand and compare its key: ssh {host}"
    if re.search(r"could not resolve", reason, re.I):
        return "; ssh.host of the cluster file is a name of your ~/.ssh/config, or USER@HOST"
    return ""


def _shortened(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}…"
