"""A laptop: a folder with jobs, and an `ssh` that reaches the login node and can fail on request. Nothing of the
cluster is found on it by accident: it has no Slurm, another home and other folders."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from hatrain.contract import variables
from hatrain.contract.run import RunDirectory
from tests.slurm.cluster import DEADLINE, Cluster
from tests.slurm.ssh.server import HOST, Sshd
from tests.slurm.workspace import Workspace

# Counts the sessions (not rsync's own arguments, not questions about the shared connection), and breaks the one that
# the file `break` names: `before N` ends without a connection, `after N` runs the command there and loses its answer;
# `before-kill N` and `after-kill N` also kill the hatrain that waits for it.
_SSH = """\
#!/bin/bash
real=({ssh} -F {configuration})
for word in "$@"; do if [[ $word == -O ]]; then exec "${{real[@]}}" "$@"; fi; done
{{
  flock 9
  count=$(( $(cat {folder}/count 2> /dev/null || echo 0) + 1 ))
  echo "$count" > {folder}/count
}} 9> {folder}/lock
read -r how which < {folder}/break 2> /dev/null || true
if [[ $count != "$which" ]]; then exec "${{real[@]}}" "$@"; fi
rm {folder}/break
# rsync needs its answers while it copies: it loses the end alone.
if [[ $how == after* && $* == *"rsync --server"* ]]; then
  "${{real[@]}}" "$@"
elif [[ $how == after* ]]; then
  "${{real[@]}}" "$@" > /dev/null 2>&1
fi
if [[ $how == *-kill ]]; then kill -KILL "$(cat {folder}/pid)"; fi
echo "Connection to {host} closed by remote host." >&2
exit 255
"""


class Laptop:
    """`cluster` is a folder of the cluster, which this machine only has because a test runs on one."""

    def __init__(self, folder: Path, slurm: Cluster, sshd: Sshd):
        self.folder, self.slurm, self.sshd = folder / "laptop", slurm, sshd
        # Blanks and quotes are no special case.
        self.there = Workspace(folder / "the cluster's scratch", slurm)
        (self.there.folder / "train.jsonl").unlink()
        self._state = folder / "ssh"
        for path in (self.folder, self._state / "bin", self.folder / "home"):
            path.mkdir(parents=True)
        (self.folder / "train.jsonl").write_text('{"text": "hello"}\n' * 8)
        # A socket's path has at most 104 characters.
        self._runtime = tempfile.mkdtemp(prefix="ht-", dir="/tmp")
        ssh = shutil.which("ssh")
        text = _SSH.format(ssh=ssh, configuration=sshd.configuration, folder=f"'{self._state}'", host=HOST)
        (self._state / "bin/ssh").write_text(text)
        (self._state / "bin/ssh").chmod(0o755)
        # What a laptop has, and no Slurm.
        for program in ("rsync", "git", "bash", "cat", "flock", "rm", "kill", "stty"):
            if (found := shutil.which(program)) is not None:
                (self._state / "bin" / program).symlink_to(found)
        self.environ = {
            "PATH": str(self._state / "bin"),
            "HOME": str(self.folder / "home"),
            "XDG_RUNTIME_DIR": self._runtime,
            "OMP_NUM_THREADS": "1",
        }

    def close(self) -> None:
        for socket in Path(self._runtime).rglob("*"):
            if socket.is_socket():
                command = ["ssh", "-F", str(self.sshd.configuration), "-S", str(socket), "-O", "exit", HOST]
                subprocess.run(command, capture_output=True, timeout=DEADLINE)
        shutil.rmtree(self._runtime, ignore_errors=True)

    # --- files ---

    def cluster_file(self, behavior: str = "finish", **changes: Any) -> str:
        """Write a cluster file with ssh. Returns its name on the command line."""
        written = yaml.safe_load(self.there.cluster_file(behavior=behavior).read_text())
        written["python"] = variables.literal(str(self.there.python))
        written |= {"ssh": {"host": HOST, "workdir": str(self.there.folder)}, **changes}
        (self.folder / "my-hpc.yaml").write_text(yaml.safe_dump(written, allow_unicode=True))
        return "./my-hpc.yaml"

    def job_file(self, name: str = "kitchen", **changes: Any) -> str:
        path = self.there.job_file(name, **changes)
        return str(path.rename(self.folder / path.name).relative_to(self.folder))

    # --- commands ---

    def start(self, *arguments: str, output: Path | None = None) -> "subprocess.Popen[str]":
        """Start a verb whose output goes to a pipe, or to a file."""
        file = None if output is None else output.open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "hatrain", *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if file is None else file,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if file is not None:
            file.close()
        (self._state / "pid").write_text(str(process.pid))
        return process

    def hatrain(self, *arguments: str, code: int | None = 0) -> str:
        """Run a verb and assert its exit code. Returns stdout and stderr together."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=DEADLINE)
        assert code is None or process.returncode == code, f"{arguments}: {process.returncode}:\n{output}"
        return output

    def submit(self, name: str = "kitchen", behavior: str = "finish", *options: str, **job: Any) -> RunDirectory:
        cluster = self.cluster_file(behavior=behavior)
        self.hatrain("submit", self.job_file(name, **job), "--cluster", cluster, *options)
        return self.run(name)

    def run(self, name: str = "kitchen") -> RunDirectory:
        """The copy of a run here."""
        return RunDirectory(self.folder / "runs" / name)

    def state(self, name: str = "kitchen") -> str:
        """The state that `hatrain status` prints."""
        return self.hatrain("status", name).splitlines()[1].split()[2]

    # --- the connection ---

    def sessions(self) -> int:
        """How often ssh was asked to run something."""
        count = self._state / "count"
        return int(count.read_text()) if count.exists() else 0

    def break_session(self, how: str, number: int) -> None:
        """Break the session with this number, counted from now on."""
        (self._state / "break").write_text(f"{how} {self.sessions() + number}\n")

    @property
    def is_broken(self) -> bool:
        """Whether that session has come."""
        return not (self._state / "break").exists()


def jobs_of(laptop: "Laptop", name: str = "kitchen") -> list[str]:
    """The ids of all jobs of this name and of this test's folders that Slurm has or had: other tests use it as well."""
    lines = laptop.slurm.run("squeue", "-h", "-t", "all", "-n", name, "-o", "%F|%Z").splitlines()
    found = (line.split("|", 1) for line in lines)
    return [job for job, folder in found if Path(folder).is_relative_to(laptop.there.folder.parent)]


def path_of_sshd() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
