"""Slurm itself, for tests: its daemons on free ports of this machine, several nodes with GPUs that are none. Every node
has its own name, and processes that no other node sees.

All of it lives in a process namespace whose first process ends when the test does, however that ends: `python
cluster.py FOLDER` is that process.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "munged", "unshare", "mount")
ACCOUNTING = ("slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb", "mariadb-install-db")
START_SECONDS = 60.0
NODES, GPUS, CPUS = 3, 4, 16


class Cluster:
    """A running Slurm. `environ` is what its clients need to find it."""

    def __init__(self, folder: Path, *, accounting: bool = False):
        self.folder = folder
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
        # stdin is a pipe that closes when this process is gone: the first process reads it, and its end ends all.
        with (folder / "log/cluster.log").open("wb") as log:
            self._first = subprocess.Popen(
                [*_APART, sys.executable, __file__, str(folder)],
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
        """End every process of the cluster, jobs among them."""
        assert self._first.stdin is not None
        self._first.stdin.close()
        try:
            self._first.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._first.kill()
            self._first.wait()

    def tell(self, *command: str) -> str:
        """Run one of Slurm's clients. Returns what it prints; its complaint is the exception's."""
        told = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60)
        assert told.returncode == 0, f"{command}: {told.stderr or told.stdout}"
        return told.stdout.strip()

    def _await_nodes(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._first.poll() is None:
            if (self.folder / "etc/slurm.conf").exists():
                told = subprocess.run(
                    ["sinfo", "-h", "-N", "-p", "gpu", "-o", "%T"],
                    env=self.environ,
                    capture_output=True,
                    text=True,
                    timeout=30,
                )
                if told.stdout.split() == ["idle"] * NODES:
                    return
            time.sleep(0.1)
        logs = "\n".join(f"{path.name}:\n{path.read_text()[-1500:]}" for path in self.folder.glob("log/*"))
        raise RuntimeError(f"Slurm did not start in {START_SECONDS:g} s\n{logs}")


_APART = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _free_ports(count: int) -> list[int]:
    """Return ports below those that Linux gives to whoever asks for any, so that nobody gets them before we do."""
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


# --- inside: the first process of the namespace -------------------------------------------------------------


def main(folder: Path) -> None:
    """Write the configuration, start everything, and leave when nobody holds our stdin any more."""
    settings = json.loads((folder / "settings.json").read_text())
    for gpu in range(GPUS):
        # A character device, as Slurm wants one for a GPU; it is /dev/null.
        os.mknod(folder / f"dev/nvidia{gpu}", 0o020666, os.makedev(1, 3))
    _munge(folder)
    if settings["accounting"]:
        _accounting(folder, settings)
    for name, text in _configuration(folder, settings).items():
        _write(folder / "etc" / name, text)
    _start(folder, "slurmctld", "-c", "-D")
    for node in settings["nodes"]:
        # Its own name, resolved by a hosts file of its own; bash, for the first process has to reap.
        hosts = shlex.quote(str(folder / "etc/hosts"))
        inside = f'hostname {node}; mount --bind {hosts} /etc/hosts; slurmd -D -N {node} & wait "$!"'
        _start(folder, *_APART, "--uts", "bash", "-c", inside, log=node)
    sys.stdin.buffer.read()


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
    # --force: pytest's folders belong to one user, which munged finds too open or too closed by turns.
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
        "ClusterName=house",
        f"SlurmctldHost={here}(127.0.0.1)",
        "SlurmUser=root",
        f"SlurmctldPort={settings['port']}",
        "AuthType=auth/munge",
        # A job that is queued again waits for so long, two minutes by default.
        f"AuthInfo=socket={folder}/munge/socket,cred_expire=5",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd-%n.pid",
        f"SlurmctldLogFile={folder}/log/slurmctld.log",
        f"SlurmdLogFile={folder}/log/slurmd-%n.log",
        # No control groups: a test's machine may be a container without any.
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "MpiDefault=none",
        "ReturnToService=2",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        # Nothing here waits for a timer of a cluster with thousands of jobs.
        "SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "KillWait=10",
        "MinJobAge=600",
        "CompleteWait=0",
        "EnforcePartLimits=ALL",
        "GresTypes=gpu",
        "SlurmdParameters=config_overrides",
        *kept,
        f"NodeName=DEFAULT CPUs={CPUS} CoresPerSocket={CPUS} RealMemory=64000 Gres=gpu:a100:{GPUS}",
        *(
            f"NodeName={name} NodeHostname={here} NodeAddr=127.0.0.1 Port={port}"
            for name, port in nodes.items()
        ),
        f"PartitionName=DEFAULT Nodes={all_nodes} MaxTime=1-00:00:00 DefMemPerCPU=100",
        "PartitionName=gpu Default=YES PriorityTier=10 PreemptMode=OFF",
        "PartitionName=spot PriorityTier=1 PreemptMode=REQUEUE GraceTime=0",
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


# --- inside: accounting -------------------------------------------------------------------------------------


def _accounting(folder: Path, settings: Mapping[str, object]) -> None:
    base = folder / "database"
    base.mkdir()
    data, door = f"--datadir={base}/data", f"--socket={base}/socket"
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
        *("mariadbd", "--no-defaults", "--user=root", data, door, f"--port={settings['database_port']}"),
        *("--bind-address=127.0.0.1", f"--pid-file={base}/pid", "--innodb-buffer-pool-size=64M"),
        *("--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900", "--skip-log-bin"),
    )
    orders = (
        "create database slurm_acct_db; create user slurm@'127.0.0.1' identified by 'slurm';"
        "create user slurm@localhost identified by 'slurm'; grant all on slurm_acct_db.* to slurm@'127.0.0.1';"
        "grant all on slurm_acct_db.* to slurm@localhost"
    )
    _again("mariadb", "--no-defaults", door, "-uroot", "-e", orders)
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
    # slurmdbd and sacctmgr want a slurm.conf beside their own, before there can be a controller.
    for name, text in _configuration(folder, settings).items():
        if name != "hosts":
            _write(folder / "etc" / name, text)
    _start(folder, "slurmdbd", "-D")
    _again("sacctmgr", "-n", "-i", "list", "cluster")
    # The controller wants the cluster to be known when it starts.
    _accounts()


def _accounts() -> None:
    for order in (
        "add cluster house",
        "add account garden description=x organization=x",
        "add user root account=garden defaultaccount=garden",
        "add qos high priority=100",
        "modify user root set qos+=high",
    ):
        subprocess.run(["sacctmgr", "-i", *order.split()], stdout=subprocess.DEVNULL, timeout=60)


def _again(*command: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while (told := subprocess.run(command, capture_output=True, text=True, timeout=60)).returncode != 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no answer in {START_SECONDS:g} s: {command[0]}: {told.stderr}")
        time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
