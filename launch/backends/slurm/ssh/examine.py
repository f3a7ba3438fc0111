"""Whether a cluster behind ssh has what a job from this machine needs. It writes nothing there but an empty file, which
it removes."""

import re
import shlex
import shutil
from collections.abc import Iterator
from importlib import metadata

from hatrain.contract import variables
from hatrain.contract.cluster import FileSecret, SlurmCluster
from hatrain.contract.gpus import GIB
from hatrain.errors import BadInput
from launch.backends.protocol import Answer
from launch.backends.slurm import render
from launch.backends.slurm.ssh.connection import Connection, Output, connection
from launch.run_files import quoted_path

NEEDED = ("sbatch", "squeue", "scontrol", "scancel")
FEW_BYTES = 10 * GIB


def examine(cluster: SlurmCluster) -> Iterator[Answer]:
    """Ask the cluster of a cluster file with `ssh`."""
    assert cluster.ssh is not None
    link = connection(cluster.ssh.host)
    try:
        user = link.run('echo "$(id --user --name) on $(hostname)"').text.strip()
    except BadInput as error:
        yield Answer("ssh", "bad", error.problems[0])
        return
    yield Answer("ssh", "ok", user)
    yield from _rsync(link)
    yield from _slurm(link)
    yield from _workdir(link, cluster.ssh.workdir)
    yield from _secrets(link, cluster)
    yield _container(link, cluster) if cluster.container else _interpreter(link, cluster)


def _rsync(link: Connection) -> Iterator[Answer]:
    if shutil.which("rsync") is None:
        yield Answer("rsync", "bad", "not found on this machine", "install it")
        return
    output = link.run("rsync --version")
    version = re.search(r"version v?(\S+)", output.text)
    if output.code or not version:
        yield Answer("rsync", "bad", f"not found on {link.host}", "ask for it, or load it in a start-up file")
        return
    try:
        # By the way that files will take: what a start-up file prints breaks it.
        link.rsync(["--dry-run", "--dirs", ":/", "/tmp/"], ["."])
    except BadInput as error:
        yield Answer("rsync", "bad", error.problems[0])
        return
    yield Answer("rsync", "ok", version[1])


def _slurm(link: Connection) -> Iterator[Answer]:
    lines = [f"command -v {program} > /dev/null || echo {program}" for program in (*NEEDED, "sacct")]
    absent = link.run("\n".join([*lines, "true"]), login=True).text.split()
    if needed := [program for program in absent if program in NEEDED]:
        found = f"not found on {link.host}: {', '.join(needed)}"
        yield Answer("Slurm", "bad", found, "they have to be on the PATH of a login there; is it a login node?")
        return
    output = link.run("timeout 60 squeue --version && timeout 60 squeue --me --noheader", login=True)
    if output.code:
        yield Answer("Slurm", "bad", f"squeue: {_complaint(output)}")
        return
    yield Answer("Slurm", "ok", output.text.splitlines()[0].removeprefix("slurm "))
    if "sacct" in absent:
        yield Answer("sacct", "note", "not found", "the states of jobs are known for as long as squeue remembers them")


def _workdir(link: Connection, workdir: str) -> Iterator[Answer]:
    folder = shlex.quote(workdir)
    lines = [
        f"at={folder}",
        'until [[ -d $at ]]; do at=$(dirname -- "$at"); done',
        'probe=$(mktemp --tmpdir="$at" .hatrain.XXXXXX) && rm -- "$probe" || exit 1',
        'df --block-size=1 --output=avail -- "$at" | tail --lines=1',
        f"[[ -d {folder} ]] && echo there",
        "true",
    ]
    output = link.run("\n".join(lines))
    if output.code:
        yield Answer("workdir", "bad", f"{workdir}: {_complaint(output)}", "set ssh.workdir to a folder of your own")
        return
    free, *there = output.text.split()
    found = f"{workdir}: {int(free) / GIB:,.1f} GiB free{'' if there else '; the first submission makes it'}"
    if int(free) < FEW_BYTES:
        yield Answer("workdir", "note", found, "checkpoints of a small model need several")
    else:
        yield Answer("workdir", "ok", found)


def _secrets(link: Connection, cluster: SlurmCluster) -> Iterator[Answer]:
    for name, secret in cluster.secrets.items():
        if not isinstance(secret, FileSecret) or variables.names(secret.file):
            continue
        path = quoted_path(secret.file)
        output = link.run(f"[[ -r {path} ]] && stat --dereference --format=%a -- {path}")
        mode = output.text.strip()
        if output.code:
            yield Answer(name, "bad", f"{secret.file}: cannot be read on {link.host}", "write the value into that file")
        elif not mode.endswith("00"):
            yield Answer(name, "bad", f"{secret.file}: others can read it (mode {mode})", f"chmod 600 {secret.file}")
        else:
            yield Answer(name, "ok", secret.file)


def _container(link: Connection, cluster: SlurmCluster) -> Answer:
    container = cluster.container
    assert container is not None
    if not container.image.startswith("/"):
        return Answer("image", "note", f"{container.image} was not looked for", "the first job fetches it")
    if link.run(f"[[ -r {variables.quoted(container.image)} ]]").code:
        return Answer("image", "bad", f"{container.image}: cannot be read on {link.host}")
    return Answer("image", "ok", container.image)


def _interpreter(link: Connection, cluster: SlurmCluster) -> Answer:
    """Prepared as on a node. A login node may lack modules or variables of the nodes."""
    own = metadata.version("hatrain")
    python = variables.quoted(cluster.python or "python3")
    ask = "import importlib.metadata as m, sys; print(sys.version.split()[0], m.version('hatrain'))"
    lines = [f"cd -- {shlex.quote(_folder(cluster))} 2> /dev/null || true", *render.prepare(cluster)]
    output = link.run("\n".join([*lines, f"{python} -c {shlex.quote(ask)}"]), login=True)
    words = output.text.split()
    if output.code or len(words) < 2:
        return Answer(
            "hatrain",
            "bad",
            f"{cluster.python or 'python3'}: {_complaint(output)}",
            f"install hatrain {own} there, and name its environment in the cluster file (python, setup or modules)",
        )
    version, hatrain = words[-2:]
    if hatrain != own:
        return Answer("hatrain", "note", f"{hatrain} there, {own} here", "install the same, or submit with --snapshot")
    return Answer("hatrain", "ok", f"{hatrain}, Python {version}")


def _folder(cluster: SlurmCluster) -> str:
    assert cluster.ssh is not None
    return cluster.ssh.workdir


def _complaint(output: Output) -> str:
    lines = [line.strip() for line in output.errors.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {output.code}"
