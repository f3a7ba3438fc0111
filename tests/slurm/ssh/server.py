"""A real sshd on the loopback interface, with keys made on the spot: the login node of a test's cluster."""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.slurm.cluster import DEADLINE

PROGRAMS = ("ssh", "ssh-keygen", "rsync")
HOST = "my-hpc"


class Sshd:
    """A running sshd for this user. `configuration` is the ssh_config of somebody who may log in, as HOST."""

    def __init__(self, folder: Path, environment: Mapping[str, str]):
        """`environment` is that of the cluster, of which a login gets what finds Slurm."""
        self.folder, self.home = folder, folder / "home"
        self._programs = folder / "bin"
        for each in (self.home, self._programs):
            each.mkdir(parents=True)
        given = {
            "SLURM_CONF": environment["SLURM_CONF"],
            "HOME": str(self.home),
            "PATH": f"{self._programs}:{environment['PATH']}",
        }
        for name in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True, timeout=DEADLINE)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
        # A login's start-up files set another PATH than sshd.
        (self.home / ".profile").write_text(f"export PATH={given['PATH']}\n")
        self.port = _free_port()
        host_key = (folder / "host_key.pub").read_text().split()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key[0]} {host_key[1]}\n")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nPidFile none\nStrictModes no\nUsePAM no\n"
            f"PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"MaxStartups 100\nSetEnv {' '.join(f'{name}={value}' for name, value in given.items())}\n"
        )
        self.configuration = folder / "ssh_config"
        self.configuration.write_text(
            f"Host {HOST}\n  HostName 127.0.0.1\n  Port {self.port}\n  IdentityFile {folder}/user_key\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n  StrictHostKeyChecking yes\n"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
            assert sshd is not None
            command = [sshd, "-D", "-e", "-f", str(self.folder / "sshd_config")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + DEADLINE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return
            assert self._process.poll() is None and time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it: nobody can connect, and connections that are open are cut."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=DEADLINE)
        self.cut()

    def cut(self) -> None:
        """End every open connection."""
        for process in self._sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def sessions(self) -> int:
        return len(self._sessions())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let nobody log in."""
        keys = self.folder / "authorized_keys"
        text = keys.read_text()
        keys.write_text("")
        try:
            yield
        finally:
            keys.write_text(text)

    @contextlib.contextmanager
    def open_connection(self) -> Iterator[None]:
        """A connection that the user shares, by the configuration."""
        before = self.configuration.read_text()
        with tempfile.TemporaryDirectory(prefix="ht-", dir="/tmp") as folder:
            self.configuration.write_text(f"{before}  ControlMaster auto\n  ControlPath {folder}/%C\n")
            command = ["ssh", "-F", str(self.configuration)]
            try:
                subprocess.run(
                    [*command, "-f", "-N", "-M", HOST], check=True, timeout=DEADLINE, stderr=subprocess.DEVNULL
                )
                yield
            finally:
                subprocess.run([*command, "-O", "exit", HOST], capture_output=True, timeout=DEADLINE)
                self.configuration.write_text(before)

    def hold_sbatch(self) -> "Gate":
        """Let the next sbatch there wait before it begins, when it does more than ask."""
        return Gate(self._programs / "sbatch", self.folder)

    def _sessions(self) -> list[int]:
        """The processes of sshd that serve a connection: those with this port as the server's end."""
        served = {inode for local, inode in _connections() if local == self.port}
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (path / "comm").read_text().strip() != "sshd":
                    continue
                links = {str(link.readlink()) for link in (path / "fd").iterdir()}
                if links & {f"socket:[{inode}]" for inode in served}:
                    found.append(int(path.name))
        return found

    def kill_after_sbatch(self, workdir: Path) -> None:
        """Let the next sbatch there submit its job, and then kill the script that waits for it."""
        program, real = self._programs / "sbatch", shutil.which("sbatch")
        program.write_text(
            f'#!/bin/bash\nif [[ $* == *--test-only* ]]; then exec {real} "$@"; fi\nrm "$0"\n{real} "$@"\n'
            f'read -r _ owner < <(cat {shlex.quote(str(workdir))}/.hatrain/sent/*/owner)\nkill -KILL "$owner"\n'
        )
        program.chmod(0o755)


class Gate:
    """Holds one sbatch."""

    def __init__(self, program: Path, folder: Path):
        self._program, self._waiting, self._opened = program, folder / "waiting", folder / "opened"
        real = shutil.which("sbatch")
        program.write_text(
            f"#!/bin/bash\nif [[ $* != *--test-only* ]]; then\n  touch {self._waiting}\n"
            f'  until [[ -e {self._opened} ]]; do sleep 0.1; done\nfi\nexec {real} "$@"\n'
        )
        program.chmod(0o755)

    @property
    def is_waiting(self) -> bool:
        return self._waiting.exists()

    def open(self) -> None:
        self._program.unlink()
        self._opened.touch()


def _connections() -> list[tuple[int, str]]:
    """(local port, inode) of each established connection."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [(int(row[1].rpartition(":")[2], 16), row[9]) for row in rows if row[3] == "01"]


def _free_port() -> int:
    """Below the ports that Linux hands out by itself."""
    port = 27000 + os.getpid() * 11 % 5000
    while True:
        port += 1
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
