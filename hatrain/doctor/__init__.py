"""Checks whether this machine can train: GPUs, shared memory, folders, clock, disk and the network to other nodes.

It reports what it finds and how to fix it, changes nothing, and never imports torch.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from hatrain.contract.checkpoint_size import next_checkpoint
from hatrain.contract.plan import Plan
from hatrain.contract.run import Exit, RunDirectory, combine, runs_root
from hatrain.doctor import gpus, machine
from hatrain.doctor.finding import Finding

RESOLVE_SECONDS = 90.0
"""How long the rendezvous host's name may take to resolve. A pod's name resolves some seconds after the pod starts; if
it was looked up too early, the cluster's DNS repeats the failure for 30 s, and a node's own cache for another 30 s."""

_COMPILER_CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR")


def preflight(
    plan: Plan, *, resolve_seconds: float = RESOLVE_SECONDS, exports: bool = True
) -> tuple[Exit | None, dict[str, str]]:
    """Check what a run needs before its first step. `exports`: this node is the one that exports, if the job does.

    Returns (None, {}) if it can start, else the exit code to leave with and the reason for each failed check. Call it
    after the attempt is recorded: exit code 75 is bounded only by the retries of recorded attempts.
    """
    facts = gpus.ask_driver() if plan.device == "cuda" else None
    findings = needed_by(plan, facts, resolve_seconds=resolve_seconds, exports=exports)
    bad = [finding for finding in findings if finding.state == "bad"]
    if not bad:
        return None, {}
    code = combine(finding.code or Exit.FATAL for finding in bad)
    return code, {finding.check: finding.line() for finding in bad}


def needed_by(
    plan: Plan, facts: gpus.Facts | None, *, resolve_seconds: float = RESOLVE_SECONDS, exports: bool = True
) -> Iterator[Finding]:
    """Check what a run needs before its first step. `facts` are what the driver reports, for a run on GPUs."""
    run, only_machine = Path(plan.paths.run), plan.cluster_spec.single_machine
    if plan.device == "cuda" and facts is not None:
        cuda = gpus.torch_cuda()
        yield from gpus.driver_findings(facts, cuda, plan.processes_per_node, only_machine=only_machine)
        yield machine.shared_memory(plan.processes_per_node)
    yield machine.writable("run directory", run, only_machine=only_machine)
    yield machine.writable("temporary files", machine.temporary(), only_machine=only_machine)
    yield machine.disk("disk of the run", run, next_checkpoint(RunDirectory(run), plan))
    if plan.job.export and exports:
        yield machine.export_tools(wanted=True)
    if plan.nodes > 1:
        yield machine.rendezvous(os.environ.get("MASTER_ADDR"), None, resolve_seconds)


def examine(plan: Plan | None = None, rendezvous: tuple[str, int | None] | None = None) -> Iterator[Finding]:
    """Run every check on this machine, for a run if there is a plan; this takes some seconds.

    `rendezvous` is a host and port; by default $MASTER_ADDR and $MASTER_PORT, if set.
    """
    only_machine = plan is None or plan.cluster_spec.single_machine
    ranks = plan.processes_per_node if plan and plan.device == "cuda" else 0
    run = Path(plan.paths.run) if plan else runs_root()
    yield _process()
    facts = gpus.ask_driver()
    yield from gpus.driver_findings(facts, gpus.torch_cuda(), ranks, only_machine=only_machine)
    yield from gpus.torch_findings(facts, gpus.ask_torch(), only_machine=only_machine)
    yield machine.shared_memory(ranks or len(facts.gpus))
    yield machine.writable("run directory" if plan else "runs", run, only_machine=only_machine)
    yield machine.hub_cache()
    yield machine.writable("temporary files", machine.temporary(), only_machine=only_machine)
    for variable in _COMPILER_CACHES:
        if folder := os.environ.get(variable):
            finding = machine.writable(variable, Path(folder), only_machine=only_machine)
            yield finding if facts.gpus else _not_needed(finding)
    yield machine.disk(f"disk of the {'run' if plan else 'runs'}", run, next_checkpoint(RunDirectory(run), plan))
    yield machine.disk("disk of temporary files", machine.temporary(), 0)
    yield machine.clock(run)
    yield machine.export_tools(wanted=bool(plan and plan.job.export))
    host, port = rendezvous or (os.environ.get("MASTER_ADDR"), _port(os.environ.get("MASTER_PORT")))
    if host or (plan and plan.nodes > 1):
        yield machine.rendezvous(host, port, machine.CONNECT_SECONDS)
    else:
        yield Finding("rendezvous", "ok", "not needed on one node: MASTER_ADDR is not set")


def _not_needed(finding: Finding) -> Finding:
    if finding.state != "bad":
        return finding
    return Finding(finding.check, "note", finding.found, "not needed: without a GPU nothing is compiled")


def _process() -> Finding:
    home = os.environ.get("HOME") or "/"
    python = f"Python {sys.version.split()[0]} in {sys.prefix}"
    return Finding("process", "ok", f"uid {os.getuid()}, gid {os.getgid()}, home {home}, {python}")


def _port(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
