"""Whether this machine can train: GPUs, shared memory, folders, clock, disk and the way to the other nodes. It looks,
says what it found and what to do about it, and mends nothing. Never imports torch."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from hatrain.contract.plan import Plan
from hatrain.contract.run import Exit, combine, runs_root
from hatrain.doctor import gpus, surroundings
from hatrain.doctor.finding import Finding

RESOLVE_SECONDS = 90.0
"""How long a name of the rendezvous host may take to be known: a pod's is, some seconds after the pod is, and where it
was asked for too early, a cluster's DNS says so for 30 s more, and a node's own cache for as long again."""

_COMPILED = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR")


def quick(plan: Plan, *, patience: float = RESOLVE_SECONDS) -> tuple[Exit | None, dict[str, str]]:
    """Return how a run has to leave that would begin on this machine, and why; (None, {}) when it can begin.

    A plan for processors passes where its folders can be written to. `patience` is how many seconds the name of the
    rendezvous host may take. To be asked once the attempt is on record: 75 is bounded by the retries alone.
    """
    bad = [finding for finding in _before_training(plan, patience) if finding.state == "bad"]
    if not bad:
        return None, {}
    return combine(finding.code or Exit.FATAL for finding in bad), {item.check: item.line() for item in bad}


def _before_training(plan: Plan, patience: float) -> Iterator[Finding]:
    run, local = Path(plan.paths.run), plan.launcher == "local"
    if plan.device == "cuda":
        facts = gpus.probe()
        yield from gpus.findings(facts, gpus.torch_cuda(), plan.processes_per_node, local=local)
        yield surroundings.shared_memory(plan.processes_per_node)
    yield surroundings.writable("run directory", run, local=local)
    yield surroundings.writable("temporary files", surroundings.temporary(), local=local)
    yield surroundings.disk("disk of the run", run, surroundings.checkpoint_bytes(run))
    if plan.nodes > 1:
        yield surroundings.rendezvous(os.environ.get("MASTER_ADDR"), None, patience)


def examine(plan: Plan | None = None, meeting: tuple[str, int | None] | None = None) -> Iterator[Finding]:
    """Yield all there is to say about this machine, for a run if there is a plan; it takes some seconds.

    `meeting` is the host and port of the rendezvous; left out, it is $MASTER_ADDR and $MASTER_PORT, if set.
    """
    local = plan is None or plan.launcher == "local"
    needed = plan.processes_per_node if plan and plan.device == "cuda" else 0
    run = Path(plan.paths.run) if plan else runs_root()
    yield _whoami()
    facts = gpus.probe()
    yield from gpus.findings(facts, gpus.torch_cuda(), needed, local=local)
    yield from gpus.torch_findings(facts, gpus.ask_torch(), local=local)
    yield surroundings.shared_memory(needed or len(facts.gpus))
    yield surroundings.writable("run directory" if plan else "runs", run, local=local)
    yield surroundings.hub_cache(local)
    yield surroundings.writable("temporary files", surroundings.temporary(), local=local)
    for variable in _COMPILED:
        if folder := os.environ.get(variable):
            yield _only_with_gpus(facts, surroundings.writable(variable, Path(folder), local=local))
    yield surroundings.disk(
        f"disk of the {'run' if plan else 'runs'}", run, surroundings.checkpoint_bytes(run)
    )
    yield surroundings.disk("disk of temporary files", surroundings.temporary(), 0)
    yield surroundings.clock(run)
    host, port = meeting or (os.environ.get("MASTER_ADDR"), _number(os.environ.get("MASTER_PORT")))
    if host or (plan and plan.nodes > 1):
        yield surroundings.rendezvous(host, port, surroundings.CONNECT_SECONDS)
    else:
        yield Finding("rendezvous", "ok", "none: no MASTER_ADDR, so a run on one node, which meets itself")


def _only_with_gpus(facts: gpus.Facts, finding: Finding) -> Finding:
    if finding.state == "bad" and not facts.gpus:
        return Finding(finding.check, "note", finding.found, "nothing is compiled here without a GPU")
    return finding


def _whoami() -> Finding:
    home = Path(os.environ.get("HOME") or "/")
    return Finding(
        "process",
        "ok",
        f"uid {os.getuid()}, gid {os.getgid()}, home {home}, Python {sys.version.split()[0]} in {sys.prefix}",
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
