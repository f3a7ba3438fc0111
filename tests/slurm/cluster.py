"""A real Slurm for tests: its daemons on free ports of this machine, and several nodes with fake GPUs. Each node has
its own host name, and cannot see the processes of the others.

Everything runs in a process namespace. Its first process, `python cluster.py FOLDER`, ends with the test, however that
ends."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "munged", "unshare", "mount")
ACCOUNTING = ("slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb", "mariadb-install-db")
DEADLINE = float(os.environ.get("HATRAIN_DEADLINE", "600"))
"""Seconds. It only ends a test that hangs."""
NODES, GPUS, CPUS = 3, 4, 16


class Cluster:
    """A running Slurm. Its programs need `environ` to find it."""

    def __init__(self, folder: Path, *, accounting: bool = False):
        self.folder, self.has_accounting = folder, accounting
        for name in ("etc", "state", "log", "dev", "munge", *(f"spool/node{n}" for n in range(1, NODES + 1))):
            (folder / name).mkdir(parents=True)
        ports = _free_ports(NODES + 3)
        settings = {
            "nodes": dict(zip((f"node{n}" for n in range(1, NODES + 1)), ports[3:], strict=True)),
            "accounting": accounting,
            "port": ports[0],
            "accounting_port": ports[1],
            "database_port": ports[2],
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        self.environ["SLURM_CONF"] = str(folder / "etc/slurm.conf")
        # The first process reads stdin, and ends with this process, which holds the other end of the pipe.
        with (folder / "log/cluster.log").open("wb") as log:
            self._first = subprocess.Popen(
                [*_NAMESPACES, sys.executable, __file__, str(folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environ,
                start_new_session=True,
            )
        try:
            self._await_nodes()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process of the cluster, including its jobs."""
        assert self._first.stdin is not None
        self._first.stdin.close()
        try:
            self._first.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._first.kill()
            self._first.wait()

    def run(self, *command: str) -> str:
        """Run one of Slurm's programs, which must succeed. Returns its output."""
        result = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=DEADLINE)
        assert result.returncode == 0, f"{command}: {result.stderr or result.stdout}"
        return result.stdout.strip()

    # --- faults ---

    def signal(self, program: str, number: int, *words: str) -> list[int]:
        """Send a signal to the processes of a program of this cluster that have these words in their command line or
        environment. Returns their process ids."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                name = (path / "comm").read_text().strip()
                variables = (path / "environ").read_bytes()
                known = ((path / "cmdline").read_bytes() + variables).decode(errors="replace").split("\0")
                is_ours = str(self.folder).encode() in variables
            except OSError:
                continue
            if name == program and is_ours and set(words) <= set(known):
                os.kill(int(path.name), number)
                found.append(int(path.name))
        return found

    def stop_controller(self) -> None:
        """End it in order, as for an upgrade."""
        (process,) = self.signal("slurmctld", signal.SIGTERM)
        deadline = time.monotonic() + DEADLINE
        while self.signal("slurmctld", 0):
            assert time.monotonic() < deadline, f"process {process} of the controller does not end"
            time.sleep(0.1)

    def restart_controller(self) -> None:
        """Start the controller again, with the state that it saved."""
        assert self._first.stdin is not None
        self._first.stdin.write(b"slurmctld -D\n")
        self._first.stdin.flush()
        self._await_controller()

    def _await_controller(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while subprocess.run(["squeue"], env=self.environ, capture_output=True, timeout=DEADLINE).returncode:
            assert time.monotonic() < deadline, "the controller did not start again"
            time.sleep(0.1)

    def resume_nodes(self) -> None:
        """Return nodes to service that Slurm has taken out of it."""
        self.signal("slurmd", signal.SIGCONT)
        deadline = time.monotonic() + DEADLINE
        while set(self.run("sinfo", "-h", "-N", "-p", "gpu", "-o", "%T").split()) & {"down", "drained", "draining"}:
            assert time.monotonic() < deadline, "the nodes did not return to service"
            command = ["scontrol", "update", f"NodeName=node[1-{NODES}]", "State=RESUME"]
            subprocess.run(command, env=self.environ, capture_output=True, timeout=DEADLINE)
            time.sleep(0.5)

    def _await_nodes(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and self._first.poll() is None:
            if (self.folder / "etc/slurm.conf").exists():
                result = subprocess.run(
                    ["sinfo", "-h", "-N", "-p", "gpu", "-o", "%T"],
                    env=self.environ,
                    capture_output=True,
                    text=True,
                    timeout=DEADLINE,
                )
                if result.stdout.split() == ["idle"] * NODES:
                    return
            time.sleep(0.1)
        logs = "\n".join(f"{path.name}:\n{path.read_text()[-1500:]}" for path in self.folder.glob("log/*"))
        raise RuntimeError(f"Slurm did not start in {DEADLINE:g} s\n{logs}")


_NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _free_ports(count: int) -> list[int]:
    """Ports below the ephemeral range, from which Linux might hand them out before Slurm binds them."""
    found: list[int] = []
    port = 12000 + os.getpid() * 7 % 15000
    while len(found) < count:
        port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


# --- the first process of the namespace ---------------------------------------------------------------------


def main(folder: Path) -> None:
    """Write the configuration, start everything, and exit when stdin is closed."""
    settings = json.loads((folder / "settings.json").read_text())
    for gpu in range(GPUS):
        # Slurm requires a character device for a GPU: this is the number of /dev/null.
        os.mknod(folder / f"dev/nvidia{gpu}", 0o020666, os.makedev(1, 3))
    _munge(folder)
    if settings["accounting"]:
        _accounting(folder, settings)
    for name, text in _configuration(folder, settings).items():
        _write(folder / "etc" / name, text)
    _start(folder, "slurmctld", "-c", "-D")
    for node in settings["nodes"]:
        # Its own host name, resolved by its own hosts file. bash, because the first process has to reap children.
        hosts = shlex.quote(str(folder / "etc/hosts"))
        inside = f'hostname {node}; mount --bind {hosts} /etc/hosts; slurmd -D -N {node} & wait "$!"'
        _start(folder, *_NAMESPACES, "--uts", "bash", "-c", inside, log=node)
    # Each line is a command to start, until stdin is closed.
    for line in sys.stdin:
        _start(folder, *shlex.split(line))


def _write(path: Path, text: str) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(text)
    aside.chmod(0o600 if path.name == "slurmdbd.conf" else 0o644)
    aside.rename(path)


def _start(folder: Path, *command: str, log: str | None = None) -> None:
    with (folder / f"log/{log or command[0]}.out").open("wb") as out:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)


def _munge(folder: Path) -> None:
    munge = folder / "munge"
    (munge / "key").write_bytes(os.urandom(128))
    (munge / "key").chmod(0o600)
    munge.chmod(0o755)
    # --force: munged objects to the modes of pytest's folders.
    subprocess.run(
        [
            *("munged", "--force", "--socket", str(munge / "socket"), "--key-file", str(munge / "key")),
            *(
                "--pid-file",
                str(munge / "pid"),
                "--log-file",
                str(munge / "log"),
                "--seed-file",
                str(munge / "seed"),
            ),
        ],
        check=True,
    )


def _configuration(folder: Path, settings: Mapping[str, object]) -> dict[str, str]:
    nodes = settings["nodes"]
    assert isinstance(nodes, dict)
    here = socket.gethostname().partition(".")[0]
    all_nodes = f"node[1-{NODES}]"
    if settings["accounting"]:
        kept = [
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=127.0.0.1",
            f"AccountingStoragePort={settings['accounting_port']}",
            f"AccountingStoragePass={folder}/munge/socket",
            "AccountingStorageTRES=gres/gpu",
            "AccountingStorageEnforce=associations,limits,qos",
        ]
    else:
        kept = ["AccountingStorageType=accounting_storage/none"]
    slurm = [
        "ClusterName=test",
        f"SlurmctldHost={here}(127.0.0.1)",
        "SlurmUser=root",
        f"SlurmctldPort={settings['port']}",
        "AuthType=auth/munge",
        # A requeued job waits this long, by default two minutes.
        f"AuthInfo=socket={folder}/munge/socket,cred_expire=5",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd-%n.pid",
        f"SlurmctldLogFile={folder}/log/slurmctld.log",
        f"SlurmdLogFile={folder}/log/slurmd-%n.log",
        # No control groups: the machine may be a container without them.
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/linux",
        "MpiDefault=none",
        "ReturnToService=2",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        # Short timers, which a cluster with thousands of jobs could not have.
        "SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "KillWait=10",
        "MinJobAge=600",
        "CompleteWait=0",
        # How soon a program gives up on a controller that is away.
        "MessageTimeout=3",
        "JobAcctGatherFrequency=1",
        "JobAcctGatherParams=OverMemoryKill",
        "EnforcePartLimits=ALL",
        "GresTypes=gpu",
        "SlurmdParameters=config_overrides",
        *kept,
        f"NodeName=DEFAULT CPUs={CPUS} CoresPerSocket={CPUS} RealMemory=64000 Gres=gpu:a100:{GPUS}",
        *(f"NodeName={name} NodeHostname={here} NodeAddr=127.0.0.1 Port={port}" for name, port in nodes.items()),
        f"PartitionName=DEFAULT Nodes={all_nodes} MaxTime=1-00:00:00 DefMemPerCPU=100",
        "PartitionName=gpu Default=YES PriorityTier=10 PreemptMode=OFF",
        "PartitionName=spot PriorityTier=1 PreemptMode=REQUEUE GraceTime=0",
        "PartitionName=frail PriorityTier=1 PreemptMode=CANCEL",
        "PartitionName=grace PriorityTier=1 PreemptMode=REQUEUE GraceTime=60",
    ]
    hosts = [Path("/etc/hosts").read_text(), *(f"127.0.0.1 {name}" for name in nodes)]
    return {
        "gres.conf": f"NodeName={all_nodes} Name=gpu Type=a100 File={folder}/dev/nvidia[0-{GPUS - 1}]\n",
        "plugstack.conf": "",
        "cgroup.conf": "",
        "hosts": "\n".join(hosts) + "\n",
        "slurm.conf": "\n".join(slurm) + "\n",
    }


# --- accounting ---------------------------------------------------------------------------------------------


def _accounting(folder: Path, settings: Mapping[str, object]) -> None:
    base = folder / "database"
    base.mkdir()
    data, socket_option = f"--datadir={base}/data", f"--socket={base}/socket"
    with (folder / "log/mariadb.out").open("wb") as log:
        subprocess.run(
            [
                *("mariadb-install-db", "--no-defaults", "--user=root", data, "--skip-test-db"),
                "--auth-root-authentication-method=normal",
            ],
            stdout=log,
            stderr=log,
            check=True,
        )
    _start(
        folder,
        *(
            "mariadbd",
            "--no-defaults",
            "--user=root",
            data,
            socket_option,
            f"--port={settings['database_port']}",
        ),
        *("--bind-address=127.0.0.1", f"--pid-file={base}/pid", "--innodb-buffer-pool-size=64M"),
        *("--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900", "--skip-log-bin"),
    )
    statements = (
        "create database slurm_acct_db; create user slurm@'127.0.0.1' identified by 'slurm';"
        "create user slurm@localhost identified by 'slurm'; grant all on slurm_acct_db.* to slurm@'127.0.0.1';"
        "grant all on slurm_acct_db.* to slurm@localhost"
    )
    _retry("mariadb", "--no-defaults", socket_option, "-uroot", "-e", statements)
    lines = [
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/munge/socket",
        "DbdHost=localhost",
        "DbdAddr=127.0.0.1",
        f"DbdPort={settings['accounting_port']}",
        "SlurmUser=root",
        f"PidFile={folder}/slurmdbd.pid",
        f"LogFile={folder}/log/slurmdbd.log",
        "StorageType=accounting_storage/mysql",
        "StorageHost=127.0.0.1",
        f"StoragePort={settings['database_port']}",
        "StorageUser=slurm",
        "StoragePass=slurm",
    ]
    _write(folder / "etc/slurmdbd.conf", "\n".join(lines) + "\n")
    # slurmdbd and sacctmgr need a slurm.conf beside their own, before there is a controller.
    for name, text in _configuration(folder, settings).items():
        if name != "hosts":
            _write(folder / "etc" / name, text)
    _start(folder, "slurmdbd", "-D")
    _retry("sacctmgr", "-n", "-i", "list", "cluster")
    # The cluster must be registered before the controller starts.
    _accounts()


def _accounts() -> None:
    for command in (
        "add cluster test",
        "add account garden description=x organization=x",
        "add user root account=garden defaultaccount=garden",
        "add qos high priority=100",
        "modify user root set qos+=high",
    ):
        subprocess.run(["sacctmgr", "-i", *command.split()], stdout=subprocess.DEVNULL, timeout=DEADLINE)


def _retry(*command: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while (result := subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)).returncode != 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no answer in {DEADLINE:g} s: {command[0]}: {result.stderr}")
        time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
